#!/usr/bin/perl

# A reset of one side is passed on as a reset, not as an end of file that would look like a proper
# one; what was said before it still arrives. And an upstream that resets while the tunnel is about
# to stand.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Kernel;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant MB => 2 ** 20;

# How often both ends do something at once. Over HTTP/2 each has a process that stands before nginx.
use constant ROUNDS => OVER_HTTP2 ? 20 : 100;

my $t = Test::Nginx->new()->has(qw/http/);

$t->plan(73)->write_file_expand('nginx.conf', with_tls($t, <<'EOF'));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
    worker_connections  1024;
}

http {
    %%TEST_GLOBALS_HTTP%%

    # Every byte moved would be a line.
    error_log  %%TESTDIR%%/error.log info;

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    log_format  ends  "$status $request_completion";

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        server_name  localhost;

        access_log  %%TESTDIR%%/ends.log ends;

        proxy_connect;
        proxy_connect_allow  all;
    }
}

EOF

certificate($t, 'localhost');
$t->run();

my $worker = lone_worker($t);
my $listener = listener(port(8081));
my $before = steady_fds($worker);

my ($client, $upstream, %end);

###############################################################################
# In the tunnel

SKIP: for my $way ([ 'plain' ], [ 'TLS', port => port(8443), tls => plain_tls() ]) {
	my ($name, %options) = @$way;
	skip NO_TLS, 33 if $options{tls} && !has_tls($t);

	for my $side (qw/ client upstream /) {
		my $case = "$name: the $side resets";

		# With nothing said, and no tunnel of before left to write its line.
		settled_fds($worker, $before);
		log_mark($t, 'ends.log');
		@end{qw/ client upstream /} = pair($listener, %options);
		my ($other) = grep { $_ ne $side } keys %end;

		$end{$side}->reset();
		is($end{$other}->read_to_end(), '', "$case: nothing comes");
		is($end{$other}->ending(), 'reset', "$case: the $other gets a reset");
		is_logged($t, qr/^200 $/, "$case: the access log");

		# Behind bytes.
		@end{qw/ client upstream /} = pair($listener, %options);
		$end{$side}->send(noise(1000));
		$end{$side}->reset();
		same($end{$other}->read_to_end(), noise(1000), "$case: what it said before");
		is($end{$other}->ending(), 'reset', "$case: and then the reset");

		# Behind bytes that the system still holds for the other.
		@end{qw/ client upstream /} = pair($listener, %options);
		send_to_late_reader(@end{$side, $other}, noise(MB));
		$end{$side}->reset();
		same($end{$other}->read_to_end(), noise(MB), "$case, the other reading late: what it said");
		is($end{$other}->ending(), 'reset', "$case, the other reading late: and then the reset");

		# The same, of a side that is at its end, and resets because the other speaks.
		@end{qw/ client upstream /} = pair($listener, %options);
		send_to_late_reader(@end{$side, $other}, noise(MB));
		close_and_be_spoken_to($end{$side}, $end{$other});
		same($end{$other}->read_to_end(), noise(MB), "$case, having closed: what it said");

		# With bytes of the other side on their way.
		@end{qw/ client upstream /} = pair($listener, %options);
		fill($end{$other}, noise(8 * MB));
		$end{$side}->reset();
		is($end{$other}->read_to_end(), '', "$case, not having read: nothing comes");
		is($end{$other}->ending(), 'reset', "$case, not having read: the reset");

		# After the other side's end of file.
		@end{qw/ client upstream /} = pair($listener, %options);
		finish($end{$other});
		is($end{$side}->read_to_end(), '', "$case after an end of file: the end");
		$end{$side}->send(noise(1000));
		$end{$side}->reset();
		same($end{$other}->read_to_end(), noise(1000), "$case after an end of file: the bytes");
		is($end{$other}->ending(), 'reset', "$case after an end of file: the reset");

		# After its own.
		@end{qw/ client upstream /} = pair($listener, %options);
		finish($end{$side});
		is($end{$other}->read_to_end(), '', "$case after its own end of file: the end");
		$end{$side}->reset();
		ok(dies_when_it_speaks($end{$other}), "$case after its own end of file: the $other is closed");
	}

	# Both at the same time: nobody is left to be told.
	is_deeply([ grep { !eval { both_go($listener, $_, 'reset', %options) } } 1 .. ROUNDS ], [],
		"$name: both reset at once");
	is_deeply([ grep { !eval { both_go($listener, $_, 'close', %options) } } 1 .. ROUNDS ], [],
		"$name: both close at once");

	is(settled_fds($worker, $before), $before, "$name: nothing is left open");
}

###############################################################################
# Before, at and after the answer

# Before: the connection stands and is reset while nginx does not look.
log_mark($t, 'ends.log');
my $queue = full_backlog(port(8082));
$client = knock($listener, authority => '127.0.0.1:' . port(8082));
wait_until('nginx did not try to connect', sub { connections(undef, port(8082)) > @$queue - 1 });

kill 'STOP', $worker;
$upstream = accept_from($queue);
$upstream->reset();
kill 'CONT', $worker;

is(status_of($client->read_to_end()), 502, 'a reset before the answer');
like(wait_for_line($t, qr/proxy_connect: upstream connect failed/, THROUGH ? 'parent-error.log' : 'error.log'),
	qr/\(peer:127\.0\.0\.1:${\ port(8082)}\) \(104: [^)]+\) while connecting to upstream, client: /,
	'a reset before the answer: the log');
is_logged($t, qr/^502 OK$/, 'a reset before the answer: the access log');
undef $queue;

# At: whatever comes first, the tunnel does not look like one that was fine.
my $resetter = upstream($t, reset_at_once(), port(8083));
my %seen;
for (1 .. 2 * ROUNDS) {
	my $client = client();
	$client->send(connect_request($resetter));
	my $answer = $client->read_to_end();
	$seen{status_of($answer) . ' ' . $client->ending()}++;
}

is(($seen{'200 reset'} // 0) + ($seen{'502 eof'} // 0) + ($seen{' reset'} // 0), 2 * ROUNDS,
	'a reset at the answer') or diag(explain(\%seen));

# After.
my $talker = upstream($t, reset_after(2, 'bye'), port(8084));
$client = tunnel($talker);
$client->send('hi');
is($client->read_to_end(), 'bye', 'a reset after the answer: what was said');
is($client->ending(), 'reset', 'a reset after the answer');

$_->close() for $client, $upstream, values %end;

is(settled_fds($worker, $before), $before, 'nothing is left open');

###############################################################################

# Says that no more will come.
sub finish {
	my ($end) = @_;
	$end->handle()->can('get_cipher') ? send_close_notify($end) : $end->half_close();
}

# Sends what nginx takes, and who it is for does not read yet.
sub send_to_late_reader {
	my ($end, $other, $bytes) = @_;

	$other->shrink_buffers(65536);
	$end->send($bytes);
	wait_until('what was sent was not taken', sub { !unacknowledged($end) });
}

# Closes one end, and lets the other speak: its first bytes bring a reset, which the next ones meet.
sub close_and_be_spoken_to {
	my ($end, $other) = @_;
	my ($port, $peer_port) = map { /(\d+)$/ } $end->local(), $end->peer();

	$end->close();
	$other->send('anybody?');
	wait_until('nobody was reset', sub { !connections($peer_port, $port) });
	$other->send('anybody?');
}

# The connection is no longer there, which who speaks gets to know.
sub dies_when_it_speaks {
	my ($end) = @_;
	my $deadline = time() + 10;

	while (time() < $deadline) {
		eval { $end->send('anybody?'); 1 } or return 1;
		select undef, undef, undef, 0.01;
	}

	return 0;
}

sub both_go {
	my ($listener, $round, $how, %options) = @_;
	my ($client, $upstream) = pair($listener, %options);

	$client->send(noise($round));
	$upstream->send(noise($round));
	$_->$how() for $round % 2 ? ($client, $upstream) : ($upstream, $client);
	return 1;
}

# The connection that was waiting behind those that fill the queue.
sub accept_from {
	my ($sockets) = @_;
	my ($listener, @fillers) = @$sockets;
	my %filler = map { $_->sockport() => 1 } @fillers;

	while (1) {
		my $end = accept_end($listener);
		return $end unless $filler{($end->peer() =~ /(\d+)$/)[0]};
	}
}

###############################################################################
