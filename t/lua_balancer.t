#!/usr/bin/perl

# A balancer that is none of nginx's: lua-nginx-module chooses the parent, and the next one where it fails.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Lua;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/);
lua_or_skip($t)->plan(8);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  ends  "$status $proxy_connect_parent $upstream_addr $proxy_connect_close_reason";
    access_log  %%TESTDIR%%/ends.log ends;

    upstream lua {
        server 0.0.0.1;

        balancer_by_lua_block {
            local balancer = require "ngx.balancer"

            if ngx.ctx.tries then
                assert(balancer.set_current_peer("127.0.0.1", %%PORT_8082%%))
                return
            end

            ngx.ctx.tries = 1
            assert(balancer.set_more_tries(1))
            assert(balancer.set_current_peer("127.0.0.1", ngx.var.http_port))
        }
    }

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_pass   http://lua;
    }

    # The parent.
    server {
        listen       127.0.0.1:8082;
        server_name  parent;

        access_log  off;

        proxy_connect;
        proxy_connect_allow  all;
    }
}

EOF

$t->run();

my $worker = lone_worker($t);
my $listener = listener(port(8090));
my $parent = '127.0.0.1:' . port(8082);
my $before = steady_fds($worker);

###############################################################################

for my $case ([ 'the one that is chosen', port(8082), $parent ],
	[ 'the next one', port(8083), '127.0.0.1:' . port(8083) . ", $parent" ])
{
	my ($name, $port, $addrs) = @$case;
	log_mark($t, 'ends.log');
	my ($client, $upstream) = pair($listener, fields => [ "Port: $port" ]);

	is_deeply([ cross($client, $upstream, noise(100_000), noise(100_001)) ], [ noise(100_000), noise(100_001) ],
		"$name: bytes");
	$client->half_close();
	is($upstream->ending(), 'eof', "$name: a half-close");
	$upstream->close();
	$client->read_to_end();
	$client->close();
	is(wait_for_line($t, qr/^200 /, 'ends.log'), "200 http://lua $addrs client_eof", "$name: the log");
}

ok(!log_lines($t, qr/\[(alert|emerg)\]/), 'nothing worse in the log');
is(settled_fds($worker, $before), $before, 'nothing is left open');
