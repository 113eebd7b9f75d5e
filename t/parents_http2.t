#!/usr/bin/perl

# Tunnels of HTTP/2 through a parent, and through one over TLS.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::HTTP2 qw/ END_STREAM /;
use Test::ProxyConnect::Parent;

use constant SIZE => 4_000_000;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl http_v2 rewrite socket_ssl/);

plan(skip_all => 'CONNECT over HTTP/2 needs nginx 1.22 or newer') unless $t->has_version('1.22.0');

my $on = $t->has_version('1.25.1') ? '; http2 on' : ' http2';

$t->plan(23)->write_file_expand('nginx.conf', <<'EOF' =~ s/%%HTTP2%%/$on/gr);

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;
error_log %%TESTDIR%%/error.log info;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    log_format  tunnels  "$connect_host $status $proxy_connect_parent_status $proxy_connect_close_reason "
                         "$proxy_connect_bytes_received";
    access_log  %%TESTDIR%%/tunnels.log tunnels;

    upstream parents {
        server  127.0.0.1:%%PORT_8089%%  max_fails=0;
        server  127.0.0.1:%%PORT_8081%%;
    }

    map $connect_host $parent {
        first.example    127.0.0.1:%%PORT_8081%%;
        source.example   127.0.0.1:%%PORT_8082%%;
        denied.example   127.0.0.1:%%PORT_8083%%;
        asks.example     127.0.0.1:%%PORT_8084%%;
        group.example    parents;
        mute.example     127.0.0.1:%%PORT_8085%%;
        127.0.0.1        https://127.0.0.1:%%PORT_8444%%;
    }

    server {
        listen       127.0.0.1:8443 ssl%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow            all;
        proxy_connect_http2_window     4m;
        proxy_connect_pass             $parent;
        proxy_connect_pass_auth        on;
        proxy_connect_connect_timeout  500ms;

        proxy_connect_ssl_trusted_certificate  localhost.crt;
        proxy_connect_ssl_name                 localhost;
    }

    server {
        listen       127.0.0.1:%%PORT_8444%% ssl;
        server_name  parent;

        access_log  off;

        proxy_connect;
        proxy_connect_allow            all;
        proxy_connect_connect_timeout  500ms;
    }
}

EOF

certificate($t, 'localhost');

upstream($t, answers($t, OPEN . 'first'), port(8081));
upstream($t, answers($t, OPEN, then => source(SIZE)), port(8082));
upstream($t, answers($t, "HTTP/1.1 403 No\x0d\x0a\x0d\x0a"), port(8083));
upstream($t, answers($t, "HTTP/1.1 407 Who\x0d\x0aProxy-Authenticate: Basic realm=\"a\"\x0d\x0a\x0d\x0a"), port(8084));
upstream($t, sub { $_[0]->read_to_end() }, port(8085));
upstream($t, echo(), port(8086));
upstream($t, reset_after(1, pattern(SIZE)), port(8087));

$t->run();

my $h2 = Test::ProxyConnect::HTTP2->new(port => port(8443));

# The bytes behind the parent's answer come although nothing follows them.
my $id = $h2->connect('first.example:443');
is($h2->status($id), 200, 'a tunnel');
is($h2->read_bytes($id, 5), 'first', 'the first bytes');
$h2->data($id, 'ping');
is($h2->read_bytes($id, 4), 'ping', 'and an echo');
$h2->data($id, '', END_STREAM);
is($h2->read_to_end($id), '', 'and an end');
is(wait_for_line($t, qr/^first/, 'tunnels.log'), 'first.example 200 200 client_eof 9', 'the log');

$id = $h2->connect('source.example:443');
is($h2->status($id), 200, 'another tunnel');
my $got = $h2->read_to_end($id);
$h2->data($id, '', END_STREAM);
is(length $got, SIZE, 'of many bytes: their number');
ok($got eq pattern(SIZE), 'of many bytes');

$id = $h2->connect('group.example:443');
is($h2->status($id), 200, 'the next one of a group');
is($h2->read_bytes($id, 5), 'first', 'its first bytes');
$h2->data($id, '', END_STREAM);
$h2->read_to_end($id);

for my $case ([ denied => 403, 403 ], [ asks => 407, 407 ], [ mute => 504, '-' ]) {
	my ($name, $status, $code) = @$case;
	$id = $h2->connect("$name.example:443");
	is($h2->status($id), $status, "$name: status");
	like(wait_for_line($t, qr/^$name/, 'tunnels.log'), qr/^$name\.example $status $code - 0$/, "$name: the log");
}

# A parent over TLS. What the client sends comes in many frames, so that it lies in pieces.
my $bytes = pattern(SIZE);
$id = $h2->tunnel('127.0.0.1:' . port(8086));
$h2->upload($id, $bytes, END_STREAM);
$got = $h2->read_to_end($id);
is(length $got, SIZE, 'over TLS: the number of bytes');
ok($got eq $bytes, 'over TLS: the bytes');

# Nothing but the system tells a reset from an end there.
$id = $h2->tunnel('127.0.0.1:' . port(8087));
$h2->data($id, 'x');
is($h2->ending($id), 'rst 10', 'over TLS: a reset is one for the client');
like(wait_for_line($t, qr/^127\.0\.0\.1 .* upstream_reset/, 'tunnels.log'), qr/^127\.0\.0\.1 200 200 upstream_reset /,
	'over TLS: the log of a reset');

# A stream that is reset while the parent is asked.
my $knocks = upstream_lines($t, qr/accepted/);
$id = $h2->connect('mute.example:443');
wait_until('the parent was not asked', sub { upstream_lines($t, qr/accepted/) > $knocks });
$h2->frame(3, 0, $id, pack 'N', 8);
is(wait_for_line($t, qr/^mute\.example 499/, 'tunnels.log'), 'mute.example 499 - - 0', 'a stream that is reset');

$id = $h2->connect('first.example:443');
is($h2->status($id), 200, 'the connection goes on');
$h2->data($id, '', END_STREAM);
$h2->read_to_end($id);
ok(!log_lines($t, qr/\[(alert|emerg|crit)\]/), 'nothing worse in the log');

###############################################################################
