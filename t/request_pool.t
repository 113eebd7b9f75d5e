#!/usr/bin/perl

# A CONNECT takes one block of memory for its pool, as long as request_pool_size is nginx's own: what
# is set otherwise stays, and so does that of servers without proxy_connect.

use warnings;
use strict;

use List::Util qw/ uniq /;
use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# nginx's own size. Blocks of less than half of it are those of connections, and buffers.
use constant OWN => 4096;

my $t = Test::Nginx->new()->has(qw/http/);

plan(skip_all => 'only an nginx --with-debug tells of its memory')
	unless $t->has_module('--with-debug');

$t->plan(7)->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  many  "$host $remote_addr $request_time $connect_addr $proxy_connect_resolve_time "
                      "$http_user_agent $proxy_connect_close_reason $bytes_sent $status";
    access_log  %%TESTDIR%%/many.log many;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
    }

    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        request_pool_size  8k;
    }

    server {
        listen       127.0.0.1:8083;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        request_pool_size  2k;
    }

    server {
        listen       127.0.0.1:8084;
        server_name  localhost;

        return  204;
    }
}

EOF

$t->run();

my $listener = listener(port(8081));

# What curl sends with a password, and a little more.
my @fields = (
	'User-Agent: curl/8.14.1', 'Proxy-Connection: Keep-Alive', 'X-Trace: ' . 'a' x 100,
	'Proxy-Authorization: Basic ' . 'YWxhZGRpbjpvcGVuc2VzYW1l' x 4,
);

my @sizes = pool_blocks($t, OWN / 2, sub { pair($listener) });

SKIP: {
	skip 'nginx takes the memory of its pools in another way here', 7 unless @sizes;

	is(scalar @sizes, 1, 'one block for a CONNECT');
	cmp_ok($sizes[0], '>', OWN, 'which is larger than nginx has it');
	cmp_ok($sizes[0], '<', 2 * OWN, 'and smaller than two of nginx');

	is_deeply([ pool_blocks($t, OWN / 2, sub { pair($listener, fields => \@fields) }) ], \@sizes,
		'also for one with some fields');

	is_deeply([ pool_blocks($t, OWN / 2, sub { pair($listener, port => port(8082)) }) ], [ 8192 ],
		'a size that is set');
	is_deeply([ uniq(pool_blocks($t, OWN / 2, sub { pair($listener, port => port(8083)) })) ], [ OWN / 2 ],
		'a small size that is set');

	is_deeply([ uniq(pool_blocks($t, OWN / 2, sub { http_get('/', PeerAddr => '127.0.0.1:' . port(8084)) })) ], [ OWN ],
		'a server without proxy_connect');
}

###############################################################################
