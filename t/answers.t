#!/usr/bin/perl

# The answers to a CONNECT that gets no tunnel: their statuses, their lines in the log, and what
# nginx's own directives at the level of the server make of them. Locations have no say.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use MIME::Base64 qw/ encode_base64 /;

use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Servers;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/
	http rewrite access auth_basic limit_conn map
/)->plan(73);

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format line '$status $request';
    access_log %%TESTDIR%%/line.log line;

    limit_conn_zone  $binary_remote_addr  zone=client:1m;
    limit_conn_log_level  warn;

    NO_NAME_SERVER

    SERVERS

    server {
        listen       127.0.0.1:%%PORT_8099%%;
        server_name  off;

        error_page 405 /error;
        location /error {
            return 200 "off $request_method\n";
        }
    }
}

EOF

# Most servers differ in a few lines only.
my %servers = (
	plain => 'proxy_connect_connect_timeout 300ms;',
	resolver => 'resolver 127.0.0.1:%%PORT_8981_UDP%% ipv6=off; resolver_timeout 300ms;',

	# error_page
	page => <<'EOF',
        error_page 400 403 405 500 502 504 /error;
        location /error {
            return 200 "page $status $request_method $connect_host $uri\n";
        }
EOF
	page_none => <<'EOF',
        error_page 502 =503 /error;
        location / {
            return 418 "wrong location";
        }
        location = /error {
            return 200 "changed $request_method\n";
        }
EOF
	page_named => <<'EOF',
        error_page 403 502 @error;
        location @error {
            return 200 "named $request_method $connect_host $connect_port\n";
        }
EOF
	page_named_rewrite => <<'EOF',
        error_page 502 @error;
        location @error {
            rewrite ^ /found/it last;
        }
        location /found {
            return 200 "found $request_method $uri\n";
        }
EOF
	page_redirect => <<'EOF',
        error_page 403 502 http://elsewhere.example/$connect_port;
EOF
	page_file => <<'EOF',
        error_page 502 /error.html;
EOF
	page_again => <<'EOF',
        recursive_error_pages on;
        error_page 502 /first;
        location /first {
            error_page 404 /second;
            return 404;
        }
        location /second {
            return 200 "second\n";
        }
EOF

	# rewrite
	return => <<'EOF',
        return 403 "no $connect_host\n";
EOF
	return_some => <<'EOF',
        if ($connect_host = 127.0.0.9) {
            return 403 "no $connect_host\n";
        }
        if ($connect_port = 9) {
            return 302 http://elsewhere.example/;
        }
        if ($http_user_agent = robot) {
            return 444;
        }
        if ($request_method != CONNECT) {
            return 402;
        }
EOF
	rewrite => <<'EOF',
        rewrite ^ /forbidden last;
        location / {
            deny all;
        }
EOF
	break => <<'EOF',
        rewrite ^ /forbidden break;
        location / {
            deny all;
        }
EOF

	# access
	deny => 'deny all;',
	allow => 'allow 127.0.0.2; deny all;',
	basic => 'auth_basic closed; auth_basic_user_file %%TESTDIR%%/users;',
	request => <<'EOF',
        auth_request /auth;
        auth_request_set $why $known;
        error_page 403 /why;
        location = /auth {
            internal;
            if ($connect_host = 127.0.0.9) {
                return 403;
            }
            if ($connect_port = 9) {
                return 401;
            }
            if ($http_x_broken) {
                return 500;
            }
            set $known "$request_method $connect_host:$connect_port $uri";
            return 204;
        }
        location = /why {
            return 403 "denied by auth_request\n";
        }
        proxy_connect_response "HTTP/1.1 200 OK\r\nX-Why: $why\r\n\r\n";
EOF
	any => <<'EOF',
        satisfy any;
        allow 127.0.0.2;
        deny all;
        auth_basic closed;
        auth_basic_user_file %%TESTDIR%%/users;
EOF
	every => <<'EOF',
        satisfy all;
        allow 127.0.0.2;
        deny all;
        auth_basic closed;
        auth_basic_user_file %%TESTDIR%%/users;
EOF
	limit => 'limit_conn client 1; limit_conn_status 429;',

	# what must not count
	locations => <<'EOF',
        location / {
            deny all;
            auth_basic closed;
            auth_basic_user_file %%TESTDIR%%/nobody;
            limit_conn client 1;
            return 418;
        }
        location = / {
            return 418;
        }
        location ~ . {
            return 418;
        }
EOF
	others => <<'EOF',
        root /nowhere;
        index none;
        autoindex on;
        try_files /nothing =404;
        client_max_body_size 1;
        keepalive_timeout 0;
        expires 1d;
        add_header X-Added yes ALWAYS;
        charset utf-8;
EOF
);

delete $servers{request} unless $t->has_module('auth_request');

my $always = $t->has_version('1.7.5') ? 'always' : '';
$servers{others} =~ s/ALWAYS/$always/;

my $http = server_blocks(%servers);
server_port(off => 8099);

$t->write_file_expand('nginx.conf', ipv4_only($t, $conf =~ s/^\s*SERVERS$/$http/mr
	=~ s/NO_NAME_SERVER/no_name_server($t)/er));

$t->write_file('users', "user:{PLAIN}secret\n");
$t->write_file('nobody', '');
$t->write_file('error.html', "error page\n");

name_server($t, 8981, 'silent.example' => 'drop');
$t->run();

my $echo = upstream($t, echo(), port(8081));
my $refused = '127.0.0.1:' . port(8082);
my $full = full_backlog(port(8083));
my $full_address = '127.0.0.1:' . port(8083);

###############################################################################
# Statuses, and their lines in full

my $while_connecting = ' while connecting to upstream';

is_answered($t, 'plain', $refused, 502, "upstream connect failed (peer:$refused)"
	. ' (111: Connection refused)' . $while_connecting, 'refused');
is_answered($t, 'plain', '127.255.255.255:443', 502,
	'upstream connect failed (peer:127.255.255.255:443) (101: Network is unreachable)'
	. $while_connecting, 'unreachable');
is_answered($t, 'plain', $full_address, 504,
	"upstream connect timed out (peer:$full_address)" . $while_connecting, 'timeout');
is_answered($t, 'plain', 'some.example:443', 502, 'no resolver defined to resolve some.example'
	. " while resolving the upstream's name", 'no resolver');
is_answered($t, 'resolver', 'nobody.example:443', 502,
	'nobody.example could not be resolved (3: Host not found)'
	. " while resolving the upstream's name", 'not found');
is_answered($t, 'resolver', 'silent.example:443', 504,
	'silent.example could not be resolved (110: Operation timed out)'
	. " while resolving the upstream's name", 'resolver timeout');
is_answered($t, 'plain', 'some.example:65001', 403,
	'port 65001 is not allowed by "proxy_connect_allow"', 'port');

###############################################################################
# error_page

is(page('page', $refused), '502 page 502 GET 127.0.0.1 /error',
	'error_page: 502');
is(page('page', 'a.example:65001'), '403 page 403 GET a.example /error', 'error_page: 403');
is(page('page', 'a.example:1', 'Content-Length: 1'), '400 page 400 GET a.example /error',
	'error_page: 400');
is(page('page_none', $refused), '503 changed GET', 'error_page: another status');
is(page('page_named', $refused), '502 named CONNECT 127.0.0.1 ' . port(8082),
	'error_page: a named location');
is(page('page_named', 'a.example:65001'), '403 named CONNECT a.example 65001',
	'error_page: a named location for 403');
is(page('page_named_rewrite', $refused), '502 found CONNECT /found/it',
	'error_page: a rewrite in a named location finds another');
is(page('page_file', $refused), '502 error page', 'error_page: a file');
is(page('page_again', $refused), '404 second',
	'error_page: in an error page');

SKIP: {
	skip 'over HTTP/2 nginx itself refuses what has no path', 1 if OVER_HTTP2;
	is(page('off', $echo), '405 off GET', 'error_page: 405');
}

my $redirect = answer('page_redirect', $refused);
is(status_of($redirect), '302', 'error_page: a redirect');
is(header_of($redirect, 'Location'), 'http://elsewhere.example/' . port(8082),
	'error_page: where to');

# No answer keeps the connection, whatever makes it.
is(header_of(answer('page', $refused), 'Connection'), 'close', 'a page closes');
is(header_of($redirect, 'Connection'), 'close', 'a redirect closes');
is(header_of(answer('page_named', $refused), 'Connection'), 'close',
	'a named location closes');

SKIP: {
	skip NO_REWRITE, 1 unless runs_rewrite($t);

	is(header_of(answer('return', $refused), 'Connection'), 'close', 'a return closes');
}

###############################################################################
# The rewrite phase

SKIP: {
	skip NO_REWRITE, 4 unless runs_rewrite($t);

	is(page('return', $echo), '403 no 127.0.0.1', 'return');
	is(page('return_some', '127.0.0.9:443'), '403 no 127.0.0.9', 'if on the host');
	is(header_of(answer('return_some', 'a:9'), 'Location'), 'http://elsewhere.example/',
		'if on the port');
	is(answer('return_some', $echo, 'User-Agent: robot'), '', 'return 444');
}

is(through('return_some', $echo), '200 echo', 'no if that holds');
is(through('rewrite', $echo), '200 echo', 'rewrite finds no location');
is(through('break', $echo), '200 echo', 'rewrite and break');

###############################################################################
# The access phase

# Since 1.31.0 auth_basic asks a CONNECT as a proxy does.
my ($denied, $challenge, $credentials) = $t->has_version('1.31.0')
	? ('407', 'Proxy-Authenticate', 'Proxy-Authorization')
	: ('401', 'WWW-Authenticate', 'Authorization');

my $good = "$credentials: Basic " . encode_base64('user:secret', '');
my $bad = "$credentials: Basic " . encode_base64('user:wrong', '');

log_mark($t);
is(status_of(answer('deny', $echo)), '403', 'deny');
is(scalar(log_lines($t, qr/\[error\] .*access forbidden by rule, client: /)), 1,
	'deny: in the log');
is(scalar(log_lines($t, qr/proxy_connect: /)), 0, 'deny: nothing of ours there');
is(status_from('allow', '127.0.0.1', $echo), '403', 'allow: another address');
is(status_from('allow', '127.0.0.2', $echo), '200', 'allow: the address');

my $unauthorised = answer('basic', $echo);
is(status_of($unauthorised), $denied, 'auth_basic: nobody');
is(header_of($unauthorised, $challenge), 'Basic realm="closed"',
	'auth_basic: the realm');
is(status_of(answer('basic', $echo, $bad)), $denied, 'auth_basic: a wrong password');
is(through('basic', $echo, $good), '200 echo', 'auth_basic: the password');
is(status_of(answer('basic', 'a.example:65001')), $denied, 'auth_basic before the port');
is(status_of(answer('basic', 'a.example:65001', $good)), '403', 'and then the port');

SKIP: {
	skip 'no auth_request available', 5 unless $servers{request};

	is(through('request', $echo), '200 echo', 'auth_request: granted');
	is(page('request', '127.0.0.9:443'), '403 denied by auth_request', 'auth_request: denied');
	is(status_of(answer('request', '127.0.0.1:9')), '401', 'auth_request: 401');
	is(status_of(answer('request', $echo, 'X-Broken: 1')), '500', 'auth_request: an error');
	is(header_of(header('request', $echo), 'X-Why'), "CONNECT $echo /auth",
		'auth_request: what its location knows');
}

is(status_from('any', '127.0.0.1', $echo), $denied, 'satisfy any: none');
is(status_from('any', '127.0.0.2', $echo), '200', 'satisfy any: the address');
is(status_from('any', '127.0.0.1', $echo, $good), '200', 'satisfy any: the password');
is(status_from('every', '127.0.0.2', $echo), $denied, 'satisfy all: the address alone');
is(status_from('every', '127.0.0.1', $echo, $good), '403',
	'satisfy all: the password alone');
is(status_from('every', '127.0.0.2', $echo, $good), '200', 'satisfy all: both');

###############################################################################
# limit_conn

my @tunnels = map { start('limit', $_, $echo) } '127.0.0.1', '127.0.0.2';
is(status_of($tunnels[0]->read_header()), '200', 'limit_conn: the first tunnel');
is(status_of($tunnels[1]->read_header()), '200', 'limit_conn: of another client');
is(status_from('limit', '127.0.0.1', $echo), '429', 'limit_conn: the second tunnel');
$tunnels[0]->close();
wait_until('limit_conn did not let the next tunnel in', sub {
	status_from('limit', '127.0.0.1', $echo) eq 200;
});
pass('limit_conn: after the first one has ended');
$tunnels[1]->close();

###############################################################################
# What does not count

is(through('locations', $echo), '200 echo', 'locations do not');

my $plain = header('others', $echo);
is($plain, "HTTP/1.1 200 Connection Established\x0d\x0aProxy-agent: nginx\x0d\x0a\x0d\x0a",
	'directives for responses and files do not');
is(through('others', $echo), '200 echo', 'nor do they stop the bytes');

$t->stop();

###############################################################################

# The status, a connection that closes, and one line in the log, which is complete.
sub is_answered {
	my ($t, $server, $authority, $status, $words, $name) = @_;

	# Over HTTP/2 there is no other Host.
	my $host = OVER_HTTP2 ? $authority : 'host.example';

	log_mark($t);
	my $answer = exchange(connect_request($authority, "Host: $host"),
		port => server_port($server));
	my @lines = log_lines($t, qr/proxy_connect: /);

	is(status_of($answer) . ' ' . header_of($answer, 'Connection'), "$status close",
		"$name: $status");
	is(@lines, 1, "$name: one line in the log");
	is($lines[0] =~ s/^.*?(?=\[)//r =~ s/\d+#\d+: \*\d+/P/r,
		"[error] P proxy_connect: $words, client: 127.0.0.1, server: $server, "
		. qq/request: "CONNECT $authority ${\PROTOCOL}", host: "$host"/,
		"$name: what it says");
}

###############################################################################
