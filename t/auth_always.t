#!/usr/bin/perl

# proxy_connect_auth always: a server that is a proxy for http:// URLs, too, asks for its users' credentials
# there as it does for a CONNECT. What the origin asks for is the origin's.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Auth;
use Test::ProxyConnect::Servers;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http rewrite auth_basic proxy access/)->plan(77);

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format line '$status $remote_user $request';
    access_log %%TESTDIR%%/line.log line;
    lingering_close off;

    SERVERS

    # the origin
    server {
        listen       127.0.0.1:%%PORT_8098%%;
        server_name  origin;
        access_log   off;

        add_header  X-Sees  "$http_authorization|$http_proxy_authorization|$http_x_user|$http_x_other" always;

        location / {
            return 200 "origin\n";
        }
        location /closed {
            add_header  X-Sees  "$http_authorization|$http_proxy_authorization" always;
            add_header  WWW-Authenticate  'Basic realm="origin"' always;
            return 401 "401 Authorization Required\n";
        }
        location /parent {
            add_header  Proxy-Authenticate  'Basic realm="parent"' always;
            return 407;
        }
        location /check {
            if ($http_authorization = "Basic dXNlcjpnb29k") {
                return 204;
            }
            return 401;
        }
        location /elsewhere {
            add_header  X-Accel-Redirect  /again;
            return 204;
        }
    }

    server {
        listen       127.0.0.1:%%PORT_8096%%HTTP2;
        server_name  http2;

        proxy_connect_auth  always;
        auth_basic  closed;
        auth_basic_user_file  %%TESTDIR%%/users;

        location / {
            proxy_pass http://127.0.0.1:%%PORT_8098%%;
            proxy_set_header X-User $remote_user;
        }
    }

    # no proxy for CONNECT
    server {
        listen       127.0.0.1:%%PORT_8097%%;
        server_name  plain;

        proxy_connect_auth  always;
        auth_basic  closed;
        auth_basic_user_file  %%TESTDIR%%/users;

        location / {
            proxy_pass http://127.0.0.1:%%PORT_8098%%;
        }
    }
}

EOF

my $basic = 'auth_basic closed; auth_basic_user_file %%TESTDIR%%/users;';
my $pass = <<'EOF';
            proxy_pass http://127.0.0.1:%%PORT_8098%%;
            proxy_set_header X-User $remote_user;
EOF

my %servers = (
	basic => <<"EOF",
        proxy_connect_auth always;
        $basic
        location / {
$pass
        }
        location /open {
            auth_basic off;
$pass
        }
        location /again {
$pass
        }
        location /rewritten {
            rewrite ^ /closed last;
        }
        location /returned {
            return 401;
        }
        location /intercepted {
            proxy_intercept_errors on;
            error_page 401 /sorry;
            proxy_pass http://127.0.0.1:%%PORT_8098%%/closed;
        }
        location /sorry {
            return 200 "sorry\\n";
        }
        location /missing {
            error_page 404 = /again;
            root %%TESTDIR%%;
        }
        location /missed {
            try_files /nowhere /again;
        }
EOF
	request => <<"EOF",
        proxy_connect_auth always;
        location / {
            auth_request /check;
$pass
        }
        location /missing {
            auth_request /check;
            error_page 404 = /again;
            root %%TESTDIR%%;
        }
        location = /check {
            internal;
            proxy_pass http://127.0.0.1:%%PORT_8098%%;
        }
EOF
	any => <<"EOF",
        proxy_connect_auth always;
        location / {
            satisfy any;
            allow 127.0.0.2;
            deny all;
            $basic
$pass
        }
EOF
	page => <<"EOF",
        proxy_connect_auth always;
        $basic
        error_page 407 /page;
        location /inner {
            error_page 401 \@inner;
$pass
        }
        location / {
$pass
        }
        location = /page {
            auth_basic off;
            return 200 "page\\n";
        }
        location \@inner {
            auth_basic off;
            root %%TESTDIR%%;
            try_files /inner.html =404;
        }
EOF
);

# nginx 1.4 has no auth_request; before 1.7.5 add_header leaves errors alone.
my $has_request = $t->has_module('auth_request');
my $has_always = $t->has_version('1.7.5');

delete $servers{request} unless $has_request;
$conf =~ s/SERVERS/server_blocks(%servers)/e;
my $has_http2 = $t->has_module('http_v2') && `curl --version` =~ /HTTP2/;
$conf =~ s/HTTP2;/$has_http2 ? ' http2;' : ';'/e;
$conf =~ s/(add_header .*) always;/$1;/g unless $has_always;
$t->write_file_expand('nginx.conf', $conf);
$t->write_file('users', "user:{PLAIN}good\n");
$t->write_file('inner.html', "inner\n");

my $echo = upstream($t, echo(), port(8090));

run_quietly($t);
server_port('plain', 8097);

my $value = credentials('user', 'good');
my $good = "Proxy-Authorization: $value";
my $wrong = 'Proxy-Authorization: ' . credentials('user', 'wrong');
my $own = credentials('me', 'there');

###############################################################################
# Asked for credentials

for my $case (
	[ 'missing', 'basic' ],
	[ 'wrong', 'basic', $wrong ],
	[ 'for the origin', 'basic', "Authorization: $value" ],
	[ 'wrong, and good ones for the origin', 'basic', $wrong, "Authorization: $value" ],
	[ 'no proxy for CONNECT', 'plain' ],
) {
	my ($name, $server, @fields) = @$case;
	my $answer = ask($server, 'http://origin.example/', @fields);

	like($answer, qr!^HTTP/1\.1 407 Proxy Authentication Required\x0d!, "$name: status");
	is_deeply([ challenges($answer) ], [ 'Proxy-Authenticate: Basic realm="closed"' ], "$name: the challenge");
	like(body_of($answer), qr!<h1>407 Proxy Authentication Required</h1>!, "$name: the page");
	is(header_of($answer, 'Content-Length'), length body_of($answer), "$name: the length");
	is(header_of($answer, 'X-Sees'), undef, "$name: the origin");
}

for my $path ('/rewritten', '/returned', '/missing', '/missed') {
	is(status_of(ask('basic', $path)), 407, "$path: missing");
}

my $head = ask_by('HEAD', 'basic', '/');
is(status_of($head), 407, 'HEAD: status');
is(body_of($head), '', 'HEAD: no body');
is(header_of($head, 'Content-Length'), length body_of(ask('basic', '/')), 'HEAD: the length');

is(status_of(ask('basic', '/', $good, $good)), 400, 'two: status');
is(status_of(ask('any', '/')), 407, 'satisfy any');

SKIP: {
	skip 'no auth_request', 3 unless $has_request;
	is(status_of(ask('request', '/', "Authorization: $value")), 407, 'auth_request: for the origin');
	is(sees('request', '/', $good, "Authorization: $own"), "$own||user|", 'auth_request');
	is(sees('request', '/missing', $good, "Authorization: $own"), "$own||user|", 'auth_request, error_page');
}

###############################################################################
# What the origin gets

is(sees('basic', '/'), 'no answer', 'missing');
is(sees('basic', 'http://origin.example/', $good, 'X-Other: other'), '||user|other', 'good');
is(sees('basic', '/', $good, "Authorization: $own"), "$own||user|", 'good, and others for the origin');
is(sees('basic', '/', "Authorization: $own", $good), "$own||user|", 'the same the other way round');
is(sees('basic', '/', (map { "X-$_: $_" } 1 .. 40), "Authorization: $own", (map { "Y-$_: $_" } 1 .. 40),
	$good, 'X-Other: other'), "$own||user|other", 'among many fields');
is(sees('basic', '/open', "Authorization: $own"), "$own|||", 'where nobody asks');
is(sees('basic', '/open', "Authorization: $own", $wrong), "$own||user|", 'where nobody asks: wrong');
is(sees('any', '/', $good, "Authorization: $own"), "$own||user|", 'satisfy any: by name');
is(sees_from('127.0.0.2', 'any', '/', "Authorization: $own"), "$own|||", 'satisfy any: by address');
is(sees('plain', '/', $good, "Authorization: $own"), "$own|||", 'no proxy for CONNECT');

# Redirected inside nginx, and judged again
is(sees('basic', '/missing', $good, "Authorization: $own"), "$own||user|", 'error_page');
is(sees('basic', '/missed', $good, "Authorization: $own"), "$own||user|", 'try_files');
is(sees('basic', '/elsewhere', $good, "Authorization: $own"), "$own||user|", 'X-Accel-Redirect');
is(sees('basic', '/missing', $good), '||user|', 'error_page: nothing for the origin');

log_mark($t, 'line.log');
ask('basic', '/', $good, "Authorization: $own");
is(wait_for_line($t, qr/^/, 'line.log'), '200 user GET / HTTP/1.1', 'the access log');

###############################################################################
# What the origin asks for

for my $path ('/closed', '/rewritten') {
	my $answer = ask('basic', $path, $good);
	like($answer, qr!^HTTP/1\.1 401 !, "$path: status");
	is_deeply([ challenges($answer) ], [ ('WWW-Authenticate: Basic realm="origin"') x !!$has_always ], "$path: the challenge");
	is(body_of($answer), "401 Authorization Required\n", "$path: the page");
}

my $answer = ask('basic', '/intercepted', $good);
like($answer, qr!^HTTP/1\.1 401 !, 'proxy_intercept_errors: status');
is(body_of($answer), "sorry\n", 'proxy_intercept_errors: the page');

# Before, nginx itself has no status line for 407.
SKIP: {
	skip 'an origin has no 407', 2 unless $has_always;
	$answer = ask('basic', '/parent', $good);
	is(status_of($answer), 407, 'a parent: status');
	is_deeply([ challenges($answer) ], [ 'Proxy-Authenticate: Basic realm="parent"' ],
		'a parent: the challenge');
}

###############################################################################
# Pages

$answer = ask('page', '/');
is(status_of($answer) . ' ' . body_of($answer), "407 page\n", 'error_page of the server');
is_deeply([ challenges($answer) ], [ 'Proxy-Authenticate: Basic realm="closed"' ], 'error_page: the challenge');
$answer = ask('page', '/inner');
is(status_of($answer) . ' ' . body_of($answer), "407 inner\n", 'error_page of a location');
is(sees('page', '/', $good), '||user|', 'error_page: good');

###############################################################################
# The connection, and a CONNECT on it

my $client = client(port => server_port('basic'));
$client->send("POST http://origin.example/ HTTP/1.1\x0d\x0aHost: x\x0d\x0aContent-Length: 4\x0d\x0a\x0d\x0abody");
my $header = $client->read_header();
like($header, qr/^HTTP\S+ 407 .*^Connection: keep-alive\x0d$/ms, 'POST: the connection');
$client->read_bytes(header_of($header, 'Content-Length'));

$client->send("GET http://origin.example/ HTTP/1.1\x0d\x0aHost: x\x0d\x0a$good\x0d\x0a\x0d\x0a");
$header = $client->read_header();
is(status_of($header), 200, 'the next request');
is($client->read_bytes(header_of($header, 'Content-Length')), "origin\n", 'the next request: the origin');

$client->send(connect_request($echo));
$header = $client->read_header();
is(status_of($header), 407, 'a CONNECT');
$client->read_bytes(header_of($header, 'Content-Length'));

is(status_of($client->send(connect_request($echo, $good))->read_header()), 200, 'a CONNECT again');
is($client->send('echo')->read_bytes(4), 'echo', 'the tunnel');
$client->close();

is(status_of(answer('plain', $echo, $good)), 405, 'no proxy for CONNECT: a CONNECT');

###############################################################################
# HTTP/2, which has no CONNECT here

SKIP: {
	skip 'no HTTP/2', 4 unless $has_http2;
	my $url = 'http://127.0.0.1:' . port(8096) . '/';

	is(curl('-o', '/dev/null', '-w', '%{http_code} %{http_version}', $url), '407 2', 'HTTP/2: missing');
	like(curl('-i', '-H', "Authorization: $value", $url), qr/^proxy-authenticate: Basic realm="closed"\x0d$/m,
		'HTTP/2: for the origin');
	like(curl('-i', $url), qr!<h1>407 Proxy Authentication Required</h1>!, 'HTTP/2: the page');
	like(curl('-i', '-H', $good, '-H', "Authorization: $own", $url), qr/^x-sees: \Q$own\E\|\|user\|\x0d$/m,
		'HTTP/2: good');
}

###############################################################################

sub curl {
	my (@arguments) = @_;
	open my $curl, '-|', 'curl', '--disable', '--silent', '--max-time', 20, '--noproxy', '*',
		'--http2-prior-knowledge', @arguments or die "Can't run curl: $!\n";
	return join '', <$curl>;
}

sub ask {
	return ask_by('GET', @_);
}

sub ask_by {
	my ($method, $server, $target, @fields) = @_;
	return ask_from(undef, $method, $server, $target, @fields);
}

sub ask_from {
	my ($local, $method, $server, $target, @fields) = @_;
	return exchange(join("\x0d\x0a", "$method $target HTTP/1.1", 'Host: origin.example', 'Connection: close',
		@fields, '', ''), port => server_port($server), $local ? (local => $local) : ());
}

# What the origin sees: credentials for it, for a proxy, and the proxy's user.
sub sees {
	return sees_from(undef, @_);
}

sub sees_from {
	my ($local, $server, @request) = @_;
	return header_of(ask_from($local, 'GET', $server, @request), 'X-Sees') // 'no answer';
}

###############################################################################
