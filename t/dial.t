#!/usr/bin/perl

# What one CONNECT may cost, whatever a name server says: an address is tried once, sixteen are at most,
# four side by side, and each is a line of the log; one more sums up.

use warnings;
use strict;

use List::Util qw/ max uniq /;
use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Kernel;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# How many addresses are taken, and how many are tried side by side.
use constant TAKEN => 16;
use constant SIDE_BY_SIDE => 4;

my $t = Test::Nginx->new()->has(qw/http/);

# An answer of so many addresses comes over TCP.
plan(skip_all => 'a resolver that does not ask over TCP') unless $t->has_version('1.9.11');

$t->plan(22)->write_file_expand('nginx.conf', ipv4_only($t, quietly($t, <<'EOF', 'info')));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
    worker_connections  1024;
}

http {
    %%TEST_GLOBALS_HTTP%%

    resolver  127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    log_format  ends  "$connect_host $status $connect_addr";
    access_log  %%TESTDIR%%/ends.log ends;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow            all;
        proxy_connect_connect_timeout  2s;
    }

    server {
        listen       127.0.0.1:8081;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow            all;
        proxy_connect_connect_timeout  6s;
    }
}

EOF

my @thousand = map { '127.1.' . int($_ / 250) . '.' . ($_ % 250 + 1) } 0 .. 999;

name_server($t, 8980,
	'thousand.example' => \@thousand,
	'copies.example' => [ ('127.0.0.2') x 500 ],
	'pairs.example' => [ ('127.0.0.2', '127.0.0.3') x 250 ],
	'behind-eight.example' => [ @thousand[0 .. 7], '127.0.0.9' ],
);

$t->run();

my $worker = lone_worker($t);

# At the one port nothing is accepted, whatever the address, and at the other nobody listens.
my ($silent, $closed) = (port(8087), port(8088));
my $queue = full_backlog("0.0.0.0:$silent");

###############################################################################
# Addresses that show nothing

log_mark($t);
my ($status, $most) = watched("thousand.example:$silent", port(8080));

is($status, 504, 'a thousand that show nothing: the client is told');
is($most, SIDE_BY_SIDE, 'a thousand that show nothing: so many side by side');
is(held($worker, $silent), 0, 'a thousand that show nothing: all are given up at the end');

my @lines = ours($t);
my $summary = pop @lines;
is(scalar(grep { /upstream connect timed out \(peer:127\.1\.\d+\.\d+:$silent\) while connecting to upstream, / } @lines),
	SIDE_BY_SIDE, 'a thousand that show nothing: a line for each of the last');
is(scalar @lines, SIDE_BY_SIDE, 'a thousand that show nothing: and no other');
like($summary, qr/\[error\] .*proxy_connect: the upstream can't be reached, \d of 16 addresses tried: 0 failed, 4 timed out, [1-5] given up for the next while connecting to upstream, client: /,
	'a thousand that show nothing: one line sums up');

# All that are taken are tried where there is time, and no more.
log_mark($t);
($status, $most) = watched("thousand.example:$silent", port(8081));
is($status, 504, 'more time: the client is told');
is($most, SIDE_BY_SIDE, 'more time: no more of them side by side');
like((ours($t))[-1], qr/ 16 of 16 addresses tried: 0 failed, 4 timed out, 12 given up for the next /,
	'more time: but more of them in all');

###############################################################################
# Addresses that are refused

log_mark($t);
($status) = watched("thousand.example:$closed", port(8080));
@lines = ours($t);
$summary = pop @lines;
is($status, 502, 'a thousand that are refused: the client is told');
is(scalar(uniq(map { /upstream connect failed \(peer:(127\.1\.\d+\.\d+):$closed\) \(111: / } @lines)),
	TAKEN, 'a thousand that are refused: so many are tried');
is(scalar @lines, TAKEN, 'a thousand that are refused: a line each');
like($summary, qr/ 16 of 16 addresses tried: 16 failed, 0 timed out, 0 given up for the next /,
	'a thousand that are refused: one line sums up');

log_mark($t);
($status) = watched("copies.example:$closed", port(8080));
is($status, 502, 'copies of one address: the client is told');
is(scalar(ours($t)), 1, 'copies of one address: it is tried once');
like((ours($t))[0], qr/upstream connect failed \(peer:127\.0\.0\.2:$closed\) \(111: /,
	'copies of one address: a line, and nothing to sum up');

log_mark($t);
($status) = watched("pairs.example:$closed", port(8080));
is($status, 502, 'copies of two addresses: the client is told');
is_deeply([ sort map { /\(peer:(\S+):$closed\)/ } ours($t) ], [ '127.0.0.2', '127.0.0.3' ],
	'copies of two addresses: each is tried once');

###############################################################################
# One that works, behind some that show nothing

undef $queue;
$queue = [ map { @{full_backlog("$_:$silent")} } @thousand[0 .. 7] ];
my $listener = listener("127.0.0.9:$silent");

log_mark($t);
for (1 .. 3) {
	my $client = knock(undef, authority => "behind-eight.example:$silent", port => port(8081));
	my $upstream = accept_end($listener);
	is(status_of($client->read_header()), 200, 'one works: it is reached') if $_ == 1;
	is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ],
		'one works: the tunnel stands') if $_ == 1;
	$_->close() for $client, $upstream;
}
is(scalar(ours($t)), 0, 'one works: what was given up for it is no error');

is(settled($worker, $silent), 0, 'one works: and nothing of it is left open');

###############################################################################

# The status that a CONNECT gets, and how many connections nginx was making at most meanwhile.
sub watched {
	my ($authority, $port) = @_;
	my $client = knock(undef, authority => $authority, port => $port);
	my $most = 0;

	for (1 .. 3000) {
		last unless $client->is_quiet(0.01);
		$most = max($most, held($worker, $silent));
	}

	my $status = status_of($client->read_header());
	$client->close();
	return ($status, $most);
}

# How many connections nginx has to that port, once there are none.
sub settled {
	my ($worker, $port) = @_;
	eval { wait_until('they stayed', sub { !held($worker, $port) }) };
	return held($worker, $port);
}

sub ours {
	my ($t) = @_;
	return log_lines($t, qr/proxy_connect: /);
}

###############################################################################
