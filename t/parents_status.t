#!/usr/bin/perl

# What is counted of parents: how many of each group are in which state, and what became of attempts to have one build a
# tunnel.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Parent;
use Test::ProxyConnect::Servers;
use Test::ProxyConnect::Status;
use Test::ProxyConnect::Tunnel;

use JSON::PP;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http rewrite upstream_least_conn/);

# Shared memory for a group came with 1.9.0, max_conns with 1.11.5.
my $shares = $t->has_version('1.11.5') && $t->has_module('upstream_zone');
my $zone = $shares ? 'zone shared 64k;' : '';
my $limit = $shares ? ' max_conns=1' : '';

$t->plan(20)->write_file_expand('nginx.conf', <<'EOF' =~ s/%%ZONE%%/$zone/r =~ s/%%LIMIT%%/$limit/r);

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    proxy_connect_status_zone  main;

    upstream one {
        server  127.0.0.1:%%PORT_8203%%  max_fails=1 fail_timeout=60s;
        server  127.0.0.1:%%PORT_8204%%  down;
        server  127.0.0.1:%%PORT_8201%%  backup;
    }

    upstream shared {
        %%ZONE%%
        least_conn;
        server  127.0.0.1:%%PORT_8202%%  max_fails=0;
        server  127.0.0.1:%%PORT_8201%%%%LIMIT%%;
    }

    # tried however often it fails
    upstream lone {
        server  127.0.0.1:%%PORT_8203%%  max_fails=1 fail_timeout=60s;
    }

    upstream named {
        server  127.0.0.1:%%PORT_8201%%;
    }

    upstream others {
        server  127.0.0.1:%%PORT_8201%%;
    }

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_pass   one;

        location = /status   { proxy_connect_status; }
        location = /page     { proxy_connect_status html; }
        location /tunnels    { proxy_connect_tunnels; }
    }

    server {
        listen       127.0.0.1:8081;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow          all;
        proxy_connect_pass           http://shared;
        proxy_connect_next_upstream  error timeout http_503;
    }

    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_pass   lone;
    }

    server {
        listen       127.0.0.1:8083;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_pass   $http_parent;
    }

    server {
        listen       127.0.0.1:8084;
        server_name  localhost;

        location / { proxy_pass http://others; }
    }
}

EOF

upstream($t, answers($t, OPEN), port(8201));
upstream($t, answers($t, "HTTP/1.1 503 No\x0d\x0a\x0d\x0a"), port(8202));
$t->run();

my $destination = '127.0.0.1:' . port(8090);

# An answer that came, and the tunnel.
sub opened {
	my ($port, @fields) = @_;
	my $client = client(port => port($port));
	$client->send(connect_request($destination, @fields));
	return ($client, status_of($client->read_header()));
}

sub seen {
	my ($path) = @_;
	return decode_json(body_of(ask($path // '/status', accept => 'application/json')));
}

sub states {
	my ($group) = @_;
	return join ' ', map { my $n = seen()->{parents}{$group}{$_}; $n ? "$_ $n" : () } qw/ up down unavailable busy /;
}

sub attempts {
	my $of = seen()->{zones}{main}{parent_attempts};
	return join ' ', map { $of->{$_} } qw/ opened refused unreachable /;
}

###############################################################################

is(states('one'), 'up 2 down 1', 'a group that nobody has used');
is(states('shared'), 'up 2', 'another');
is(attempts(), '0 0 0', 'no attempt');
is_deeply([ sort keys %{seen()->{parents}} ], [ qw/ lone one shared / ], 'no group but of parents');

# The first is dead, the second down, the third the backup.
my ($client, $status) = opened(8080);
is($status, 200, 'a tunnel through the backup');
is(states('one'), 'up 1 down 1 unavailable 1', 'who failed is not available');
is(attempts(), '1 0 1', 'one attempt was unreachable, one opened');
$client->close();

# The first answers 503, and the second stands.
($client, $status) = opened(8081);
is($status, 200, 'a tunnel through the second');
is(attempts(), '2 1 1', 'one attempt was refused, one opened');

SKIP: {
	skip 'no max_conns', 2 unless $shares;
	is(states('shared'), 'up 1 busy 1', 'who has as many as it may is busy');
	$client->close();
	wait_until('it stayed busy', sub { states('shared') eq 'up 2' });
	is(states('shared'), 'up 2', 'until it has fewer');
}
$client->close();

# Alone it is tried all the same.
is((opened(8082))[1], 502, 'a server that is dead and alone');
is((opened(8082))[1], 502, 'and again');
is(states('lone'), 'up 1', 'is not taken for unavailable');
is(attempts(), '2 1 3', 'both attempts count');

# A variable may name one.
($client) = opened(8083, 'Parent: http://named');
is(states('named'), 'up 1', 'a group that a variable names');
opened(8083, 'Parent: http://127.0.0.1:' . port(8201));
is_deeply([ sort keys %{seen()->{parents}} ], [ qw/ lone named one shared / ], 'a client can make no group');
is(attempts(), '4 1 3', 'but an attempt');

is_deeply(seen('/tunnels')->{parents}, seen()->{parents}, 'the list of tunnels tells the same');

my $metrics = metrics('/status');
is_deeply([ map { $metrics->{qq!nginx_proxy_connect_parents{upstream="one",state="$_"}!} } qw/ up down unavailable busy / ],
	[ 1, 1, 1, 0 ], 'Prometheus');

###############################################################################
