#!/usr/bin/perl

# proxy_connect_auth: the credentials of a CONNECT are those in Proxy-Authorization, whatever module checks
# them, and what asks for them is a 407.

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

my $t = Test::Nginx->new()->has(qw/
	http rewrite access auth_basic limit_req map
/)->plan(129);

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format line '$status $remote_user|$http_authorization|$http_proxy_authorization|$request';
    access_log %%TESTDIR%%/line.log line;
    lingering_close off;

    map $remote_user $is_guest {
        default  "";
        guest    1;
    }

    limit_req_zone  $remote_user  zone=user:1m  rate=1r/m;

    SERVERS

    server {
        listen       127.0.0.1:%%PORT_8098%%;
        server_name  backend;

        location / {
            add_header  X-Sees  "$http_authorization|$http_proxy_authorization|$http_x_other";

            if ($http_authorization = "Basic dXNlcjpnb29k") {
                return 204;
            }

            add_header  WWW-Authenticate  'Basic realm="first"' always;
            add_header  WWW-Authenticate  'Bearer realm="second"' always;
            return 401;
        }
    }
}

EOF

my $basic = 'auth_basic closed; auth_basic_user_file %%TESTDIR%%/users;';

my %servers = (
	basic => "proxy_connect_auth on; $basic",
	off => $basic,
	again => "proxy_connect_auth off; $basic",
	always => "proxy_connect_auth always; $basic",

	reason => "proxy_connect_auth on; proxy_connect_proxy_status proxy.example; $basic",
	delay => "proxy_connect_auth on; $basic DELAY",
	header => <<'EOF',
        proxy_connect_auth on;
        add_header  WWW-Authenticate  'Basic realm="a header"' always;
        return 401;
EOF

	any => <<"EOF",
        proxy_connect_auth on;
        satisfy any;
        allow 127.0.0.2;
        deny all;
        $basic
EOF
	every => <<"EOF",
        proxy_connect_auth on;
        satisfy all;
        allow 127.0.0.2;
        deny all;
        $basic
EOF

	request => <<'EOF',
        proxy_connect_auth on;
        auth_request /auth;
        auth_request_set $sees $upstream_http_x_sees;
        proxy_connect_response "HTTP/1.1 200 OK\r\nX-Sees: $sees\r\n\r\n";

        location = /auth {
            internal;
            proxy_pass http://127.0.0.1:%%PORT_8098%%;
            proxy_pass_request_body off;
        }
EOF
	request_plain => <<'EOF',
        proxy_connect_auth on;
        auth_request /auth;

        location = /auth {
            internal;
            if ($remote_user = user) {
                return 204;
            }
            return 401;
        }
EOF

	return => 'proxy_connect_auth on; if ($http_authorization = "") { return 401; }',
	return_text => 'proxy_connect_auth on; return 401 "who are you\n";',
	return_407 => <<'EOF',
        proxy_connect_auth on;
        add_header  Proxy-Authenticate  'Basic realm="own"' always;
        return 407;
EOF
	forbidden => "proxy_connect_auth on; $basic if (\$is_guest) { return 403; }",
	limited => "proxy_connect_auth on; limit_req zone=user; limit_req_status 429;",

	page => <<"EOF",
        proxy_connect_auth on;
        $basic
        error_page 401 /page;
        location /page {
            auth_basic off;
            return 200 "page 401 \$status\\n";
        }
EOF
	page_407 => <<"EOF",
        proxy_connect_auth on;
        $basic
        error_page 407 /page;
        location /page {
            auth_basic off;
            return 200 "page 407 \$status\\n";
        }
EOF
	page_both => <<"EOF",
        proxy_connect_auth on;
        $basic
        error_page 401 /wrong;
        error_page 407 \@page;
        location \@page {
            auth_basic off;
            return 200 "named \$status\\n";
        }
EOF
	page_status => <<"EOF",
        proxy_connect_auth on;
        $basic
        error_page 401 =403 /page;
        location /page {
            auth_basic off;
            return 200 "page 403\\n";
        }
EOF
	page_file => <<"EOF",
        proxy_connect_auth on;
        $basic
        error_page 401 /page.html;
        location /page.html {
            auth_basic off;
            root %%TESTDIR%%;
        }
EOF
	page_shared => <<'EOF',
        proxy_connect_auth on;
        error_page 407 /page;
        if ($request_method = GET) {
            return 401;
        }
        location /page {
            return 200 "page of a CONNECT\n";
        }
EOF
);

# nginx 1.4 has no auth_request; before 1.7.5 add_header leaves errors alone.
my $has_request = $t->has_module('auth_request') && $t->has_module('proxy');
my $has_always = $t->has_version('1.7.5');

delete @servers{qw/ request request_plain /} unless $has_request;
$conf =~ s/SERVERS/server_blocks(%servers)/e;
$conf =~ s/(add_header .*) always;/$1;/g unless $has_always;
$conf =~ s/DELAY/$t->has_version('1.17.10') ? 'auth_delay 100ms;' : ''/e;
$t->write_file_expand('nginx.conf', $conf);
$t->write_file('users', "user:{PLAIN}good\nguest:{PLAIN}good\n");
$t->write_file('page.html', "<html>401 Authorization Required</html>\n");

my $echo = upstream($t, echo(), port(8090));
my $knows_407 = $t->has_version('1.31.0');

$t->run();

###############################################################################

my $good = credentials('user', 'good');
my $wrong = credentials('user', 'wrong');

# Basic, as auth_basic checks it
is(through('basic', $echo, "Proxy-Authorization: $good"), '200 echo', 'good');
is(wait_for_line($t, qr/^200 /, 'line.log'), "200 user|$good|-|CONNECT $echo " . PROTOCOL,
	'good: the access log');

refused($t, 'basic', 'missing', $echo);
refused($t, 'basic', 'wrong', $echo, "Proxy-Authorization: $wrong");
refused($t, 'basic', 'another user', $echo, 'Proxy-Authorization: ' . credentials('nobody', 'good'));
refused($t, 'basic', 'in the field of the origin', $echo, "Authorization: $good");
refused($t, 'basic', 'empty', $echo, 'Proxy-Authorization:');
refused($t, 'basic', 'another scheme', $echo, 'Proxy-Authorization: Bearer dXNlcjpnb29k');
refused($t, 'basic', 'no base64', $echo, 'Proxy-Authorization: Basic %%%%');
refused($t, 'basic', 'no colon', $echo, 'Proxy-Authorization: Basic dXNlcg==');
refused($t, 'basic', 'wrong, and good ones for the origin', $echo,
	"Proxy-Authorization: $wrong", "Authorization: $good");

is(through('basic', $echo, "Authorization: $wrong", "Proxy-Authorization: $good"), '200 echo',
	'good, and others for the origin');
is(through('basic', $echo, "pRoXY-authorization:    $good  "), '200 echo', 'in odd letters');
is(through('basic', $echo, (map { "X-$_: $_" } 1 .. 60), "Proxy-Authorization: $good",
	(map { "Y-$_: $_" } 1 .. 60)), '200 echo', 'among many fields');

my $long = credentials('user', 'x' x 3000);
is(status_of(answer('basic', $echo, "Proxy-Authorization: $long")), 407, 'long');
$long = credentials('user', 'x' x 12000);
# Over HTTP/2 a field is bounded with all others only.
is(status_of(answer('basic', $echo, "Proxy-Authorization: $long")), OVER_HTTP2 ? 407 : 400, 'too long');

# Two of them
log_mark($t);
for my $pair ([ $good, $good ], [ $good, $wrong ], [ $wrong, $good ]) {
	my $answer = answer('basic', $echo, map { "Proxy-Authorization: $_" } @$pair);
	is(status_of($answer), 400, 'two: status');
	is_deeply([ challenges($answer) ], [], 'two: no challenge');
	like($answer, qr/^Connection: close\x0d$/m, 'two: the connection');
}

SKIP: {
	skip 'nginx itself refuses two', 1 if $knows_407;
	is(scalar log_lines($t, qr/\[info\].* client sent more than one "Proxy-Authorization" header/), 3,
		'two: the log');
}

refused($t, 'delay', 'auth_delay', $echo, "Proxy-Authorization: $wrong");

# The reason, for the client
is(header_of(answer('reason', $echo), 'Proxy-Status'), 'proxy.example; error=http_request_denied',
	'Proxy-Status');

# Servers without it
for my $server ('off', 'again') {
	my $answer = answer($server, $echo);
	is(status_of($answer), $knows_407 ? 407 : 401, "$server: status");
	is_deeply([ challenges($answer) ],
		[ ($knows_407 ? 'Proxy' : 'WWW') . '-Authenticate: Basic realm="closed"' ],
		"$server: the challenge");
	like($answer, qr/^Connection: close\x0d$/m, "$server: the connection");
}

# Who else may let it in
is(status_from('any', '127.0.0.2', $echo), 200, 'satisfy any: by address');
is(through('any', $echo, "Proxy-Authorization: $good"), '200 echo', 'satisfy any: by name');
refused($t, 'any', 'satisfy any: by neither', $echo);
refused($t, 'any', 'satisfy any: by what is not for a proxy', $echo, "Authorization: $good");
is(status_from('every', '127.0.0.2', $echo, "Proxy-Authorization: $good"), 200, 'satisfy all: both');
is(status_from('every', undef, $echo, "Proxy-Authorization: $good"), 403, 'satisfy all: name alone');
is(status_from('every', '127.0.0.2', $echo), 407, 'satisfy all: address alone');

# auth_request, to somebody who reads Authorization
SKIP: {
	skip 'no auth_request', 11 unless $has_request;

	my $header = header('request', $echo, "Proxy-Authorization: $good", 'X-Other: other');
	is(status_of($header), 200, 'auth_request: good');
	is(header_of($header, 'X-Sees'), "$good||other", 'auth_request: what is sent');

	$header = header('request', $echo, "Proxy-Authorization: $good", "Authorization: $wrong");
	is(header_of($header, 'X-Sees'), "$good||", 'auth_request: what is sent of two');

	my $answer = answer('request', $echo, "Authorization: $good");
	is(status_of($answer), 407, 'auth_request: those for the origin');
	like(body_of($answer), qr!<h1>407 Proxy Authentication Required</h1>!, 'auth_request: the page');
	is(header_of($answer, 'Content-Length'), length body_of($answer), 'auth_request: the length');

	my @asked = map { "Proxy-Authenticate: $_" } 'Basic realm="first"', 'Bearer realm="second"';
	is_deeply([ challenges($answer) ], [ $t->has_version('1.23.0') ? @asked : (challenges($answer))[0] ],
		'auth_request: the challenges');
	like((challenges($answer))[0], qr/^Proxy-Authenticate: \w+ realm="\w+"$/, 'auth_request: a challenge');

	is(through('request_plain', $echo, "Proxy-Authorization: $good"), '200 echo', 'subrequest: good');
	$answer = answer('request_plain', $echo);
	is(status_of($answer), 407, 'subrequest: missing');
	is_deeply([ challenges($answer) ], [], 'subrequest: no challenge');
}

# Rewrite
SKIP: {
	skip NO_REWRITE, 9 unless runs_rewrite($t);

	is(through('return', $echo, "Proxy-Authorization: $good"), '200 echo', 'return: good');
	like(answer('return', $echo, "Authorization: $good"),
		qr/^HTTP\S+ 407 Proxy Authentication Required\x0d/, 'return: those for the origin');
	is(page('return_text', $echo), '407 who are you', 'return with a text');

	my $answer = answer('return_407', $echo);
	like($answer, qr/^HTTP\S+ 407 Proxy Authentication Required\x0d/, 'return 407');
	is_deeply([ challenges($answer) ], [ ('Proxy-Authenticate: Basic realm="own"') x !!$has_always ],
		'return 407: the challenge');

	$answer = answer('header', $echo);
	is(status_of($answer), 407, 'add_header');
	is_deeply([ challenges($answer) ], [ ('Proxy-Authenticate: Basic realm="a header"') x !!$has_always ],
		'add_header: the challenge');

	my $guest = credentials('guest', 'good');
	is(status_of(answer('forbidden', $echo, "Proxy-Authorization: $guest")), 403, 'a user in a map');
	is(through('forbidden', $echo, "Proxy-Authorization: $good"), '200 echo', 'another user');
}

# $remote_user
my $other = credentials('other', 'any');
is(through('limited', $echo, "Proxy-Authorization: $good"), '200 echo', 'limit_req by user: one');
is(through('limited', $echo, "Proxy-Authorization: $other"), '200 echo', 'limit_req by user: another');
is(status_of(answer('limited', $echo, "Proxy-Authorization: $good")), 429, 'limit_req by user: again');

# error_page
is(page('page', $echo), '407 page 401 ' . ($knows_407 ? 407 : 401), 'error_page 401');
is_deeply([ challenges(answer('page', $echo)) ], [ 'Proxy-Authenticate: Basic realm="closed"' ],
	'error_page 401: the challenge');
is(page('page_407', $echo), '407 page 407 ' . ($knows_407 ? 407 : 401), 'error_page 407');
is(page('page_both', $echo), '407 named ' . ($knows_407 ? 407 : 401), 'error_page for both');
is(page('page_status', $echo), '403 page 403', 'error_page with another status');
is(page('page_file', $echo), '407 <html>401 Authorization Required</html>', 'error_page with a file');

# What is no CONNECT
my $answer = get('basic', "Authorization: $good", "Proxy-Authorization: $wrong");
is(status_of($answer), 404, 'GET: good ones for the origin');
$answer = get('basic', "Proxy-Authorization: $good");
is(status_of($answer), 401, 'GET: those for a proxy');
is_deeply([ challenges($answer) ], [ 'WWW-Authenticate: Basic realm="closed"' ], 'GET: the challenge');
like(body_of($answer), qr!<h1>401 Authorization Required</h1>!, 'GET: the page');
$answer = get('basic', ("Proxy-Authorization: $good") x 2, "Authorization: $good");
is(status_of($answer), $knows_407 ? 400 : 404, 'GET: two for a proxy');
is(status_of(get('page_shared')), 401, 'GET: error_page of a CONNECT');

# A CONNECT that can't become a tunnel, whatever the credentials
for my $line ('CONNECT nowhere HTTP/1.1', 'CONNECT :443 HTTP/1.1') {
	my $answer = exchange("$line\x0d\x0aHost: x\x0d\x0aProxy-Authorization: $good\x0d\x0a\x0d\x0a",
		port => server_port('basic'));
	is(status_of($answer), 400, "$line: status");
	like($answer, qr/^Connection: close\x0d$/m, "$line: the connection");
}

# No level of the log tells the field's value, but of a line that is too long to be read.
$t->stop();
my @told = grep { /Proxy-Authorization: [^"\s]|proxy_connect: .*dXNlc/i && !/ sent too long header line: / }
	split /^/, $t->read_file('error.log');
is_deeply(\@told, [], 'no credentials in the log');

###############################################################################

# A CONNECT that is asked for credentials.
sub refused {
	my ($t, $server, $name, @request) = @_;
	log_mark($t, 'line.log');

	my $answer = answer($server, @request);
	like($answer, qr!^HTTP/1\.1 407 Proxy Authentication Required\x0d!, "$name: status");
	is_deeply([ challenges($answer) ], [ 'Proxy-Authenticate: Basic realm="closed"' ],
		"$name: the challenge");
	is_deeply([ body_of($answer) =~ /<(title|h1)>407 Proxy Authentication Required</g ], [ 'title', 'h1' ],
		"$name: the page");
	is(header_of($answer, 'Content-Length'), length body_of($answer), "$name: the length");
	like(wait_for_line($t, qr/^4/, 'line.log'), qr/^407 /, "$name: the access log");
}

sub get {
	my ($server, @fields) = @_;
	return exchange(join("\x0d\x0a", 'GET /x HTTP/1.1', 'Host: x', 'Connection: close', @fields, '', ''),
		port => server_port($server));
}

###############################################################################
