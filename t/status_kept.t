#!/usr/bin/perl

# What was counted stays over a reload, a binary upgrade and killed workers; what stands is right after each of them.
# Opened and closed as fast as they go, while workers are killed and nginx reloads, tunnels are counted as the client
# counts them.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Status;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant WORKERS => 4;

# Tunnels of the churn.
use constant CHURN => SHARE > 0.3 ? 3000 : 600;

plan(skip_all => 'an upgrade passes the memory on with memfd_create(2)') if $^O ne 'linux';

my $t = Test::Nginx->new()->has(qw/http/)->todo_alerts();

my $reuseport = $t->has_version('1.9.1') ? ' reuseport' : '';

$t->plan(26)->write_file_expand('nginx.conf', quietly($t, <<'EOF' =~ s/%%REUSEPORT%%/$reuseport/r, 'info'));

%%TEST_GLOBALS%%

worker_processes 4;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    access_log  off;

    server {
        # Each worker has a queue of its own, so that none gets all.
        listen       127.0.0.1:8080%%REUSEPORT%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow        all;
        proxy_connect_status_zone  main:1m;
        proxy_connect_response     "HTTP/1.1 200 OK\r\nX-Worker: $pid\r\n\r\n";

        location = /status  { proxy_connect_status; }
        location /tunnels   { proxy_connect_tunnels control=on; }
    }
}

EOF

$t->run();
wait_until('nginx.pid stayed empty', sub { -s $t->testdir() . '/nginx.pid' });
wait_for_workers($t, WORKERS);

my $listener = listener(port(8090));
my $pid_file = $t->testdir() . '/nginx.pid';

sub established {
	my ($counts) = @_;
	return $counts->{connects}{'1.1'}{established} // 0;
}

sub closed {
	my ($counts) = @_;
	my $sum = 0;
	$sum += $_ for values %{$counts->{closed}};
	return $sum;
}

###############################################################################
# A reload

my ($client, $upstream) = pair($listener);
$client->send('before');
is($upstream->read_bytes(6), 'before', 'a tunnel');
wait_for_count('main', sub { $_[0]{bytes}{upload} == 6 });

renew($t);

my $kept = counts('main');
is(established($kept), 1, 'a reload keeps what was counted');
is($kept->{active}, 1, 'the tunnel of the old worker stands');
is(tunnels()->{tunnels}[0]{client}, $client->local(), 'and is listed');

$client->send('after');
is($upstream->read_bytes(5), 'after', 'it moves bytes');
is(wait_for_count('main', sub { $_[0]{bytes}{upload} == 11 })->{bytes}{upload}, 11, 'which are counted');

# A worker that shuts down still closes what an operator wants closed.
my $id = tunnels()->{tunnels}[0]{id};
SKIP: {
	skip('a timer would keep an old worker from its end', 2) unless $t->has_version('1.11.11');
	is(status_of(ask("/tunnels/$id/close", method => 'POST')), 200, 'it is asked to be closed');
	is($client->read_to_end(), '', 'and is');
}
$_->close() for $client, $upstream;
is(wait_for_count('main', sub { $_[0]{active} == 0 })->{active}, 0, 'nothing stands');

###############################################################################
# A killed worker

my @pairs = map { [ pair($listener) ] } 1 .. 20;
my ($victim) = header_of($pairs[0][2], 'X-Worker');
my $lost = grep { header_of($_->[2], 'X-Worker') eq $victim } @pairs;

kill 'KILL', $victim;
wait_for_line($t, qr/\Q$victim\E exited on signal 9/);

my $after = counts('main');
is($after->{active}, 20 - $lost, 'tunnels of a killed worker do not stand');
is($after->{closed}{worker_lost}, $lost, 'and are counted as lost');
is(tunnels()->{total}, 20 - $lost, 'nor are they listed');
is(scalar(grep { $_->{pid} == $victim } @{$after->{workers}}), 0, 'nor is it');
is(established($after), 21, 'what it counted stays');

$_->close() for map { @$_[0, 1] } @pairs;
wait_for_count('main', sub { $_[0]{active} == 0 });

###############################################################################
# A configuration that comes to nothing, and a worker that begins after it

my $conf = $t->read_file('nginx.conf');
$t->write_file('nginx.conf', "$conf\nnonsense;\n");
kill 'HUP', master_pid($t);
wait_for_line($t, qr/unknown directive "nonsense"/);
$t->write_file('nginx.conf', $conf);

for my $pid (worker_pids($t)) {
	kill 'KILL', $pid;
	wait_for_line($t, qr/\Q$pid\E exited on signal 9/);
}

wait_for_workers($t, WORKERS);
is_deeply([ map { established(counts('main')) } 1 .. 20 ], [ (21) x 20 ], 'a wrong configuration changes nothing');
is(tunnels()->{control} ? 1 : 0, 1, 'nor what an operator may');

###############################################################################
# A binary upgrade

my $old = master_pid($t);
($client, $upstream) = pair($listener);

kill 'USR2', $old;
wait_until('There is no new nginx', sub { -e "$pid_file.oldbin" && -s $pid_file });
wait_for_workers($t, WORKERS);
kill 'WINCH', $old;

my $upgraded = counts('main');
is(established($upgraded), 22, 'an upgrade keeps what was counted');
is($upgraded->{active}, 1, 'the tunnel of the old nginx stands');

my ($new, $end) = pair($listener);
is(wait_for_count('main', sub { $_[0]{active} == 2 })->{active}, 2, 'beside a new one');
$_->close() for $client, $upstream;
is(wait_for_count('main', sub { $_[0]{active} == 1 })->{active}, 1, 'whose end is counted');
$_->close() for $new, $end;

kill 'QUIT', $old;
wait_until('The old nginx did not exit', sub { !-e "$pid_file.oldbin" });
is(established(wait_for_count('main', sub { $_[0]{active} == 0 })), 23, 'and all of it stays when that is gone');

###############################################################################
# Churn

my $before = counts('main');
my $opened = 0;

for my $number (1 .. CHURN) {
	my $client = client();
	$client->send(connect_request('127.0.0.1:' . port(8090)));
	my $upstream = eval { accept_end($listener, 5) };
	my $header = eval { $client->read_header() };

	# A worker that is killed takes with it what came to it.
	$opened++ if status_of($header) eq 200;
	$_->close() for grep { $_ } $client, $upstream;

	next if $number % int(CHURN / 6);

	if ($number % int(CHURN / 3)) {
		$t->reload();
	} else {
		kill 'KILL', (worker_pids($t))[0];
		wait_for_workers($t, WORKERS);
	}
}

my $end_of = wait_for_count('main', sub { $_[0]{active} == 0 });
my $counted = established($end_of) - established($before);
is($counted, $opened, 'as many were established as the client saw');
is(closed($end_of) - closed($before), $counted, 'and as many are over');
is(tunnels()->{total}, 0, 'none is listed');
is($end_of->{unlisted}, 0, 'and all had a place');

is_deeply([ grep { !/exited on signal 9|unknown directive "nonsense"/ } log_lines($t, qr/\[(alert|emerg|crit)\]/) ], [], 'nothing else is wrong');
