#!/usr/bin/perl

# What becomes of tunnels when their worker is to go: after a reload, a graceful shutdown with and
# without worker_shutdown_timeout, and a fast one; whatever phase they are in.

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

my $t = Test::Nginx->new()->has(qw/http http_ssl socket_ssl/);

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;
%%MAIN%%

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    resolver          127.0.0.1:%%PORT_8980_UDP%% ipv6=off;
    resolver_timeout  30s;

    log_format  ends  "$request_uri $status $bytes_sent $request_time";
    access_log  %%TESTDIR%%/ends.log ends;

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        proxy_connect_response  "HTTP/1.1 200 OK\r\nX-Conf: %%CONF%%\r\n\r\n";
    }
}

EOF

$t->plan(56);

certificate($t, 'localhost');
name_server($t, 8980,
	'silent.example' => 'drop',
	map { ("slow$_.example" => { addrs => '127.0.0.1', delay => 0.7 }) } 1 .. 9,
);

my $listener = listener(port(8081));
my @tls = (port => port(8443), tls => plain_tls());
my $queue = full_backlog(port(8082));
my $stuck = '127.0.0.1:' . port(8082);

my ($client, $upstream, $header, $old, $begin, %tunnel);

###############################################################################
# A reload: the tunnels of before go on, in the worker of before

start($t, $conf, 'before');
$old = lone_worker($t);

%tunnel = (plain => [ pair($listener) ], TLS => [ pair($listener, @tls) ]);
is(header_of($_->[2], 'X-Conf'), 'before', 'before the reload') for values %tunnel;

write_conf($t, $conf, 'after');
$t->reload();
wait_for_line($t, qr/ gracefully shutting down/);

($client, $upstream, $header) = pair_of($t, $listener, 'after');
is(header_of($header, 'X-Conf'), 'after', 'a new tunnel after the reload');
$_->close() for $client, $upstream;

for my $name (sort keys %tunnel) {
	my @got = cross(@{$tunnel{$name}}[0, 1], noise(1000000), noise(2000000));
	same($got[0], noise(1000000), "$name after the reload: up");
	same($got[1], noise(2000000), "$name after the reload: down");
}

ok(kill(0, $old), 'the worker of before waits for them');

$tunnel{plain}[0]->close();
is($tunnel{plain}[1]->ending(), 'eof', 'one ends after the reload');
is_deeply([ cross(@{$tunnel{TLS}}[0, 1], 'up', 'down') ], [ 'up', 'down' ],
	'the other goes on');
$_->[1]->close() for values %tunnel;
is($tunnel{TLS}[0]->ending(), 'eof', 'the other ends too');
$tunnel{TLS}[0]->close();

wait_until('The worker of before did not exit', sub { worker_pids($t, 'all') == 1 });
pass('then the worker of before exits');
$t->stop();

###############################################################################
# A graceful shutdown waits for those that are to stand yet

start($t, $conf, 'once');

($client, $upstream) = pair($listener);
my $resolving = knock($listener, authority => 'slow1.example:' . port(8081));
wait_until('No query yet', sub { queries($t, qr/slow1/) });

kill 'QUIT', master_pid($t);
wait_for_line($t, qr/ gracefully shutting down/);

is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ],
	'a tunnel goes on during a graceful shutdown');

my $resolved = accept_end($listener);
like($resolving->read_header(), qr/ 200 /, 'one whose name is resolved meanwhile stands');
is_deeply([ cross($resolving, $resolved, 'up', 'down') ], [ 'up', 'down' ], 'and works');

ok(-e $t->testdir() . '/nginx.pid', 'nginx waits for them');
$_->close() for $client, $upstream, $resolving, $resolved;
wait_for_exit($t);
pass('then it exits');

# One alone that is being connected, for which no timeout is configured.
start($t, $conf, 'once');
$old = lone_worker($t);

$client = knock($listener, authority => $stuck);
wait_until('No connect yet', sub { held($old, port(8082), 'connecting') });

kill 'QUIT', master_pid($t);
wait_for_line($t, qr/ gracefully shutting down/);

# The queue has room now, and the system tries again within a second or three.
$upstream = eval { accept_from($queue) };
like(eval { $client->read_header() } // '', qr/ 200 /, 'one that is connected meanwhile stands');
is_deeply([ eval { cross($client, $upstream, 'up', 'down') } ], [ 'up', 'down' ], 'and works');

$_->close() for grep { defined } $client, $upstream;
wait_for_exit($t);

###############################################################################
# worker_shutdown_timeout

$queue = full_backlog(port(8083));
$stuck = '127.0.0.1:' . port(8083);

for my $way ([ 'plain' ], [ 'TLS', @tls ]) {
	for my $how ('a reload', 'a graceful shutdown') {
		my ($name, %options) = @$way;
		$name = "$name, $how";
		log_mark($t, $_) for 'error.log', 'ends.log', 'dns.log';

		start($t, $conf, 'once', 'worker_shutdown_timeout 500ms;');
		$old = lone_worker($t);

		my @standing = pair($listener, %options);
		my @half = pair($listener, %options);
		$half[1]->half_close();
		is($half[0]->read_to_end(), '', "$name: one is closed on one side");

		my @waiting = map { knock($listener, %options, authority => $_) }
			$stuck, 'silent.example:443';
		wait_until('No connect yet', sub { held($old, port(8083), 'connecting') });
		wait_until('No query yet', sub { queries($t, qr/silent/) });

		$begin = time();
		$how eq 'a reload' ? $t->reload() : kill 'QUIT', master_pid($t);
		wait_for_line($t, qr/ gracefully shutting down/);

		is_deeply([ cross(@standing[0, 1], 'up', 'down') ], [ 'up', 'down' ],
			"$name: a tunnel goes on for the time");

		is($standing[0]->ending(), 'eof', "$name: then the client is let go");
		my $took = time() - $begin;
		ok($took > 0.45 && $took < 3, "$name: in time") or diag("after $took s");
		is($standing[1]->ending(), 'eof', "$name: and the upstream");
		is($half[1]->ending(), 'eof', "$name: so is the one half-closed");
		is_deeply([ map { $_->read_to_end() } @waiting ], [ '', '' ],
			"$name: so are those that don't stand yet");

		wait_until('The worker did not exit', sub { !kill 0, $old });
		is(scalar(access_lines($t, 4, 'ends.log')), 4, "$name: the access log");

		$how eq 'a reload' ? $t->stop() : wait_for_exit($t);
	}
}

###############################################################################
# A fast shutdown

start($t, $conf, 'once');

%tunnel = (plain => [ pair($listener) ], TLS => [ pair($listener, @tls) ]);
$begin = time();
kill 'TERM', master_pid($t);

for my $name (sort keys %tunnel) {
	ok($tunnel{$name}[$_]->ending(), "$name, a fast shutdown: " . (qw/ client upstream /)[$_])
		for 0, 1;
}

wait_for_exit($t);
cmp_ok(time() - $begin, '<', 5, 'a fast shutdown waits for nobody');

###############################################################################

sub write_conf {
	my ($t, $conf, $name, $main) = @_;
	$main //= '';
	$t->write_file_expand('nginx.conf', $conf =~ s/%%CONF%%/$name/r =~ s/%%MAIN%%/$main/r);
}

sub start {
	my ($t, @conf) = @_;
	log_mark($t);
	write_conf($t, @conf);
	$t->run();
	lone_worker($t);
}

# A tunnel in a worker with a new configuration, which there may not be at once.
sub pair_of {
	my ($t, $listener, $name) = @_;
	my @pair;

	wait_until("Nobody knows the configuration \"$name\"", sub {
		$_->close() for @pair[0 .. $#pair - 1];
		@pair = pair($listener);
		return header_of($pair[2], 'X-Conf') eq $name;
	});

	return @pair;
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
