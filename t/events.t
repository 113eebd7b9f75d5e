#!/usr/bin/perl

# Tunnels on each of nginx's event methods: those that tell of an event once, and those that tell
# of it as long as it lasts. Whatever a tunnel waits for, nginx sleeps meanwhile.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Hello;
use Test::ProxyConnect::Kernel;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant MB => 2 ** 20;

# Which part of its time nginx may be busy while there is nothing to do. A loop takes all of it, or
# what the machine has left.
use constant IDLE => 0.2;

my $t = Test::Nginx->new()->has(qw/http/);

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;
worker_processes %%WORKERS%%;

events {
    use           %%METHOD%%;
    multi_accept  %%MULTI%%;
}

http {
    %%TEST_GLOBALS_HTTP%%

    # Every byte moved would be a line.
    error_log  %%TESTDIR%%/error.log info;

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    log_format  ends  "$status $bytes_sent";
    access_log  %%TESTDIR%%/ends.log ends;

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow            all;
        proxy_connect_connect_timeout  20s;
    }

    server {
        listen       127.0.0.1:8083;
        listen       127.0.0.1:8444 ssl;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow            all;
        proxy_connect_connect_timeout  3s;
    }

    server {
        listen       127.0.0.1:8084;
        listen       127.0.0.1:8445 ssl;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow       all;
        proxy_connect_verify_sni  strict;
    }

    # a byte a second
    server {
        listen       127.0.0.1:8085;
        listen       127.0.0.1:8446 ssl;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow          all;
        proxy_connect_download_rate  1;
        proxy_connect_upload_rate    1;
    }
}

EOF

my @runs = (
	[ epoll => { METHOD => 'epoll', WORKERS => 1, MULTI => 'off' } ],
	[ poll => { METHOD => 'poll', WORKERS => 1, MULTI => 'off' } ],
	[ select => { METHOD => 'select', WORKERS => 1, MULTI => 'on' } ],
	[ 'epoll, two workers' => { METHOD => 'epoll', WORKERS => 2, MULTI => 'on' } ],
);

$t->plan(@runs * 2 * 27);

certificate($t, 'localhost');

my $listener = listener(port(8081));
my $queue = full_backlog(port(8082));
my $stuck = '127.0.0.1:' . port(8082);

for my $run (@runs) {
	my ($name, $values) = @$run;

	SKIP: {
		skip "no $name in this nginx", 54 unless starts($t, $conf, $values);
		tests_of($t, $name, wait_for_workers($t, $values->{WORKERS}));
		$t->stop();
	}
}

###############################################################################

# Whether nginx knows the method. epoll is not named by what configured it.
sub starts {
	my ($t, $conf, $values) = @_;

	return 0 unless $values->{METHOD} eq 'epoll' || $t->has_module("$values->{METHOD}_module");

	$t->write_file_expand('nginx.conf', with_tls($t, $conf) =~ s/%%([A-Z]+)%%/$values->{$1} \/\/ "%%$1%%"/ger);
	$t->run();
	wait_until('nginx.pid stayed empty', sub { -s $t->testdir() . '/nginx.pid' });
	return 1;
}

sub tests_of {
	my ($t, $name, @workers) = @_;

	SKIP: for my $way ([ 'plain' ], [ 'TLS', port => port(8443), tls => plain_tls() ]) {
		my ($kind, %options) = @$way;
		skip NO_TLS, 27 if $options{tls} && !has_tls($t);

		my $case = "$name, $kind";
		my $busy = sub { busiest(@workers) };
		my ($client, $upstream) = pair($listener, %options, early => 'early');

		# Moving.
		is($upstream->read_bytes(5), 'early', "$case: early bytes");
		my @got = cross($client, $upstream, noise(4 * MB), noise(4 * MB + 1));
		same($got[0], noise(4 * MB), "$case: up");
		same($got[1], noise(4 * MB + 1), "$case: down");
		cmp_ok($busy->(), '<', IDLE, "$case: idle");

		# One side closed.
		finish($client);
		is($upstream->read_to_end(), '', "$case: the client's end");
		cmp_ok($busy->(), '<', IDLE, "$case: idle, the client ended");
		$upstream->send(noise(MB));
		same($client->read_bytes(MB), noise(MB), "$case: bytes after the client's end");
		log_mark($t, 'ends.log');
		$upstream->close();
		is($client->read_to_end(), '', "$case: the upstream's end");
		ok((access_lines($t, 1, 'ends.log'))[0], "$case: the tunnel is over");

		($client, $upstream) = pair($listener, %options);
		$upstream->half_close();
		is($client->read_to_end(), '', "$case: the upstream's end first");
		cmp_ok($busy->(), '<', IDLE, "$case: idle, the upstream ended");
		$client->send(noise(MB));
		same($upstream->read_bytes(MB), noise(MB), "$case: bytes after the upstream's end");

		# Stuck.
		($client, $upstream) = pair($listener, %options);
		$client->shrink_buffers(65536);
		my $sent = fill($upstream, noise(64 * MB));
		cmp_ok($busy->(), '<', IDLE, "$case: idle, nobody reads");
		same($client->read_bytes($sent), noise($sent), "$case: somebody reads");

		# Throttled: each side has more to say than it may.
		my ($slow, $other) = pair($listener, %options, port => $options{tls} ? port(8446) : port(8085));
		$_->send(noise(10000)) for $slow, $other;
		cmp_ok($busy->(), '<', IDLE, "$case: idle, throttled");
		like($other->read_bytes(2), qr/^../s, "$case: throttled, and it moves");
		$_->close() for $slow, $other;

		# Broken.
		$upstream->reset();
		is($client->ending(), 'reset', "$case: a reset");

		# Not standing yet.
		my $gone = knock($listener, %options, authority => $stuck);
		wait_until('Nobody connects', sub { connecting(@workers) });
		cmp_ok($busy->(), '<', IDLE, "$case: idle, connecting");
		$gone->close();
		ok(wait_for_line($t, qr/^499 0$/, 'ends.log'), "$case: a client is gone");
		is(connecting(@workers), 0, "$case: nobody tries on");

		# One that has said something and then sent its end of file is not.
		$options{port} = $options{tls} ? port(8444) : port(8083);
		my $done = knock($listener, %options, authority => $stuck, early => 'early');
		$done->send('more');
		finish($done);
		wait_until('Nobody connects', sub { connecting(@workers) });
		cmp_ok($busy->(), '<', IDLE, "$case: idle, connecting for one that has ended");
		is(status_of($done->read_to_end()), 504, "$case: one that has ended gets its answer");

		# Held: half a hello, and an upstream that has ended.
		$options{port} = $options{tls} ? port(8445) : port(8084);
		my $hello = hello(name => 'some.example', size => 50_000);
		($client, $upstream) = pair($listener, %options);
		$client->send(substr $hello, 0, 25_000);
		cmp_ok($busy->(), '<', IDLE, "$case: idle, half a hello");
		$upstream->half_close();
		is($client->read_to_end(), '', "$case: the upstream's end meanwhile");
		cmp_ok($busy->(), '<', IDLE, "$case: idle, half a hello and the upstream ended");
		$client->send(substr $hello, 25_000);
		same($upstream->read_bytes(length $hello), $hello, "$case: a hello goes on");

		($client, $upstream) = pair($listener, %options);
		$client->send(hello());
		is($client->read_to_end(), ALERT, "$case: a hello is refused");
	}
}

sub busiest {
	my (@pids) = @_;
	return (sort { $b <=> $a } map { busy_share($_, 0.2) } @pids)[0];
}

sub connecting {
	my (@pids) = @_;
	my $count = 0;
	$count += held($_, port(8082), 'connecting') for @pids;
	return $count;
}

# Says that no more will come.
sub finish {
	my ($end) = @_;
	$end->handle()->can('get_cipher') ? send_close_notify($end) : $end->half_close();
}

###############################################################################
