#!/usr/bin/perl

# proxy_connect_auth beside lua-nginx-module: Lua checks Authorization, and answers 401, as it would for an
# origin.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Auth;
use Test::ProxyConnect::Lua;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http rewrite access/);
lua_or_skip($t)->plan(30);

my $check = <<'END';
            local fields = ngx.req.get_headers()
            ngx.var.seen = tostring(fields["Authorization"]) .. "|" .. tostring(fields["Proxy-Authorization"])
                .. "|" .. tostring(ngx.var.remote_user)
            if fields["Authorization"] == "Basic dXNlcjpnb29k" then
                return
            end
END

my %port = write_servers($t, '',
	access => <<"END",
        proxy_connect_auth on;
        access_by_lua_block {
$check
            ngx.header["WWW-Authenticate"] = 'Basic realm="lua"'
            ngx.exit(401)
        }
END
	several => <<"END",
        proxy_connect_auth on;
        access_by_lua_block {
$check
            ngx.header["WWW-Authenticate"] = 'Negotiate, Basic realm="lua"'
            ngx.exit(ngx.HTTP_UNAUTHORIZED)
        }
END
	later => <<"END",
        proxy_connect_auth on;
        access_by_lua_block {
            ngx.sleep(0.01)
$check
            ngx.header["WWW-Authenticate"] = 'Basic realm="lua"'
            ngx.exit(401)
        }
END
	text => <<"END",
        proxy_connect_auth on;
        access_by_lua_block {
$check
            ngx.status = 401
            ngx.header["WWW-Authenticate"] = 'Basic realm="lua"'
            ngx.say("who are you")
            ngx.exit(ngx.HTTP_OK)
        }
END
	filter => <<"END",
        proxy_connect_auth on;
        access_by_lua_block {
$check
            ngx.exit(401)
        }
        header_filter_by_lua_block {
            ngx.header["X-Status"] = tostring(ngx.status)
            ngx.header["WWW-Authenticate"] = 'Basic realm="filter"'
        }
END
	off => <<"END",
        access_by_lua_block {
$check
            ngx.header["WWW-Authenticate"] = 'Basic realm="lua"'
            ngx.exit(401)
        }
END
);

$t->run();
lone_worker($t);

my $listener = listener(port(8090));
my $authority = '127.0.0.1:' . port(8090);
my $value = credentials('user', 'good');
my $good = "Proxy-Authorization: $value";
my $own = 'Authorization: ' . credentials('me', 'there');

###############################################################################

for my $case (
	[ 'access', 'Proxy-Authenticate: Basic realm="lua"' ],
	[ 'several', 'Proxy-Authenticate: Negotiate, Basic realm="lua"' ],
	[ 'later', 'Proxy-Authenticate: Basic realm="lua"' ],
	[ 'text', 'Proxy-Authenticate: Basic realm="lua"' ],
	[ 'filter', 'Proxy-Authenticate: Basic realm="filter"' ],
) {
	my ($server, @challenges) = @$case;
	my $answer;

	my $line = logged($t, sub { $answer = answer($server, $authority, "Authorization: $value") });
	like($answer, qr/^HTTP\S+ 407 Proxy Authentication Required\x0d/, "$server: status");
	is_deeply([ challenges($answer) ], \@challenges, "$server: the challenge");
	is($line, "$server 407|nil|nil|nil", "$server: what Lua sees without credentials");

	$line = logged($t, sub {
		like(through($listener, port => $port{$server}, fields => [ $own, $good ]), qr/ 200 .*answer$/s,
			"$server: the tunnel");
	});
	is($line, "$server 200|$value|nil|user", "$server: what Lua sees");
}

is(header_of(answer('filter', $authority), 'X-Status'), '407', 'the status that a filter sees');
is(page('text', $authority), '407 who are you', 'a text of Lua');

my $answer = answer('off', $authority, $good);
is(status_of($answer), 401, 'not set: status');
is_deeply([ challenges($answer) ], [ 'WWW-Authenticate: Basic realm="lua"' ], 'not set: the challenge');
like(wait_for_line($t, qr/^off /, 'line.log'), qr/^off 401\|nil\|\Q$value\E\|/, 'not set: what Lua sees');

###############################################################################
