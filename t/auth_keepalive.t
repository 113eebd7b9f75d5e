#!/usr/bin/perl

# proxy_connect_auth: a 407 keeps the client's connection for the next attempt, where HTTP allows it and nothing
# came behind the CONNECT, and what comes then is read as any request.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Auth;
use Test::ProxyConnect::Servers;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http rewrite auth_basic unix/)->plan(94);

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format line '$status $connection_requests $request';
    access_log %%TESTDIR%%/line.log line;
    lingering_close off;
    lingering_timeout 300ms;

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    SERVERS

    server {
        listen       127.0.0.1:%%PORT_8098%% ssl;
        server_name  tls;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_auth   on;
        auth_basic closed;
        auth_basic_user_file %%TESTDIR%%/users;
    }
}

EOF

my $basic = 'auth_basic closed; auth_basic_user_file %%TESTDIR%%/users;';

my %servers = (
	basic => "proxy_connect_auth on; $basic location = /page { return 200 page; auth_basic off; }",
	off => $basic,
	always => "proxy_connect_auth always; $basic",
	requests => "proxy_connect_auth on; keepalive_requests 2; $basic",
	timeout => "proxy_connect_auth on; keepalive_timeout 0; $basic",
	page => <<"EOF",
        proxy_connect_auth on;
        $basic
        error_page 407 /page;
        location /page { auth_basic off; return 200 "page\\n"; }
EOF
	denied => "proxy_connect_auth on; $basic deny all; satisfy all;",
	slow => <<'EOF',
        proxy_connect_auth on;
        auth_request /auth;
        location = /auth {
            internal;
            proxy_pass http://unix:%%TESTDIR%%/auth.sock;
        }
EOF
);

# nginx 1.4 has no auth_request.
my $has_request = $t->has_module('auth_request') && $t->has_module('proxy');

delete $servers{slow} unless $has_request;
$conf =~ s/SERVERS/server_blocks(%servers)/e;
$t->write_file_expand('nginx.conf', with_tls($t, $conf));
$t->write_file('users', "user:{PLAIN}good\n");

certificate($t, 'localhost');
my $backend = listener('unix:' . $t->testdir() . '/auth.sock');
chmod 0777, $t->testdir() . '/auth.sock';
my $echo = upstream($t, echo(), port(8090));

$t->run();
server_port('tls', 8098);

my $good = 'Proxy-Authorization: ' . credentials('user', 'good');
my $wrong = 'Proxy-Authorization: ' . credentials('user', 'wrong');

###############################################################################
# The second attempt

for my $server ('basic', 'always', 'page', 'tls') {
	SKIP: {
		skip NO_TLS, 10 if $server eq 'tls' && !has_tls($t);
		log_mark($t, 'line.log');

		my $client = connect_to($server);
		my $answer = attempt($client);
		is(status_of($answer), 407, "$server: the first attempt");
		like($answer, qr/^Connection: keep-alive\x0d$/m, "$server: the connection");
		is(status_of(attempt($client, $wrong)), 407, "$server: the second one");
		is(opened($client, $good), '200 echo', "$server: the third one");

		$client = connect_to($server);
		is(status_of(attempt($client)), 407, "$server: an attempt");
		is(opened_with_early_bytes($client, $good), '200 early', "$server: with bytes behind the next");

		$client = connect_to($server);
		is(status_of(attempt($client)), 407, "$server: an attempt again");
		is(opened_in_pieces($client, $good), '200 echo', "$server: the next in pieces");

		is_deeply([ sort map { /^(\d+ \d+)/ } wait_for_lines($t, 7, qr/^/, 'line.log') ],
			[ '200 2', '200 2', '200 3', '407 1', '407 1', '407 1', '407 2' ],
			"$server: the access log");
		is_deeply([ log_lines($t, qr/client sent (?:in|too)/) ], [], "$server: the error log");
	}
}

# Many attempts, with fields of many sizes
my $client = connect_to('basic');
my @statuses = map { status_of(attempt($client, "X: " . 'x' x (100 * $_))) } 1 .. 30;
is_deeply(\@statuses, [ (407) x 30 ], 'thirty attempts');
is(opened($client, $good), '200 echo', 'thirty attempts: one more');

# Large headers have buffers of their own
$client = connect_to('basic');
is(status_of(attempt($client, map { "X-$_: " . 'x' x 3000 } 1 .. 6)), 407, 'a large header');
is(status_of(attempt($client)), 407, 'a large header: a small one next');
is(status_of(attempt($client, map { "X-$_: " . 'x' x 3000 } 1 .. 6)), 407, 'a large header: and again');
is(opened($client, $good), '200 echo', 'a large header: in the end');

# A client that waits
$client = connect_to('basic');
attempt($client);
ok($client->is_quiet(0.2), 'nothing comes in between');
is(opened($client, $good), '200 echo', 'after a while');

###############################################################################
# Other requests on such a connection

$client = connect_to('basic');
attempt($client);
$client->send("GET /page HTTP/1.1\x0d\x0aHost: x\x0d\x0a\x0d\x0a");
is(status_of(answer_of($client)), 200, 'a GET next');
is(status_of(attempt($client)), 407, 'a GET next: a CONNECT again');
is(opened($client, $good), '200 echo', 'a GET next: a tunnel');

$client = connect_to('basic');
attempt($client);
$client->send("GET /page HTTP/1.1\x0d\x0aHost: x\x0d\x0a\x0d\x0a" . connect_request($echo, $good));
is(status_of(answer_of($client)), 200, 'a GET and a CONNECT in one');
is(status_of($client->read_header()), 200, 'a GET and a CONNECT in one: the tunnel');
is($client->send('echo')->read_bytes(4), 'echo', 'a GET and a CONNECT in one: bytes');
$client->close();

$client = connect_to('basic');
$client->send("GET /page HTTP/1.1\x0d\x0aHost: x\x0d\x0a\x0d\x0a" . connect_request($echo));
is(status_of(answer_of($client)), 200, 'the other way round');
is(status_of(answer_of($client)), 407, 'the other way round: an attempt');
is(opened($client, $good), '200 echo', 'the other way round: a tunnel');

$client = connect_to('basic');
attempt($client);
like($client->send("\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\x0d\x0a\x0d\x0a")->read_to_end(),
	qr/<h1>400 Bad Request</, 'what is no request');

$client = connect_to('basic');
attempt($client);
is(status_of($client->send("CONNECT nowhere HTTP/1.1\x0d\x0aHost: x\x0d\x0a\x0d\x0a")->read_to_end()),
	400, 'a CONNECT to nowhere');

###############################################################################
# Where the connection is closed

for my $case (
	[ 'no directive', 'off', connect_request($echo) ],
	[ 'keepalive_timeout 0', 'timeout', connect_request($echo) ],
	[ 'refused by address', 'denied', connect_request($echo, $good) ],
	[ 'Connection: close', 'basic', connect_request($echo, 'Connection: close') ],
	[ 'HTTP/1.0', 'basic', "CONNECT $echo HTTP/1.0\x0d\x0a\x0d\x0a" ],
	[ 'bytes behind it', 'basic', connect_request($echo) . 'x' ],
	[ 'a request behind it', 'basic', connect_request($echo) . connect_request($echo, $good) ],
	[ 'a body', 'basic', connect_request($echo, 'Content-Length: 3') . 'abc' ],
	[ 'a body to come', 'basic', connect_request($echo, 'Content-Length: 3') ],
	[ 'chunks', 'basic', connect_request($echo, 'Transfer-Encoding: chunked') . "0\x0d\x0a\x0d\x0a" ],
	[ 'two credentials', 'basic', connect_request($echo, $good, $good) ],
) {
	my ($name, $server, $request) = @$case;
	my $answer = connect_to($server)->send($request)->read_to_end();

	like($answer, qr/^Connection: close\x0d$/m, "$name: the connection");
	is(() = $answer =~ m!^HTTP/1\.1 !mg, 1, "$name: one answer");
}

# What has no body may say so
is(status_of(attempt($client = connect_to('basic'), 'Content-Length: 0')), 407, 'no body');
is(opened($client, $good), '200 echo', 'no body: the next');

# HTTP/1.0 may ask for it
$client = connect_to('basic')
	->send("CONNECT $echo HTTP/1.0\x0d\x0aConnection: keep-alive\x0d\x0a\x0d\x0a");
like(answer_of($client), qr/^HTTP\S+ 407 .*^Connection: keep-alive\x0d$/ms, 'HTTP/1.0 with keep-alive');
is(opened($client, $good), '200 echo', 'HTTP/1.0 with keep-alive: the next');

$client = connect_to('requests');
like(attempt($client), qr/^Connection: keep-alive\x0d$/m, 'keepalive_requests: the first');
like(attempt($client), qr/^Connection: close\x0d$/m, 'keepalive_requests: the last');
is($client->ending(), 'eof', 'keepalive_requests: the end');

###############################################################################
# While somebody else is asked

SKIP: {
	skip 'no auth_request', 6 unless $has_request;

	$client = connect_to('slow')->send(connect_request($echo));
	say_no(accept_end($backend));
	like(answer_of($client), qr/^HTTP\S+ 407 .*^Connection: keep-alive\x0d$/ms, 'auth_request: nothing comes');

	$client->send(connect_request($echo, $good));
	my $asked = accept_end($backend);
	like($asked->read_header(), qr/^Authorization: Basic /m, 'auth_request: the next');
	$asked->send("HTTP/1.1 204 No Content\x0d\x0a\x0d\x0a")->close();
	is(status_of($client->read_header()), 200, 'auth_request: the tunnel');
	$client->close();

	$client = connect_to('slow')->send(connect_request($echo));
	$asked = accept_end($backend);
	$client->send("GET /smuggled HTTP/1.1\x0d\x0aHost: x\x0d\x0a\x0d\x0a");
	say_no($asked);
	my $answer = $client->read_to_end();
	like($answer, qr/^HTTP\S+ 407 .*^Connection: close\x0d$/ms, 'auth_request: bytes meanwhile');
	is(() = $answer =~ m!^HTTP/1\.1 !mg, 1, 'auth_request: bytes meanwhile: one answer');

	$client = connect_to('slow')->send(connect_request($echo));
	$asked = accept_end($backend);
	$client->half_close();
	eval { say_no($asked) };
	like($client->read_to_end(), qr/^(?:HTTP\S+ 407 .*^Connection: close\x0d$|$)/ms, 'auth_request: the end meanwhile');
}

###############################################################################

sub connect_to {
	my ($server) = @_;
	return client(port => server_port($server), tls => $server eq 'tls' ? plain_tls() : undef);
}

# Sends a CONNECT and reads the answer, which is not a tunnel.
sub attempt {
	my ($client, @fields) = @_;
	return answer_of($client->send(connect_request($echo, @fields)));
}

sub answer_of {
	my ($client) = @_;
	my $header = $client->read_header();
	return $header . $client->read_bytes(header_of($header, 'Content-Length') // 0);
}

# The status, and what comes back of what is sent.
sub opened {
	my ($client, @fields) = @_;
	$client->send(connect_request($echo, @fields));
	return echoed($client, 'echo');
}

sub opened_in_pieces {
	my ($client, @fields) = @_;
	$client->send_in_pieces(connect_request($echo, @fields), 1);
	return echoed($client, 'echo');
}

sub opened_with_early_bytes {
	my ($client, @fields) = @_;
	$client->send(connect_request($echo, @fields) . 'early');
	my $status = status_of($client->read_header());
	my $bytes = $client->read_bytes(5);
	$client->close();
	return "$status $bytes";
}

sub echoed {
	my ($client, $bytes) = @_;
	my $status = status_of($client->read_header());
	return $status unless $status eq 200;

	my $answer = $client->send($bytes)->read_bytes(length $bytes);
	$client->close();
	return "$status $answer";
}

# Reads a question of auth_request, and answers it.
sub say_no {
	my ($end) = @_;
	$end->read_header();
	$end->send("HTTP/1.1 401 Unauthorized\x0d\x0aWWW-Authenticate: NTLM\x0d\x0a"
		. "Content-Length: 0\x0d\x0a\x0d\x0a")->close();
}

###############################################################################
