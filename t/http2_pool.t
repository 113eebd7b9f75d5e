#!/usr/bin/perl

# A CONNECT over HTTP/2 takes one block of memory for its request's pool too, where nginx has a buffer that nobody uses:
# what does not fit in has memory of its own, and gives it back.

use warnings;
use strict;

use List::Util qw/ uniq /;
use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::HTTP2 qw/ http2_on /;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# A connection's own, and the least that is looked at.
use constant { POOL => 4096, SMALL => 2048 };

my $t = Test::Nginx->new()->has(qw/http http_v2/);

plan(skip_all => 'CONNECT over HTTP/2 needs nginx 1.22 or newer') unless $t->has_version('1.22.0');
plan(skip_all => 'only an nginx --with-debug tells of its memory')
	unless $t->has_module('--with-debug');

my $on = http2_on($t);

$t->plan(6)->write_file_expand('nginx.conf', <<'EOF' =~ s/%%HTTP2%%/$on/gr);

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    server {
        listen       127.0.0.1:8080%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
    }

    server {
        listen       127.0.0.1:8082%%HTTP2%%;
        server_name  localhost;

        request_pool_size  3k;

        proxy_connect;
        proxy_connect_allow  all;
    }
}

EOF

$t->run();

my $listener = listener(port(8081));

# What curl sends with a password, and a little more.
my @fields = (
	'user-agent' => 'curl/8.14.1', 'x-trace' => 'a' x 100,
	'proxy-authorization' => 'Basic ' . 'YWxhZGRpbjpvcGVuc2VzYW1l' x 4,
);

my $h2 = h2c(8080);
my @sizes = blocks($t, $listener, $h2);

SKIP: {
	skip 'nginx takes the memory of its pools in another way here', 4 unless @sizes;

	is(scalar @sizes, 1, 'one block for a CONNECT');
	cmp_ok($sizes[0], '<', 2 * POOL, 'smaller than two of nginx');
	is_deeply([ blocks($t, $listener, $h2, @fields) ], \@sizes, 'also for one with some fields');
	is_deeply([ uniq(blocks($t, $listener, h2c(8082), @fields)) ], [ 3072 ], 'a size that is set');
}

my $id = $h2->tunnel('127.0.0.1:' . port(8081), @fields);
my $upstream = accept_end($listener);

$h2->data($id, 'ping');
is($upstream->read_bytes(4), 'ping', 'a tunnel has its bytes');
$h2->rst($id);
is($upstream->ending(), 'reset', 'and its end');

###############################################################################

sub h2c {
	my ($port) = @_;

	my $h2 = Test::ProxyConnect::HTTP2->new(port => port($port), cleartext => 1);
	$h2->ping();
	return $h2;
}

# The sizes of the blocks that a tunnel takes.
sub blocks {
	my ($t, $listener, $h2, @fields) = @_;

	return grep { $_ != POOL } pool_blocks($t, SMALL, sub {
		return $h2->tunnel('127.0.0.1:' . port(8081), @fields), accept_end($listener);
	});
}
