#!/usr/bin/perl

# Tunnels of clients that speak TLS to nginx: records have other sizes than buffers have, OpenSSL
# holds bytes that no event announces, and writes of it can stop half-way.

use warnings;
use strict;

use Test::More;
use Time::HiRes qw/ time /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Kernel;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant MB => 2 ** 20;

# The most that one record of TLS holds.
use constant RECORD => 16384;

my $t = Test::Nginx->new()->has(qw/http http_ssl socket_ssl/);

$t->plan(43)->write_file_expand('nginx.conf', <<'EOF');

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
    ssl_session_cache    shared:SSL:1m;

    resolver          127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    log_format  tls  "$ssl_protocol $ssl_session_reused $request_uri $status";
    access_log  %%TESTDIR%%/tls.log tls;

    server {
        listen       127.0.0.1:8443 ssl;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        location / {
            return 200 "here";
        }
    }

    server {
        listen       127.0.0.1:8444 ssl;
        server_name  localhost;

        # Records that fit into nothing.
        ssl_buffer_size            1000;
        client_header_buffer_size  128;

        proxy_connect;
        proxy_connect_allow  all;
    }
}

EOF

certificate($t, 'localhost');
name_server($t, 8980, 'slow.example' => { addrs => '127.0.0.1', delay => 0.3 });
$t->run_daemon(\&slicer, listener(port(8085)), port(8443));
$t->run();

my $worker = lone_worker($t);
my $listener = listener(port(8081));
my %tls = (port => port(8443), tls => plain_tls());

my ($client, $upstream, $header, @got);

# nginx keeps its socket to the name server.
my $slow = 'slow.example:' . port(8081);
($client, $upstream) = pair($listener, %tls, authority => $slow);
my $before = fds($worker) - 2;
$_->close() for $client, $upstream;

###############################################################################
# Both versions

my %much = (TLSv1_2 => 16 * MB, TLSv1_3 => 64 * MB);

for my $version (sort keys %much) {
	SKIP: {
		my $options = { SSL_version => $version };
		($client, $upstream, $header)
			= eval { pair($listener, %tls, tls => $options) };
		skip "no $version", 8 if ($@ // '') =~ /^No TLS/;

		like($header, qr/^HTTP.1\.1 200 /, "$version: the answer");
		ok($client->is_quiet(0.1), "$version: nothing behind it");

		my $octets = join '', map { chr } 0 .. 255;
		is_deeply([ cross($client, $upstream, $octets, scalar reverse $octets) ],
			[ $octets, scalar reverse $octets ], "$version: all 256 values");

		my @sizes = map { ($_ - 1, $_, $_ + 1) } 1024, RECORD, 2 * RECORD, MB;
		is_deeply([ grep { !crosses_whole($client, $upstream, $_) } @sizes ], [],
			"$version: sizes around those of buffers");

		my $bytes = noise($much{$version});
		@got = cross($client, $upstream, $bytes, $bytes, 60);
		same($got[0], $bytes, "$version: many MiB up at once");
		same($got[1], $bytes, "$version: many MiB down at once");

		cmp_ok(ping_pong($client, $upstream, 32 * 1024, 100), '<', 3 * SLOWNESS,
			"$version: 32 KiB there and back, 100 times");
		cmp_ok(ping_pong($client, $upstream, 1, 1000), '<', 3 * SLOWNESS,
			"$version: one byte, 1000 times");

		$_->close() for $client, $upstream;
	}
}

sub crosses_whole {
	my ($client, $upstream, $size) = @_;
	return !grep { $_ ne noise($size) }
		cross($client, $upstream, noise($size), noise($size));
}

sub ping_pong {
	my ($client, $upstream, $size, $times) = @_;
	my ($begin, $bytes) = (time(), noise($size));

	for (1 .. $times) {
		$client->send($bytes);
		$upstream->read_bytes($size);
		$upstream->send($bytes);
		$client->read_bytes($size);
	}

	return time() - $begin;
}

###############################################################################
# Early bytes: in the same record as the header, where nginx reads a part of it only and no event
# tells of the rest; and in the records behind

my $room = RECORD - length connect_request('127.0.0.1:' . port(8081));

is_deeply([ grep { !early_arrives($listener, $_, %tls) }
	1, 10, 800 .. 1100, 10000, $room - 1 ], [], 'early bytes in the same record');
is_deeply([ grep { !early_arrives($listener, $_, %tls) }
	$room, $room + 1, 2 * RECORD, 50000 ], [], 'early bytes in the next records');
is_deeply([ grep { !early_arrives($listener, $_, %tls, port => port(8444)) }
	1, 128, 1000, $room - 1, 50000 ], [], 'early bytes, small buffers');

sub early_arrives {
	my ($listener, $size, %options) = @_;
	my ($client, $upstream) = pair($listener, %options, early => noise($size));
	my $arrives = $upstream->read_bytes($size) eq noise($size);
	return $arrives && crosses_whole($client, $upstream, 10);
}

($client, $upstream) = pair($listener, %tls, early => noise(MB));
same($upstream->read_bytes(MB), noise(MB), '1 MiB of early bytes');

# While the way to the upstream takes its time, nothing of it may get lost, nor keep nginx busy.
$client = knock($listener, %tls, authority => $slow, early => noise($room - 1));
cmp_ok(busy_share($worker, 0.2), '<', 0.5, 'early bytes do not keep nginx busy');
$client->send('later');
$upstream = accept_end($listener);
same($upstream->read_bytes($room - 1), noise($room - 1),
	'early bytes of a tunnel that is slow to stand');
is($upstream->read_bytes(5), 'later', 'and later ones');
like($client->read_header(), qr/ 200 /, 'the answer');

###############################################################################
# Other requests before

$client = client(%tls);
$client->send("GET / HTTP/1.1\x0d\x0aHost: localhost\x0d\x0a\x0d\x0a");
like($client->read_header(), qr/ 200 /, 'a request before the CONNECT');
is($client->read_bytes(4), 'here', 'its body');
$client->send(connect_request('127.0.0.1:' . port(8081)) . 'early');
$upstream = accept_end($listener);
is($upstream->read_bytes(5), 'early', 'early bytes after another request');
like($client->read_header(), qr/ 200 /, 'the answer after another request');
ok(crosses_whole($client, $upstream, 100), 'a tunnel after another request');

###############################################################################
# A client that comes again

SKIP: {
	skip 'no sessions of OpenSSL here', 3 unless $t->has_feature('socket_ssl_reused');

	my $context = IO::Socket::SSL::SSL_Context->new(
		SSL_verify_mode => 0, SSL_session_cache_size => 10,
		SSL_version => 'TLSv1_2');
	log_mark($t, 'tls.log');

	for my $time ('first', 'second') {
		($client, $upstream) = pair($listener, %tls, early => $time,
			tls => { SSL_reuse_ctx => $context, SSL_session_key => 'here' });
		is($upstream->read_bytes(length $time), $time, "a session the $time time");
		$_->close() for $client, $upstream;
	}

	my @lines = wait_for_lines($t, 2, qr/^TLSv1\.2 [r.] /, 'tls.log');
	local $TODO = 'sessions are not resumed' unless $t->has_version('1.23.2');
	like($lines[1], qr/ r /, 'it was the same session');
}

###############################################################################
# Records cut into single bytes

($client, $upstream) = pair($listener, %tls, port => port(8085), early => 'early');
is($upstream->read_bytes(5), 'early', 'early bytes, byte by byte');
ok(crosses_whole($client, $upstream, 5000), 'both ways, byte by byte');

# Forwards what comes from a client in single bytes.
sub slicer {
	my ($listener, $port) = @_;
	my $client = accept_end($listener, 60 * SLOWNESS);
	my $server = client(port => $port);

	while (1) {
		my $bits = '';
		vec($bits, fileno $_->handle(), 1) = 1 for $client, $server;
		select $bits, undef, undef, undef;

		if (vec $bits, fileno $client->handle(), 1) {
			$server->send_in_pieces($client->read_some() // return, 1, 0);
		}

		if (vec $bits, fileno $server->handle(), 1) {
			$client->send($server->read_some() // return);
		}
	}
}

###############################################################################
# Readers that don't

for my $slow (qw/ client upstream /) {
	my %end;
	@end{qw/ client upstream /} = pair($listener, %tls);
	my ($reader, $writer) = @end{$slow, $slow eq 'client' ? 'upstream' : 'client'};

	$reader->shrink_buffers(65536);
	my $memory = memory_of($worker);
	my $bytes = noise(128 * MB);
	my $sent = fill($writer, $bytes);

	cmp_ok($sent, '<', length $bytes, "$slow does not read: its peer is held up");
	cmp_ok(memory_of($worker) - $memory, '<', 1024 * SLOWNESS, "$slow does not read: nginx's memory");

	$reader->send('still there');
	is($writer->read_bytes(11), 'still there',
		"$slow does not read: the other direction goes on");

	same($reader->read_bytes($sent), substr($bytes, 0, $sent), "$slow reads on");
}

$_->close() for $client, $upstream;
undef $_ for $client, $upstream;

is(settled_fds($worker, $before), $before, 'nothing is left open');

###############################################################################
