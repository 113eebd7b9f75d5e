#!/usr/bin/perl

# How fast the bytes of a tunnel move: each way has its rate, whatever way the bytes take through nginx, and
# a tunnel that has to wait is neither idle nor lost.

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

use constant { KB => 1024, MB => 2 ** 20 };

# What a tunnel may be ahead of its rate, in seconds: what it may make up for, and what is read at once.
use constant AHEAD => 0.15;

# How late anything may be on a machine that has other things to do, in seconds.
use constant LATE => 1.5 * SLOWNESS;

my $linux = $^O eq 'linux';

my $t = Test::Nginx->new()->has(qw/http/);

$t->plan(68)->write_file_expand('nginx.conf', quietly($t, with_tls($t, <<'EOF'), 'info'));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    log_format  ends  "$proxy_connect_close_reason $proxy_connect_bytes_sent $proxy_connect_bytes_received "
                      "$proxy_connect_duration";
    access_log  %%TESTDIR%%/ends.log ends;

    proxy_connect_download_rate  $http_download;
    proxy_connect_upload_rate    $http_upload;

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
    }

    server {
        listen       127.0.0.1:8081;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow   all;
        proxy_connect_splice  off;
    }

    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow   all;
        proxy_connect_splice  SPLICE;

        proxy_connect_download_rate  2m;
        proxy_connect_upload_rate    0;
    }

    server {
        listen       127.0.0.1:8083;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        proxy_connect_download_rate  100k;
        proxy_connect_max_bytes      50k down;
        proxy_connect_tunnel_time    10s;
    }

    server {
        listen       127.0.0.1:8084;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow        all;
        proxy_connect_ssl_preread  on;
    }

    server {
        listen       127.0.0.1:8085;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow         all;
        proxy_connect_data_timeout  400ms;
    }
}

EOF

my $conf = $t->read_file('nginx.conf');
$t->write_file('nginx.conf', $conf =~ s/SPLICE/$linux ? 'on' : 'off'/er);

certificate($t, 'localhost');
$t->run();

my $worker = lone_worker($t);
my $listener = listener(port(8090));

my ($client, $upstream, $begin);

###############################################################################
# Each way, and whatever way through nginx

for my $way ([ 'auto' ], [ 'copied', port => port(8081) ], [ 'TLS', port => port(8443), tls => plain_tls() ]) {
	my ($name, %options) = @$way;

	SKIP: {
		skip NO_TLS, 6 if $options{tls} && !has_tls($t);

		for my $direction ('Download', 'Upload') {
			log_mark($t, 'ends.log');
			($client, $upstream) = pair($listener, fields => [ "$direction: 2m" ], %options);
			my ($from, $to) = $direction eq 'Upload' ? ($client, $upstream) : ($upstream, $client);

			# The other way has no rate, and comes first.
			$begin = time();
			same((cross($from, $to, '', noise(4 * MB)))[1], noise(4 * MB), "$name, $direction: the other way");
			cmp_ok(time() - $begin, '<', 2, "$name, $direction: is as fast as can be") if $name eq 'auto';

			same((cross($from, $to, noise(2 * MB), ''))[0], noise(2 * MB), "$name, $direction: all of it");
			$_->close() for $client, $upstream;
			takes($t, 2 * MB / (2 * MB), "$name, $direction: the rate");
		}
	}
}

SKIP: {
	skip 'splice(2) is Linux only', 3 unless $linux;

	log_mark($t, 'ends.log');
	($client, $upstream) = pair($listener, port => port(8082));
	my ($up, $down) = cross($client, $upstream, noise(MB), noise(2 * MB));
	same($up, noise(MB), 'through pipes: up, without a rate');
	same($down, noise(2 * MB), 'through pipes: down');
	$_->close() for $client, $upstream;
	takes($t, 1, 'through pipes: the rate');
}

# Smooth: in a second there are at least so many pieces with a pause between them.
($client, $upstream) = pair($listener, fields => [ 'Download: 100k' ]);
$upstream->send(noise(100 * KB));
my ($got, $pieces, $last) = (0, 0, 0);
while ($got < 100 * KB) {
	$got += length($client->read_some() // last);
	$pieces++ if time() - $last > 0.02;
	$last = time();
}
is($got, 100 * KB, 'smooth: all of it');
cmp_ok($pieces, '>=', 5, 'smooth: in pieces');
$_->close() for $client, $upstream;

# A little now and then is not slowed down.
($client, $upstream) = pair($listener, fields => [ 'Download: 1m', 'Upload: 1m' ]);
$begin = time();
for (1 .. 300) {
	$client->send('x' x 100);
	$upstream->read_bytes(100);
	$upstream->send('y' x 100);
	$client->read_bytes(100);
}
cmp_ok(time() - $begin, '<', 1 + LATE, 'small messages');
$_->close() for $client, $upstream;

###############################################################################
# Waiting is not being idle

log_mark($t, 'ends.log');
($client, $upstream) = pair($listener, port => port(8085), fields => [ 'Download: 2' ]);
$begin = time();
$upstream->send('abcd');
is($client->read_bytes(4), 'abcd', 'slower than the data timeout');
cmp_ok(time() - $begin, '>', 1, 'slower than the data timeout: as slow as it is to be');
is($client->ending(), 'eof', 'and then idle');
is_logged($t, qr/^timeout 0 4 (?:1\.[89]|[2-9])/, 'and then idle: the access log');
$_->close() for $client, $upstream;

# Nobody reads at the other side: that is.
log_mark($t, 'ends.log');
($client, $upstream) = pair($listener, port => port(8085), fields => [ 'Download: 100m' ]);
$client->shrink_buffers(65536);
eval { fill($upstream, noise(64 * MB)) };
is_logged($t, qr/^timeout /, 'a client that reads nothing');
$_->close() for $client, $upstream;

###############################################################################
# The ends

for my $way ([ 'plain' ], [ 'TLS', port => port(8443), tls => plain_tls() ]) {
	my ($name, %options) = @$way;

	SKIP: {
		skip NO_TLS, 10 if $options{tls} && !has_tls($t);

		# An end of file comes behind all bytes, and the other way goes on.
		log_mark($t, 'ends.log');
		($client, $upstream) = pair($listener, fields => [ 'Download: 500k' ], %options);
		$upstream->send(noise(250 * KB))->half_close();
		$client->send('still here');
		is($upstream->read_bytes(10), 'still here', "$name, half-close: the other way");
		same($client->read_to_end(), noise(250 * KB), "$name, half-close: all of it");
		$client->close();
		is_logged($t, qr/^upstream_eof 10 256000 /, "$name, half-close: the access log");

		# So does a reset of who may not be read yet.
		log_mark($t, 'ends.log');
		($client, $upstream) = pair($listener, fields => [ 'Download: 500k' ], %options);
		$upstream->send(noise(100 * KB));
		$got = $client->read_bytes(10 * KB);
		$upstream->reset();
		$got .= $client->read_to_end();
		ok(index(noise(100 * KB), $got) == 0, "$name, a reset of the upstream: what came before it");
		is($client->ending(), 'reset', "$name, a reset of the upstream: passed on");
		is_logged($t, qr/^upstream_reset /, "$name, a reset of the upstream: the access log");

		# A client that goes is noticed at once.
		log_mark($t, 'ends.log');
		($client, $upstream) = pair($listener, fields => [ 'Download: 1' ], %options);
		$upstream->send(noise(100 * KB));
		is($client->read_bytes(1), substr(noise(1), 0, 1), "$name, a reset of the client: the first byte");
		$begin = time();
		$client->reset();
		is($upstream->ending(), 'reset', "$name, a reset of the client: passed on");
		cmp_ok(time() - $begin, '<', LATE, "$name, a reset of the client: at once");
		is_logged($t, qr/^client_reset /, "$name, a reset of the client: the access log");
	}
}

# With other limits.
log_mark($t, 'ends.log');
($client, $upstream) = pair($listener, port => port(8083));
$begin = time();
$upstream->send(noise(51 * KB));
same($client->read_to_end(), noise(50 * KB), 'a quota');
cmp_ok(time() - $begin, '>', 0.5 - AHEAD - 0.05, 'a quota: at its rate');
is_logged($t, qr/^quota 0 51200 /, 'a quota: the access log');
$_->close() for $client, $upstream;

# What nginx read behind the CONNECT counts, and so does what was held.
for my $port (8080, 8084) {
	$begin = time();
	($client, $upstream) = pair($listener, port => port($port), fields => [ 'Upload: 4k' ], early => noise(2 * KB));
	is(length $upstream->read_bytes(2 * KB), 2 * KB, "early bytes, $port");
	$client->send(noise(KB));
	is(length $upstream->read_bytes(KB), KB, "early bytes, $port: what comes behind");
	cmp_ok(time() - $begin, '>', 0.75 - AHEAD - 0.02, "early bytes, $port: they count");
	$_->close() for $client, $upstream;
}

###############################################################################
# No rate

log_mark($t);
for my $none ([ ], [ 'Download: 0', 'Upload: 0' ], [ 'Download: fast', 'Upload: -1' ]) {
	($client, $upstream) = pair($listener, fields => $none);
	$begin = time();
	is_deeply([ map { length } cross($client, $upstream, noise(4 * MB), noise(4 * MB)) ], [ 4 * MB, 4 * MB ],
		"no rate: @$none");
	cmp_ok(time() - $begin, '<', 1 + LATE, "no rate: @$none: as fast as can be");
	$_->close() for $client, $upstream;
}

is_deeply([ sort map { /(invalid rate .*) while / } log_lines($t, qr/proxy_connect: invalid/) ],
	[ map { qq/invalid rate "$$_[0]" of "proxy_connect_$$_[1]_rate", the tunnel goes without that limit/ }
		[ '-1', 'upload' ], [ 'fast', 'download' ] ], 'garbage: the log');

###############################################################################

is(lone_worker($t), $worker, 'the worker lives');

# A test that the tunnel whose end is logged next took so many seconds by nginx's clock.
sub takes {
	my ($t, $seconds, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($took) = (access_lines($t, 1, 'ends.log'))[0] =~ / (\S+)$/;

	ok($took > $seconds - AHEAD - 0.02 && $took < $seconds + LATE, $name) or diag("$took s in place of $seconds s");
}

###############################################################################
