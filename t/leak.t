#!/usr/bin/perl

# Many tunnels, opened and broken in every phase, leave nothing behind: no descriptor, no
# connection, no memory, and a line in the access log for each.

use warnings;
use strict;

use List::Util qw/ min /;
use Test::More;
use Socket qw/
	AF_INET INADDR_LOOPBACK MSG_NOSIGNAL SHUT_WR SOCK_STREAM SOL_SOCKET SO_LINGER SO_RCVTIMEO
	pack_sockaddr_in
/;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Kernel;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# How many in each phase, and how many at once.
use constant TUNNELS => int 10000 * SHARE;
use constant BATCH => 100;

# What else may need memory that is kept: nginx's pools, the resolver's names.
use constant SPARE => 2048 * SLOWNESS;

my $t = Test::Nginx->new()->has(qw/http stub_status/);

# There are not many more connections than are in use at a time.
my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
    worker_connections  256;
}

http {
    %%TEST_GLOBALS_HTTP%%

    resolver          127.0.0.1:%%PORT_8980_UDP%% ipv6=off;
    resolver_timeout  30s;

    log_format  status  "$request_method $status";

    server {
        listen       127.0.0.1:8080 backlog=511;
        server_name  localhost;

        access_log  %%TESTDIR%%/status.log status;

        proxy_connect;
        proxy_connect_allow  1024-65535;

        location / {
            return 200 "here";
        }
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

my $nginx = pack_sockaddr_in(port(8080), INADDR_LOOPBACK);
my $listener = listener(port(8081));
my $queue = full_backlog(port(8082));

my $standing = connect_request('127.0.0.1:' . port(8081));
my $get = "GET / HTTP/1.1\x0d\x0aHost: localhost\x0d\x0a\x0d\x0a";

# A phase: what is sent, how far it gets, what breaks it, and what the log calls it. A client that
# resets before nginx looks may have no line.
my @phases = (
	[ 'in the request line', 'CONNECT 127.0', \&accepted, \&close_all, '\S* (400|408|499)?' ],
	[ 'in the header', substr($standing, 0, -2), \&accepted, \&reset_all ],
	[ 'not allowed', connect_request('127.0.0.1:443'), \&answered, \&close_all, 'CONNECT 403' ],
	[ 'a bad authority', connect_request('127.0.0.1:0'), \&answered, \&close_all, '\S* 400' ],
	[ 'refused by the upstream', connect_request('127.0.0.1:' . port(8085)), \&answered,
		\&close_all, 'CONNECT 502' ],
	[ 'not resolved', connect_request('nowhere.example:1024'), \&answered, \&close_all,
		'CONNECT 502' ],
	[ 'resolving', connect_request('silent.example:1024'), \&resolving, \&close_all,
		'CONNECT 499' ],
	[ 'resolving, reset', connect_request('silent.example:1024') . 'early', \&resolving,
		\&reset_all, 'CONNECT 499' ],
	[ 'connecting', connect_request('127.0.0.1:' . port(8082)), \&connecting, \&close_all,
		'CONNECT 499' ],
	[ 'connecting, reset', connect_request('127.0.0.1:' . port(8082)) . 'early', \&connecting,
		\&reset_all, 'CONNECT 499' ],
	[ 'before the answer is read', $standing . 'early', \&connected, \&reset_all,
		'CONNECT (200|499)' ],
	[ 'the client closes', $standing . 'early', \&stands, \&close_all, 'CONNECT 200' ],
	[ 'the client resets', $standing, \&stands, \&reset_all, 'CONNECT 200' ],
	[ 'the upstream closes', $standing, \&stands, \&upstreams_close, 'CONNECT 200' ],
	[ 'the upstream resets', $standing, \&stands, \&upstreams_reset, 'CONNECT 200' ],
	[ 'both at once', $standing, \&stands, \&all_reset, 'CONNECT 200' ],
	[ 'half-closed', $standing, \&stands, \&half_close_and_reset, 'CONNECT 200' ],
	[ 'with bytes that nobody reads', $standing, \&stuck, \&all_reset, 'CONNECT 200' ],
	[ 'after another request', $get . $standing, \&stands_after_get, \&close_all,
		'(CONNECT|GET) 200' ],
);

$t->plan(4 * @phases + 1)->write_file_expand('nginx.conf', quietly($t, ipv4_only($t, $conf), 'error'));
$t->run();

my $worker = lone_worker($t);

###############################################################################

# All there is to be had for good is had after one batch of each; the socket to the name server
# after one name.
exchange(connect_request('nowhere.example:1024'));
wait_until('nginx did not come to rest', sub { active() == 1 });
# The connection that was asked on may still linger.
steady_fds($worker);
my $before = fds($worker);

run_phase($_, BATCH) for @phases;
my $memory = memory_of($worker);

for my $phase (@phases) {
	my ($name, $status) = @$phase[0, 4];
	my $lines = lines_of($t);

	is(run_phase($phase, TUNNELS), TUNNELS, "$name: " . TUNNELS . ' times');
	soon(sub { fds($worker) <= $before });
	is(fds($worker), $before, "$name: descriptors");
	is(eval { wait_until('too many', sub { active() == 1 }) } ? 1 : active(), 1,
		"$name: connections");

	my $expected = TUNNELS * ($name =~ /another request/ ? 2 : 1);

	SKIP: {
		skip "$name may have no line", 1 unless defined $status;
		eval { wait_until('too few', sub { lines_of($t) >= $lines + $expected }) };
		is(matching_lines($t, $lines, qr/^$status$/), $expected, "$name: the access log");
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
	my (undef, $bytes, $reach, $break) = @$phase;
	my $done = 0;

	while ($done < $count) {
		my @clients = map { open_client($bytes) } 1 .. min(BATCH, $count - $done);
		my @upstreams = $reach->(@clients) or last;
		$break->(\@clients, \@upstreams);
		soon(sub { fds($worker) <= $before }) or last;
		$done += @clients;
	}

	return $done;
}

# As wait_until(), with less of a pause.
sub soon {
	my ($question) = @_;

	for (1 .. 10000) {
		return 1 if $question->();
		select undef, undef, undef, 0.001;
	}

	return 0;
}

# Plain sockets, for speed; what they wait for has a deadline too.
sub open_client {
	my ($bytes) = @_;

	socket my $socket, AF_INET, SOCK_STREAM, 0 or die "Can't make a socket: $!\n";
	set_timeout($socket);
	connect $socket, $nginx or die "Can't connect to nginx: $!\n";
	send $socket, $bytes, MSG_NOSIGNAL or die "Can't send: $!\n";

	return $socket;
}

sub set_timeout {
	my ($socket) = @_;
	setsockopt $socket, SOL_SOCKET, SO_RCVTIMEO, pack 'l! l!', 10, 0
		or die "Can't set a timeout: $!\n";
}

###############################################################################
# How far they get. Each returns what is true: the upstreams' ends where there are some.

sub accepted { return 1 }

sub answered {
	my (@clients) = @_;

	for my $client (@clients) {
		my $answer = '';
		1 while sysread $client, $answer, 4096, length $answer;
		return unless $answer =~ m!^HTTP/1\.1 [45]\d\d !;
	}

	return 1;
}

# nginx has accepted them all; as good as each is by then at its name server.
sub resolving {
	my (@clients) = @_;
	return soon(sub { fds($worker) >= $before + @clients }) || ();
}

sub connecting {
	my (@clients) = @_;
	return soon(sub { fds($worker) >= $before + 2 * @clients }) || ();
}

sub connected {
	my (@clients) = @_;
	return map { accept_one() } @clients;
}

sub stands {
	my (@clients) = @_;
	my @upstreams = connected(@clients);
	return if grep { !gets($_, qr/^HTTP.1\.1 200 .*\x0d\x0a\x0d\x0a$/s) } @clients;
	return @upstreams;
}

sub stands_after_get {
	my (@clients) = @_;
	my @upstreams = connected(@clients);
	return if grep { !gets($_, qr/hereHTTP.1\.1 200 .*\x0d\x0a\x0d\x0a$/s) } @clients;
	return @upstreams;
}

sub stuck {
	my (@clients) = @_;
	my @upstreams = stands(@clients);
	my $bytes = noise(100000);

	for my $socket (@clients, @upstreams) {
		send $socket, $bytes, MSG_NOSIGNAL | Socket::MSG_DONTWAIT();
	}

	return @upstreams;
}

sub accept_one {
	vec(my $bits = '', fileno $listener, 1) = 1;
	select $bits, undef, undef, 10 or die "Nobody connected to the upstream\n";
	accept my $socket, $listener or die "Can't accept: $!\n";
	set_timeout($socket);
	return $socket;
}

sub gets {
	my ($socket, $pattern) = @_;
	my $bytes = '';

	until ($bytes =~ $pattern) {
		sysread $socket, $bytes, 4096, length $bytes or return 0;
	}

	return 1;
}

###############################################################################
# What breaks them

sub close_all {
	my ($clients, $upstreams) = @_;
	close $_ for @$clients;

	for my $upstream (grep { ref } @$upstreams) {
		end_of($upstream);
		close $upstream;
	}
}

sub reset_all {
	my ($clients) = @_;
	reset_one($_) for @$clients;
}

sub upstreams_close {
	my ($clients, $upstreams) = @_;
	close $_ for @$upstreams;

	for my $client (@$clients) {
		end_of($client);
		close $client;
	}
}

sub upstreams_reset {
	my ($clients, $upstreams) = @_;
	reset_one($_) for @$upstreams;
	end_of($_) for @$clients;
}

sub all_reset {
	my ($clients, $upstreams) = @_;

	for my $number (keys @$clients) {
		reset_one($_) for $clients->[$number], $upstreams->[$number];
	}
}

sub half_close_and_reset {
	my ($clients, $upstreams) = @_;
	shutdown $_, SHUT_WR for @$clients;
	end_of($_) for @$upstreams;
	reset_one($_) for @$upstreams;
	end_of($_) for @$clients;
}

sub reset_one {
	my ($socket) = @_;
	setsockopt $socket, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
	close $socket;
}

# Reads until the other side is gone.
sub end_of {
	my ($socket) = @_;
	1 while sysread $socket, my $bytes, 4096;
}

###############################################################################
# What is left

# How many connections nginx has, with the one that asks.
sub active {
	my ($count) = http_get('/', PeerAddr => '127.0.0.1:' . port(8083))
		=~ /^Active connections: (\d+)/m;
	return $count;
}

sub lines_of {
	my ($t) = @_;
	open my $log, '<', $t->testdir() . '/status.log' or return 0;
	1 while <$log>;
	return $.;
}

# How many lines match, behind so many that were there before.
sub matching_lines {
	my ($t, $skipped, $pattern) = @_;
	open my $log, '<', $t->testdir() . '/status.log' or return 0;
	my $count = 0;

	while (<$log>) {
		$count++ if $. > $skipped && $_ =~ $pattern;
	}

	return $count;
}

###############################################################################
