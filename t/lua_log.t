#!/usr/bin/perl

# CONNECT beside lua-nginx-module: what Lua sees in the log phase, and requests of other methods on the
# same connection.

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

my $t = Test::Nginx->new()->has(qw/http rewrite access/);
lua_or_skip($t)->plan(35);

my $init = <<'END';
    init_by_lua_block {
        local names = { "connect_addr", "proxy_connect_bytes_sent", "proxy_connect_bytes_received",
            "proxy_connect_close_reason", "proxy_connect_resolve_time",
            "proxy_connect_connect_time", "proxy_connect_first_byte_time",
            "proxy_connect_duration" }
        local timeouts = { "proxy_connect_connect_timeout", "proxy_connect_data_timeout",
            "proxy_connect_read_timeout", "proxy_connect_send_timeout" }

        local function list(names)
            local list = {}
            for _, name in ipairs(names) do
                table.insert(list, tostring(ngx.var[name]))
            end
            return table.concat(list, "|")
        end

        function values()
            return list(names)
        end

        function values_of_timeouts()
            return list(timeouts)
        end
    }
END

my %port = write_servers($t, $init,
	# each is read early too, which must not be what the log phase gets
	log => <<'END',
        access_by_lua_block {
            ngx.ctx.early = values()
            if ngx.var.http_x_exit then
                ngx.exit(tonumber(ngx.var.http_x_exit))
            end
        }
        log_by_lua_block {
            ngx.var.seen = ngx.ctx.early .. " " .. ngx.status .. "|" .. values()
        }
END

	timeout => <<'END',
        proxy_connect_data_timeout 300ms;
        log_by_lua_block {
            ngx.var.seen = ngx.var.proxy_connect_close_reason .. "|"
                .. ngx.var.proxy_connect_duration
        }
END

	error => 'log_by_lua_block { error("a secret of Lua") }',

	# one connection for several requests
	keepalive => <<'END',
        access_by_lua_block {
            ngx.ctx.method = (ngx.ctx.method or "") .. ngx.req.get_method()
        }
        log_by_lua_block {
            ngx.var.seen = ngx.ctx.method .. " " .. tostring(ngx.var.connect_host)
                .. " " .. values_of_timeouts() .. " " .. values()
        }
        location / {
            content_by_lua_block {
                ngx.req.read_body()
                local text = "hello " .. tostring(ngx.req.get_body_data())
                ngx.header["Content-Length"] = #text
                ngx.print(text)
            }
        }
END
);

$t->run();

my $listener = listener(port(8081));
my $where = '127.0.0.1:' . port(8081);
my $refused = '127.0.0.1:' . port(8082);
my $established = "HTTP/1.1 200 Connection Established\x0d\x0aProxy-agent: nginx\x0d\x0a\x0d\x0a";

my $worker = lone_worker($t);
logged($t, sub { through($listener, port => $port{error}) });
my $before = steady_fds($worker);

###############################################################################
# What the log phase gets

my $time = qr/\d+\.\d{3}/;
my $early = 'nil|0|0|-|-|-|-|-';

my ($client, $upstream);

for my $case (
	[ 'client_eof', sub { $client->close(); $upstream->read_to_end(); $upstream->close() } ],
	[ 'upstream_eof', sub { $upstream->close(); $client->read_to_end(); $client->close() } ],
	[ 'client_reset', sub { $client->reset(); $upstream->read_to_end(); $upstream->close() } ],
	[ 'upstream_reset', sub { $upstream->reset(); $client->read_to_end(); $client->close() } ],
) {
	my ($reason, $end) = @$case;

	like(logged($t, sub {
		($client, $upstream) = pair($listener, port => $port{log}, early => 'early');
		is($upstream->read_bytes(5), 'early', "$reason: early bytes");
		is_deeply([ cross($client, $upstream, 'up', 'downwards') ], [ 'up', 'downwards' ],
			"$reason: the tunnel");
		$end->();
	}), qr/^log 200\|\Q$early 200|$where|7|9|$reason\E\|0\.000\|$time\|$time\|$time$/,
		"$reason: what log_by_lua sees");
}

like(logged($t, sub { answer('log', $refused) }),
	qr/^log 502\|\Q$early 502|$refused|0|0|-\E\|0\.000\|-\|-\|-$/, 'connecting failed');
like(logged($t, sub { answer('log', $where, 'X-Exit: 403') }),
	qr/^log 403\|\Q$early 403|$early\E$/, 'refused by Lua');

like(logged($t, sub {
	my ($client, $upstream) = pair($listener, port => $port{timeout});
	is($client->read_to_end() . $upstream->read_to_end(), '', 'timeout: both ends are told');
}), qr/^timeout 200\|timeout\|0\.[3-9]\d\d$/, 'timeout: what log_by_lua sees');

log_mark($t);
is(logged($t, sub {
	is(through($listener, port => $port{error}), $established . 'answer', 'error: the tunnel');
}), 'error 200|', 'error: the access log');
is(scalar(log_lines($t, qr/\[error\] .*a secret of Lua/)), 1, 'error: the log');

###############################################################################
# Several requests on one connection

my %request = (
	GET => "GET / HTTP/1.1\x0d\x0aHost: x\x0d\x0a\x0d\x0a",
	POST => "POST / HTTP/1.1\x0d\x0aHost: x\x0d\x0aContent-Length: 4\x0d\x0a\x0d\x0abody",
);

$client = client(port => $port{keepalive});

for my $method (qw/ GET POST GET /) {
	is(logged($t, sub {
		$client->send($request{$method});
		is(hello($client), $method eq 'POST' ? 'hello body' : 'hello nil', "keepalive: $method");
	}), "keepalive 200|$method nil ||| nil|||||||", "keepalive: $method in the access log");
}

like(logged($t, sub {
	$client->send(connect_request($where) . 'early');
	$upstream = accept_end($listener);
	like($client->read_header(), qr/ 200 /, 'keepalive: then a CONNECT');
	is($upstream->read_bytes(5), 'early', 'keepalive: early bytes');
	is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ],
		'keepalive: the tunnel');
	$_->close() for $client, $upstream;
}), qr/^keepalive 200\|CONNECT 127\.0\.0\.1 60000\|60000\|60000\|60000 /,
	'keepalive: CONNECT in the access log');

$client = client(port => $port{keepalive});
$client->send(join '', @request{qw/ GET POST /}, connect_request($where), 'early');
is(hello($client), 'hello nil', 'in one piece: GET');
is(hello($client), 'hello body', 'in one piece: POST');
$upstream = accept_end($listener);
like($client->read_header(), qr/ 200 /, 'in one piece: CONNECT');
is($upstream->read_bytes(5), 'early', 'in one piece: early bytes');
is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ], 'in one piece: the tunnel');
$_->close() for $client, $upstream;

is(settled_fds($worker, $before), $before, 'nothing is left open');

###############################################################################

# What Lua answers to a request that is no CONNECT.
sub hello {
	my ($client) = @_;
	return $client->read_bytes(header_of($client->read_header(), 'Content-Length'));
}

###############################################################################
