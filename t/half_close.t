#!/usr/bin/perl

# An end of file of one side is passed on behind all bytes before it, and the other direction goes
# on until its own end of file. Over TLS, close_notify is the end of file.

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

$t->plan(56)->write_file_expand('nginx.conf', with_tls($t, <<'EOF'));

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

    log_format  ends  "$status $bytes_sent $request_completion";

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

my ($client, $upstream, $header);

###############################################################################

SKIP: for my $way ([ 'plain' ], [ 'TLS', port => port(8443), tls => plain_tls() ]) {
	my ($name, %options) = @$way;
	skip NO_TLS, 26 if $options{tls} && !has_tls($t);

	# The client has said all it has to say.
	log_mark($t, 'ends.log');
	($client, $upstream, $header) = pair($listener, %options);
	$client->send('question');
	finish($client);
	is($upstream->read_to_end(), 'question', "$name: client ends, what it said");
	is($upstream->ending(), 'eof', "$name: client ends, the upstream hears of it");
	cmp_ok(busy_share($worker, 0.3), '<', 0.5, "$name: client ends, nginx only waits");

	$upstream->send('answer');
	is($client->read_bytes(6), 'answer', "$name: client ends, the upstream answers");
	same((cross($client, $upstream, '', noise(4 * MB)))[1], noise(4 * MB), "$name: client ends, much of an answer");

	$upstream->half_close();
	is($client->ending(), 'eof', "$name: client ends, the upstream ends too");
	is($options{tls} ? got_close_notify($client) : 1, 1, "$name: it ends properly");
	# What frames add, the tests of HTTP/2 ask.
	my $bytes_sent = OVER_HTTP2 ? qr/\d+/ : length($header) + 6 + 4 * MB;
	ok(wait_for_line($t, qr/^200 $bytes_sent OK$/, 'ends.log'), "$name: the access log");

	# The upstream has.
	($client, $upstream) = pair($listener, %options);
	$upstream->send('goodbye');
	$upstream->half_close();
	is($client->read_to_end(), 'goodbye', "$name: upstream ends, what it said");
	is($client->ending(), 'eof', "$name: upstream ends, the client hears of it");
	is($options{tls} ? got_close_notify($client) : 1, 1,
		"$name: upstream ends, the client hears of it properly");
	cmp_ok(busy_share($worker, 0.3), '<', 0.5, "$name: upstream ends, nginx only waits");

	$client->send('not yet');
	is($upstream->read_bytes(7), 'not yet', "$name: upstream ends, the client does not");
	# It is read meanwhile: how much the system holds depends on how busy it is.
	same((cross($client, $upstream, noise(4 * MB), ''))[0], noise(4 * MB), "$name: upstream ends, the client sends much");
	finish($client);
	is($upstream->read_to_end(), '', "$name: upstream ends, then the client");
	is($upstream->ending(), 'eof', "$name: upstream ends, then the client properly");
	is(settled_fds($worker, $before), $before, "$name: both ended, nothing is left open");

	# Before the answer is there.
	is_deeply([ grep { !eval { survives_early_end($listener, $_, 0, %options) } }
		0, 1, 100, 20000, MB ], [], "$name: an end right behind early bytes");
	is_deeply([ grep { !eval { survives_early_end($listener, $_, 1, %options) } }
		0, 1, 100, 20000 ], [], "$name: an end together with early bytes");

	# Behind bytes that nobody reads yet.
	for my $slow (qw/ client upstream /) {
		my %end;
		@end{qw/ client upstream /} = pair($listener, %options);
		my ($reader, $writer) = @end{$slow, $slow eq 'client' ? 'upstream' : 'client'};

		$reader->shrink_buffers(65536);
		my $sent = fill($writer, noise(128 * MB));
		my $bytes = noise($sent);

		# A record that is half-sent must be finished first.
		$sent += rest_of_record($reader, $writer, \$bytes) if $writer->handle()->can('get_cipher');
		finish($writer);

		same($reader->read_to_end(), $bytes, "$name: all before the end of the $slow\'s peer");
		is($reader->ending(), 'eof', "$name: the end of the $slow\'s peer");
		$reader->send('late');
		is($writer->read_bytes(4), 'late', "$name: the $slow after the end of its peer");
	}

	# Both at the same time.
	is_deeply([ grep { !eval { both_end($listener, $_, %options) } } 1 .. ROUNDS ], [],
		"$name: both end at once");

	$_->close() for $client, $upstream;
}

# Without close_notify a client's end of file is still one.
SKIP: {
	skip NO_TLS, 3 unless has_tls($t);

	($client, $upstream) = pair($listener, port => port(8443), tls => plain_tls());
	$client->send('cut off');
	$client->half_close();
	is($upstream->read_to_end(), 'cut off', 'TLS without close_notify: what was said');
	is($upstream->ending(), 'eof', 'TLS without close_notify: the end');
	$upstream->send('heard');
	is($client->read_bytes(5), 'heard', 'TLS without close_notify: the answer');
	$_->close() for $client, $upstream;
}

is(settled_fds($worker, $before), $before, 'nothing is left open');

###############################################################################

# Says that no more will come.
sub finish {
	my ($end) = @_;
	$end->handle()->can('get_cipher') ? send_close_notify($end) : $end->half_close();
}

# With nginx at rest meanwhile, it finds all at once when it wakes up.
sub survives_early_end {
	my ($listener, $size, $rests, %options) = @_;
	my $early = noise($size);
	my $client = client(%options);

	# What ends without a byte behind the header could be a client that is gone.
	kill 'STOP', $worker if $rests;
	$client->send(connect_request('127.0.0.1:' . port(8081)) . "#$early");
	finish($client);
	kill 'CONT', $worker if $rests;

	my $upstream = accept_end($listener);
	return 0 unless $upstream->read_to_end() eq "#$early" && $upstream->ending() eq 'eof';

	$upstream->send('answer');
	$upstream->close();
	return $client->read_header() =~ / 200 / && $client->read_to_end() eq 'answer'
		&& $client->ending() eq 'eof';
}

sub both_end {
	my ($listener, $round, %options) = @_;
	my ($client, $upstream) = pair($listener, %options);
	my ($up, $down) = (noise(10 * $round), noise(20 * $round));

	$client->send($up);
	$upstream->send($down);
	finish($_) for $round % 2 ? ($client, $upstream) : ($upstream, $client);

	return $upstream->read_to_end() eq $up && $client->read_to_end() eq $down
		&& $upstream->ending() eq 'eof' && $client->ending() eq 'eof';
}

# OpenSSL has sent a part of a record whose bytes do not count as sent yet: has the peer read
# until the rest is out. Returns how many bytes that were.
sub rest_of_record {
	my ($reader, $writer, $bytes) = @_;
	my $rest = substr noise(length($$bytes) + 16384), length $$bytes;
	my ($sent, $deadline) = (0, time() + 10);

	until ($sent || time() > $deadline) {
		$reader->more($deadline);
		$sent = $writer->handle()->syswrite($rest) || 0;
	}

	$$bytes .= substr $rest, 0, $sent;
	return $sent;
}

###############################################################################
