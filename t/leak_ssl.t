#!/usr/bin/perl

# The same as leak.t over TLS: tunnels opened and broken in every phase leave nothing behind. A
# handshake takes its time, so there are fewer.

use warnings;
use strict;

use List::Util qw/ min /;
use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Kernel;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# How many in each phase, and how many at once.
use constant TUNNELS => int 1000 * SHARE;
use constant BATCH => 50;

# What else may need memory that is kept, in KiB: OpenSSL's caches.
use constant SPARE => 2048 * SLOWNESS;

my $t = Test::Nginx->new()->has(qw/http http_ssl stub_status socket_ssl/);

# There are not many more connections than are in use at a time.
my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
    worker_connections  128;
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;
    ssl_session_tickets  off;

    resolver          127.0.0.1:%%PORT_8980_UDP%% ipv6=off;
    resolver_timeout  30s;

    log_format  status  "$request_method $status";

    server {
        listen       127.0.0.1:8443 ssl backlog=511;
        server_name  localhost;

        access_log  %%TESTDIR%%/status.log status;

        proxy_connect;
        proxy_connect_allow  all;
    }

    server {
        listen       127.0.0.1:8083;
        server_name  localhost;

        access_log   off;

        location / {
            # an argument, which nginx before 1.7.5 wants
            stub_status  on;
        }
    }
}

EOF

name_server($t, 8980, 'silent.example' => 'drop');
certificate($t, 'localhost');

my $listener = listener(port(8081));
my $queue = full_backlog(port(8082));
my %tls = (port => port(8443), tls => plain_tls());

# A phase: how far a tunnel gets, what breaks it, and the status in the log.
my @phases = (
	[ 'in the handshake', \&greet_nginx, \&close_all ],
	[ 'before the request', sub { client(%tls) }, \&reset_all ],
	[ 'refused by the upstream', sub { knock($listener, %tls, authority => '127.0.0.1:'
		. port(8085)) }, \&hear_and_close, 502 ],
	[ 'resolving', sub { asking('silent.example:443') }, \&close_all, 499 ],
	[ 'resolving, reset', sub { asking('silent.example:443') }, \&reset_all, 499 ],
	[ 'connecting', sub { asking('127.0.0.1:' . port(8082)) }, \&close_all, 499 ],
	[ 'connecting, reset', sub { asking('127.0.0.1:' . port(8082)) }, \&reset_all, 499 ],
	[ 'the client closes', \&standing, \&close_all, 200 ],
	[ 'the client resets', \&standing, \&reset_all, 200 ],
	[ 'the client is cut off', \&standing, \&cut_off, 200 ],
	[ 'the upstream closes', \&standing, sub { close_all(reverse @_) }, 200 ],
	[ 'the upstream resets', \&standing, sub { reset_all(reverse @_) }, 200 ],
	[ 'half-closed', \&standing, \&half_close_and_reset, 200 ],
	[ 'with bytes that nobody reads', \&stuck, \&reset_all, 200 ],
);

$t->plan(4 * @phases + 1)->write_file_expand('nginx.conf', quietly($t, $conf, 'error'));
$t->run();

my $worker = lone_worker($t);

###############################################################################

# All there is to be had for good is had after one batch of each; the socket to the name server
# after one name.
exchange(connect_request('nowhere.example:443'), %tls);
wait_until('nginx did not come to rest', sub { active() == 1 });
my $before = steady_fds($worker);

run_phase($_, 2 * BATCH) for @phases;
my $memory = memory_of($worker);

for my $phase (@phases) {
	my ($name, $status) = @$phase[0, 3];
	log_mark($t, 'status.log');

	is(run_phase($phase, TUNNELS), TUNNELS, "$name: " . TUNNELS . ' times');
	is(eval { settled_fds($worker, $before) } // fds($worker), $before, "$name: descriptors");
	is(eval { wait_until('too many', sub { active() == 1 }) } ? 1 : active(), 1,
		"$name: connections");

	SKIP: {
		skip "$name is no request", 1 unless $status;
		my @lines = eval { access_lines($t, TUNNELS, 'status.log') };
		is(scalar(grep { $_ eq "CONNECT $status" } @lines), TUNNELS, "$name: the access log");
	}
}

SKIP: {
	skip 'AddressSanitizer keeps what was freed', 1 if $ENV{TEST_NGINX_ASAN};

	my $growth = memory_of($worker) - $memory;
	cmp_ok($growth, '<', SPARE, 'memory') or diag("nginx has grown by $growth KiB");
}

###############################################################################

sub run_phase {
	my ($phase, $count) = @_;
	my (undef, $open, $break) = @$phase;
	my $done = 0;

	while ($done < $count) {
		my @pairs = map { [ $open->() ] } 1 .. min(BATCH, $count - $done);

		# Each is where it should be when nginx has read what the last has sent.
		active();

		$break->(@$_) for @pairs;
		eval { settled_fds($worker, $before) } or last;
		$done += @pairs;
	}

	return $done;
}

###############################################################################
# How far they get: the client's end, and the upstream's where there is one

# The first bytes of a handshake.
sub greet_nginx {
	my $client = client(port => port(8443));
	$client->send("\x16\x03\x01\x02\x00\x01");
	return $client;
}

sub asking {
	my ($authority) = @_;
	return knock($listener, %tls, authority => $authority);
}

sub standing { return (pair($listener, %tls, early => 'early'))[0, 1] }

sub stuck {
	my ($client, $upstream) = standing();
	my $bytes = noise(100000);

	for my $end ($client, $upstream) {
		local $SIG{PIPE} = 'IGNORE';
		$end->handle()->syswrite($bytes);
	}

	return ($client, $upstream);
}

###############################################################################
# What breaks them. The other end, if there is one, hears of it and closes

sub close_all {
	my ($end, $other) = @_;
	$end->close();
	hear_and_close($other);
}

sub reset_all {
	my ($end, $other) = @_;
	$end->reset();
	hear_and_close($other);
}

# No close_notify, only an end of file.
sub cut_off {
	my ($client, $upstream) = @_;
	$client->handle()->close(SSL_no_shutdown => 1);
	hear_and_close($upstream);
}

sub half_close_and_reset {
	my ($client, $upstream) = @_;
	send_close_notify($client);
	$upstream->read_to_end();
	reset_all($upstream, $client);
}

sub hear_and_close {
	my ($end) = @_;
	return unless $end;
	eval { $end->read_to_end() };
	$end->close();
}

###############################################################################

# How many connections nginx has, with the one that asks.
sub active {
	my ($count) = http_get('/', PeerAddr => '127.0.0.1:' . port(8083))
		=~ /^Active connections: (\d+)/m;
	return $count;
}

###############################################################################
