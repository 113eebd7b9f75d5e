#!/usr/bin/perl

# CONNECT over HTTP/2 beside lua-nginx-module: what each phase of it sees of a stream, Lua that waits, asks others or
# refuses, and what a client does meanwhile. Streams of one connection wait for nobody's Lua but their own.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::HTTP2 qw/ END_STREAM http2_on /;
use Test::ProxyConnect::Lua;
use Test::ProxyConnect::Tunnel;

use constant CANCEL => 8;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_v2 rewrite access/);

plan(skip_all => 'CONNECT over HTTP/2 needs nginx 1.22 or newer') unless $t->has_version('1.22.0');

lua_or_skip($t)->plan(35);

my $on = http2_on($t);

$t->write_file_expand('nginx.conf', <<'EOF' =~ s/%%HTTP2%%/$on/gr);

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  ends  "$status|$proxy_connect_close_reason|$lua";
    access_log  %%TESTDIR%%/ends.log ends;

    server {
        listen       127.0.0.1:8080%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        set $lua "";

        rewrite_by_lua_block {
            ngx.ctx.phases = "rewrite " .. ngx.req.get_method() .. " " .. ngx.req.http_version()
                .. " " .. tostring(ngx.var.connect_host) .. " " .. tostring(ngx.var.http_x_name)
            ngx.sleep(tonumber(ngx.var.http_x_sleep) or 0)

            while ngx.var.http_x_wait and not io.open("%%TESTDIR%%/go") do
                ngx.sleep(0.02)
            end
        }

        access_by_lua_block {
            ngx.ctx.phases = ngx.ctx.phases .. ", access " .. tostring(ngx.req.get_headers()["x-name"])

            if ngx.var.http_x_status then
                ngx.exit(tonumber(ngx.var.http_x_status))
            end

            if ngx.var.http_x_answer then
                ngx.status = 403
                ngx.header["X-Why"] = "because"
                ngx.say("no, ", ngx.var.connect_host)
                ngx.exit(403)
            end

            if ngx.var.http_x_capture then
                local answer = ngx.location.capture("/granted")
                ngx.ctx.phases = ngx.ctx.phases .. ", captured " .. answer.body
            end

            if ngx.var.http_x_socket then
                local socket = ngx.socket.tcp()
                assert(socket:connect("127.0.0.1", %%PORT_8081%%))
                socket:send("question")
                ngx.ctx.phases = ngx.ctx.phases .. ", asked " .. socket:receive(8)
                socket:close()
            end

            if ngx.var.http_x_error then
                error("a failure")
            end
        }

        log_by_lua_block {
            ngx.var.lua = tostring(ngx.ctx.phases) .. ", log " .. ngx.status
        }

        location = /granted {
            internal;
            content_by_lua_block {
                ngx.print("granted")
            }
        }

        location /get {
            content_by_lua_block {
                ngx.print(ngx.req.get_method(), " by Lua")
            }
        }

        location /capture {
            content_by_lua_block {
                ngx.print(ngx.location.capture("/granted").body)
            }
        }
    }
}

EOF

upstream($t, echo(), port(8081));
$t->run();

my $to = '127.0.0.1:' . port(8081);
my $h2 = Test::ProxyConnect::HTTP2->new(cleartext => 1, port => port(8080));
my $phases = 'rewrite CONNECT 2 127.0.0.1 one, access one';

# lua-nginx-module before 0.10.27 has none over HTTP/2, whatever the request.
my $has_subrequests = $h2->status($h2->get('/capture', 'localhost')) eq 200;

###############################################################################
# Those that let it pass

SKIP: for my $case (
	[ 'all phases' => '' ],
	[ 'a sleep' => '', 'x-sleep' => '0.1' ],
	[ 'a socket' => ', asked question', 'x-socket' => '1' ],
	[ 'a subrequest' => ', captured granted', 'x-capture' => '1' ],
) {
	my ($name, $more, @fields) = @$case;
	skip 'this Lua has no subrequests over HTTP/2', 4 if $name eq 'a subrequest' && !$has_subrequests;

	log_mark($t, 'ends.log');
	my $id = $h2->connect($to, 'x-name' => 'one', @fields);
	$h2->data($id, 'early ');
	is($h2->status($id), 200, "$name: a tunnel");
	$h2->data($id, 'late', END_STREAM);
	is($h2->read_to_end($id), 'early late', "$name: it has all bytes");
	is($h2->ending($id), 'end', "$name: its end");
	is(wait_for_line($t, qr/ CONNECT /, 'ends.log'), "200|client_eof|$phases$more, log 200", "$name: what Lua saw");
}

###############################################################################
# Those that don't

for my $case (
	[ 'a status' => 403, qr/403 Forbidden/, 'x-status' => 403 ],
	[ 'an answer' => 403, qr/^no, 127\.0\.0\.1\n/, 'x-answer' => 1 ],
	[ 'an error of Lua' => 500, qr/500 Internal/, 'x-error' => 1 ],
) {
	my ($name, $status, $body, @fields) = @$case;
	log_mark($t, 'ends.log');
	my $id = $h2->connect($to, 'x-name' => 'one', @fields);
	is($h2->status($id), $status, "$name: the status");
	is($h2->field($id, 'x-why') // '', $name eq 'an answer' ? 'because' : '', "$name: a field");
	like($h2->read_to_end($id), $body, "$name: the answer");
	like(wait_for_line($t, qr/ CONNECT /, 'ends.log'), qr/^$status\|[^|]*\|\Q$phases\E, log $status$/, "$name: what Lua saw");
}

###############################################################################
# One that waits, and others

my $listener = listener(port(8082));
my @slow = map { $h2->connect('127.0.0.1:' . port(8082), 'x-name' => 'slow', 'x-wait' => 1) } 1 .. 2;
my $quick = $h2->tunnel($to);
$h2->data($quick, 'quick');
is($h2->read_bytes($quick, 5), 'quick', 'another does not wait');
is($h2->read_to_end($h2->get('/get', 'localhost')), 'GET by Lua', 'nor does a request');

$h2->data($quick, ' again', END_STREAM);
is($h2->read_to_end($quick), ' again', 'others go on');
is($h2->status($h2->connect($to, 'x-name' => 'left')), 200, 'others begin');

# One client leaves meanwhile.
$h2->rst($slow[0], CANCEL);
$h2->ping();
log_mark($t, 'ends.log');
$t->write_file('go', '');
like(wait_for_line($t, qr/\|rewrite CONNECT 2 127\.0\.0\.1 slow/, 'ends.log'), qr/^499\|/, 'a client that left while Lua waited');
is($h2->status($slow[1]), 200, 'one that stayed');
accept_end($listener);
is(unaccepted($listener), 0, 'the upstream was asked for that one alone');

###############################################################################
