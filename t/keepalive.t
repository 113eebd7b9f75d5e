#!/usr/bin/perl

# Options of the sockets at both ends: tcp_nodelay, and the so_keepalive of the listener.

use warnings;
use strict;

use Test::More;
use Socket qw/ IPPROTO_TCP SOL_SOCKET SO_KEEPALIVE TCP_NODELAY /;
use Time::HiRes qw/ time /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Kernel;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# Linux's numbers; Perl's Socket does not have the names everywhere.
use constant {
	TCP_KEEPIDLE => 4,
	TCP_KEEPINTVL => 5,
	TCP_KEEPCNT => 6,
};

my %option = (
	nodelay => [ IPPROTO_TCP, TCP_NODELAY ],
	keepalive => [ SOL_SOCKET, SO_KEEPALIVE ],
	idle => [ IPPROTO_TCP, TCP_KEEPIDLE ],
	interval => [ IPPROTO_TCP, TCP_KEEPINTVL ],
	count => [ IPPROTO_TCP, TCP_KEEPCNT ],
);

plan(skip_all => 'options of another process\'s sockets are for Linux') if $^O ne 'linux';

my $t = Test::Nginx->new()->has(qw/http unix/);
my $dir = $t->testdir();

$t->plan(32)->write_file_expand('nginx.conf', with_tls($t, <<'EOF'));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        listen       127.0.0.1:8081 so_keepalive=on;
        listen       127.0.0.1:8082 so_keepalive=off;
        listen       127.0.0.1:8083 so_keepalive=7m:3s:5;
        listen       127.0.0.1:8084 so_keepalive=:4s:;
        listen       127.0.0.1:8444 ssl so_keepalive=7m:3s:5;
        listen       unix:%%TESTDIR%%/nginx.sock so_keepalive=on;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
    }

    server {
        listen       127.0.0.1:8083;
        server_name  unix.example;

        proxy_connect;
        proxy_connect_address  unix:%%TESTDIR%%/upstream.sock;
    }

    server {
        listen       127.0.0.1:8085;
        listen       127.0.0.1:8445 ssl;
        server_name  localhost;

        tcp_nodelay  off;

        proxy_connect;
        proxy_connect_allow  all;
    }
}

EOF

certificate($t, 'localhost');
$t->run();

my $worker = lone_worker($t);
my $listener = listener(port(8090));
my ($client, $upstream);

# The system's own numbers, those of a socket with the option and nothing more.
my %default = do {
	my ($end) = accept_end_of(listener(port(8091)));
	map { $_ => unpack 'i', getsockopt $end->handle(), $option{$_}[0], $option{$_}[1] }
		qw/ idle interval count /;
};

###############################################################################

my %expected = (
	8080 => { nodelay => 1, keepalive => 0 },
	8443 => { nodelay => 1, keepalive => 0, tls => plain_tls() },
	8081 => { nodelay => 1, keepalive => 1, %default },
	8082 => { nodelay => 1, keepalive => 0 },
	8083 => { nodelay => 1, keepalive => 1, idle => 420, interval => 3, count => 5 },
	8084 => { nodelay => 1, keepalive => 1, %default, interval => 4 },
	8444 => { nodelay => 1, keepalive => 1, idle => 420, interval => 3, count => 5, tls => plain_tls() },
	8085 => { nodelay => 0, keepalive => 0 },
	8445 => { nodelay => 0, keepalive => 0, tls => plain_tls() },
);

for my $number (sort keys %expected) {
	my %values = %{$expected{$number}};
	my $tls = delete $values{tls};

	SKIP: {
		skip 'the system does not let us look into nginx', 3 unless can_look($worker);
		skip NO_TLS, 3 if $tls && !has_tls($t);

		my @names = sort keys %values;

		($client, $upstream) = pair($listener, port => port($number), tls => $tls);
		my ($near, $far) = map { ($_ =~ /(\d+)$/)[0] } $client->local(), $upstream->peer();

		is_deeply({ map { $_ => option($worker, port($number), $near, $_) } @names },
			\%values, "$number: the client's side");
		is_deeply({ map { $_ => option($worker, $far, port(8090), $_) } @names },
			\%values, "$number: the upstream's side");
		is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ],
			"$number: the tunnel");
	}
}

sub option {
	my ($pid, $local, $remote, $name) = @_;
	return 0 + !!socket_option($pid, $local, $remote, @{$option{$name}})
		if $name eq 'nodelay' || $name eq 'keepalive';
	return socket_option($pid, $local, $remote, @{$option{$name}});
}

###############################################################################
# Unix sockets have none of these, which is nothing to complain of

my $local = listener("unix:$dir/upstream.sock");

($client, $upstream) = pair($local, port => port(8083), authority => 'unix.example:443');
is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ], 'to a unix socket');
($client, $upstream) = pair($listener, path => "$dir/nginx.sock");
is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ], 'from a unix socket');
is_deeply([ log_lines($t, qr/setsockopt/) ], [], 'unix sockets: the log');

###############################################################################
# What it is for: a question and its answer wait for no delayed ACK

SKIP: for my $number (8080, 8443) {
	skip NO_TLS, 1 if $number == 8443 && !has_tls($t);

	($client, $upstream) = pair($listener, port => port($number), tls => $number == 8443);
	my ($begin, $bytes) = (time(), noise(32 * 1024));

	for (1 .. 100) {
		$client->send($bytes);
		$upstream->read_bytes(length $bytes);
		$upstream->send($bytes);
		$client->read_bytes(length $bytes);
	}

	cmp_ok(time() - $begin, '<', 2 * SLOWNESS, "$number: 32 KiB there and back, 100 times");
}

###############################################################################

sub accept_end_of {
	my ($listener) = @_;
	my $client = client(port => $listener->sockport());
	return accept_end($listener);
}

###############################################################################
