#!/usr/bin/perl

# When a worker has no connection left a CONNECT ends at once, with one line of ours: no other address
# could be connected to either. What stands goes on, and the worker serves again when there are some.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# nginx tells of a connection that it doesn't have with an alert.
my $t = Test::Nginx->new()->has(qw/http/)->todo_alerts();

$t->plan(14)->write_file_expand('nginx.conf', ipv4_only($t, quietly($t, <<'EOF', 'info')));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
    worker_connections  32;
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
        proxy_connect_connect_timeout  20s;
    }
}

EOF

my @addrs = map { "127.1.0.$_" } 1 .. 20;
name_server($t, 8980, 'many.example' => \@addrs);

$t->run();

my $worker = lone_worker($t);
my $listener = listener(port(8081));
my ($closed, $silent) = (port(8087), port(8088));
my $queue = full_backlog("0.0.0.0:$silent");

# The name is known from now on: nobody needs to be asked for it.
is(asked("many.example:$closed"), 502, 'with connections: what a CONNECT gets');

###############################################################################

my @standing = (pair($listener))[0, 1];
my @holders = holders($worker);
cmp_ok(scalar @holders, '>', 4, 'all connections are taken');

# One is left: the client has it.
let_go($worker, 1);
log_mark($t, $_) for 'error.log', 'ends.log';
is(asked("many.example:$closed"), 500, 'none for the upstream: the client is told');
is_told_once($t, 'none for the upstream');
is_logged($t, qr/^many\.example 500 127\.1\.0\.\d+:$closed$/, 'none for the upstream: the access log');

# Two are left: one address shows nothing, and there is none for the next.
let_go($worker, 1);
log_mark($t, $_) for 'error.log', 'ends.log';
is(asked("many.example:$silent"), 500, 'none for the second address: the client is told');
is_told_once($t, 'none for the second address');

is_deeply([ cross(@standing, 'up', 'down') ], [ 'up', 'down' ], 'the tunnel that stands goes on');

###############################################################################

let_go($worker, scalar @holders);
is_deeply([ cross((pair($listener))[0, 1], 'up', 'down') ], [ 'up', 'down' ],
	'with connections again: a tunnel stands');
is(asked("many.example:$closed"), 502, 'with connections again: all addresses are tried');
is(lone_worker($t), $worker, 'it is the worker that it was');
is_deeply([ grep { !/worker_connections are not enough/ } log_lines($t, qr/\[(alert|emerg|crit)\]/) ],
	[], 'nothing else is wrong');

###############################################################################

# Clients that have begun a request, as many as nginx takes.
sub holders {
	my ($worker) = @_;
	my @taken;

	while (@taken < 100) {
		my $before = sockets($worker);
		my $client = client();
		$client->send('GET / HT');

		wait_until('the client was neither taken nor sent away',
			sub { sockets($worker) > $before || !$client->is_quiet(0.01) });
		return @taken unless $client->is_quiet(0.1);
		push @taken, $client;
	}

	die "There is no end of connections\n";
}

# Closes some of them.
sub let_go {
	my ($worker, $count) = @_;
	my $before = sockets($worker);

	$_->close() for splice @holders, 0, $count;
	wait_until('nginx did not notice', sub { sockets($worker) <= $before - $count });
}

sub asked {
	my ($authority) = @_;
	my $client = knock(undef, authority => $authority);
	my $status = status_of(eval { $client->read_header() });

	$client->close();
	return $status;
}

# One line of ours, which says what to do.
sub is_told_once {
	my ($t, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @lines = log_lines($t, qr/proxy_connect: /);

	is(scalar @lines, 1, "$name: one line of ours") or diag(join "\n", @lines);
	like($lines[0], qr/\[error\] .*proxy_connect: upstream connect failed \(peer:127\.1\.0\.\d+:\d+\), no connection is left, raise "worker_connections" while connecting to upstream, client: /,
		"$name: it tells what to do");
}

###############################################################################
