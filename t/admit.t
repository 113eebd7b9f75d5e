#!/usr/bin/perl

# How a CONNECT gets in: which requests are taken, which are refused and with what words, which
# server answers, and that nothing behind a refused CONNECT is ever read as a request.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# What is wrong with an authority, the authority, and the words for it.
my $host = 'invalid host in request line: it';
my $host_words = "$host has a character that no host has";
my $label_words = "$host has an empty label";
my $bracket_words = "$host has a \"[\" that is not closed";
my $literal_words = "$host has no IPv6 address in its brackets";
my $path_words = "$host has a path behind it";
my $form_words = "$host is in absolute-form";
my $user_words = "$host has userinfo before it";
my $empty_words = "$host is empty";
my $port_words = 'invalid port in request line';
my $no_port_words = 'no port in request line';

my @bad = (
	[ 'no port', 'one.example', $no_port_words ],
	[ 'an empty port', 'one.example:', $no_port_words ],
	[ 'an IPv6 literal without port', '[::1]', $no_port_words ],
	[ 'port 0', 'one.example:0', $port_words ],
	[ 'port 000', 'one.example:000', $port_words ],
	[ 'port 65536', 'one.example:65536', $port_words ],
	[ 'port 99999999999', 'one.example:99999999999', $port_words ],
	[ 'port 2^32 + 443', 'one.example:4294967739', $port_words ],
	[ 'port 2^64 + 443', 'one.example:18446744073709552059', $port_words ],
	[ 'a negative port', 'one.example:-443', $port_words ],
	[ 'letters for a port', 'one.example:https', $port_words ],
	[ 'letters behind a port', 'one.example:443x', $port_words ],
	[ 'two ports', 'one.example:443:443', $port_words ],
	[ 'a path', 'one.example:443/', $path_words ],
	[ 'a query', 'one.example:443?a', $port_words ],
	[ 'a fragment', 'one.example:443#a', $port_words ],
	[ 'user and password', 'user:secret@one.example:443', $user_words ],
	[ 'NUL in the port', "one.example:4\x0043", $port_words ],
	[ 'a tab behind the port', "one.example:443\t", $port_words ],
	[ 'absolute-form, http', 'http://one.example:443/', $form_words ],
	[ 'absolute-form, https', 'https://one.example/', $form_words ],
	[ 'an empty host', ':443', $empty_words ],
	[ 'IPv6 without brackets', '::1:443', $empty_words ],
	[ 'user', 'user@one.example:443', $user_words ],
	[ 'a path alone', '/', $path_words ],
	[ 'a path in the host', 'one/example:443', $path_words ],
	[ 'an asterisk', '*:443', $host_words ],
	[ 'NUL in the host', "one\x00.example:443", $host_words ],
	[ '8-bit bytes', "\xc3\xb6ne.example:443", $host_words ],
	[ 'a tab in the host', "one\t.example:443", $host_words ],
	[ 'a percent-escape', 'one%2eexample:443', $host_words ],
	[ 'a comma', 'one.example,:443', $host_words ],
	[ 'two dots', 'one..example:443', $label_words ],
	[ 'a dot alone', '.:443', $label_words ],
	[ 'a dot in front', '.one.example:443', $label_words ],
	[ 'two dots at the end', 'one.example..:443', $label_words ],
	[ 'a label of 64 bytes', 'a' x 64 . '.example:443', "$host has a label of more than 63 bytes" ],
	[ 'a name of 254 bytes', 'a.' x 126 . 'bc:443', "$host has more than 253 bytes" ],
	[ 'an unclosed bracket', '[::1', $bracket_words ],
	[ 'an unclosed bracket before a port', '[::1:443', $bracket_words ],
	[ 'empty brackets', '[]:443', $literal_words ],
	[ 'no hex digits in brackets', '[::g]:443', $literal_words ],
	[ 'a name in brackets', '[one.example]:443', $literal_words ],
	[ 'too few groups in brackets', '[1:2:3]:443', $literal_words ],
	[ 'IPv4 in brackets', '[127.0.0.1]:443', $literal_words ],
	[ 'a zone', '[fe80::1%25eth0]:443', $literal_words ],
	[ 'bytes behind the bracket', '[::1]x:443', $literal_words ],
	[ 'a port without colon', '[::1]443', $literal_words ],
	[ 'an IPvFuture literal', '[v1.a]:443', $literal_words ],
);

# Fields that announce a body, which CONNECT has not.
my @bodies = ('Content-Length: 5', 'Content-Length: 88', 'Transfer-Encoding: chunked');

my $t = Test::Nginx->new()->has(qw/http rewrite proxy/)->plan(57 + 2 * (@bad + @bodies));

# nginx has two ways to say it.
my $http2 = $t->has_module('http_v2');
my $on = $t->has_version('1.25.1') ? '; http2 on' : ' http2';
$on = '' unless $http2;

my $conf = <<'EOF';
%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format line '$status $request_method $request_uri';
    access_log %%TESTDIR%%/line.log line;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow all;

        location / {
            return 200 "location $request_method $host $request_uri\n";
        }

        location /file {
            alias %%TESTDIR%%/file;
        }

        location /proxied {
            proxy_pass http://127.0.0.1:8081/file;
        }
    }

    # a CONNECT is answered with what the server knows of it
    server {
        listen       127.0.0.1:8080;
        server_name  one.example ~^(?<found>regex)$ [::1];

        proxy_connect;

        return 200 "$found|$host|$connect_host|$connect_port|$uri|$request_uri\n";
    }

    server {
        listen       127.0.0.1:8080;
        server_name  none.example;

        location / {
            proxy_pass http://127.0.0.1:8081;
        }
    }

    # no location
    server {
        listen       127.0.0.1:8081;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow all;
    }

    # small buffers
    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        client_header_buffer_size    1k;
        large_client_header_buffers  4 32k;

        proxy_connect;

        return 200 "$connect_host|$connect_port|$host|$http_last\n";
    }

    server {
        listen       127.0.0.1:8083 HTTP2;
        server_name  localhost;

        proxy_connect;
        proxy_connect_http2_window  off;
    }

    # no proxy_connect, no location
    server {
        listen       127.0.0.1:8085;
        server_name  localhost;

        autoindex    on;
    }
}

EOF

$t->write_file_expand('nginx.conf', $conf =~ s/ HTTP2/$on/r);
$t->write_file('file', 'SEE THIS FILE');
$t->run();

my $echo = upstream($t, echo(), port(8086));
my $behind = "GET /smuggled HTTP/1.1\x0d\x0aHost: localhost\x0d\x0a\x0d\x0a";

###############################################################################
# Authorities that are none

for (@bad) {
	my ($name, $authority, $words) = @$_;

	log_mark($t);
	my $answer = exchange("CONNECT $authority HTTP/1.1\x0d\x0a"
		. "Host: localhost\x0d\x0a\x0d\x0a$behind");

	is(answers($answer), '400', "$name: 400");
	is_refused($t, $words, "$name: in the log");
}

log_mark($t);
is(answers(exchange("CONNECT \x0d\x0a$behind")), '400', 'nothing: 400');
is_refused($t, $empty_words, 'nothing: in the log');

# What else is wrong with it makes no difference.
log_mark($t);
is(answers(exchange("CONNECT one.example:0 HTTP/1.1\x0d\x0a\x0d\x0a$behind")), '400',
	'no port and no Host: 400');
is_refused($t, $port_words, 'no port and no Host: in the log');

###############################################################################
# Versions, and the shape of the line

log_mark($t);
is(answers(exchange("CONNECT $echo\x0d\x0a$behind")), '400', 'HTTP/0.9');
is_refused($t, 'no HTTP version in request line', 'HTTP/0.9: in the log');

is(answers(exchange("CONNECT $echo HTTP/0.9\x0d\x0a\x0d\x0a$behind")), '400',
	'HTTP/0.9 by name');
is(answers(exchange("CONNECT $echo HTTP/2.0\x0d\x0a\x0d\x0a$behind")), '505',
	'HTTP/2.0 in a request line');
is(through("CONNECT $echo HTTP/1.0\x0d\x0a\x0d\x0a"), '200 echo', 'HTTP/1.0');
is(through("CONNECT $echo HTTP/1.1\x0aHost: a\x0a\x0a"), '200 echo',
	'lines that end with LF');
is(through("\x0d\x0aCONNECT $echo HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a"), '200 echo',
	'an empty line in front');
is(through("CONNECT  $echo  HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a"),
	'200 echo', 'more spaces');
is(through(connect_request($echo =~ s/:/:000/r)), '200 echo',
	'a port with leading zeros');
is(answers(exchange("CONNECT $echo HTTP/1.1\x0d\x0a\x0d\x0a$behind")), '400',
	'HTTP/1.1 without Host');
is(answers(exchange("CONNECT $echo HTTP/1.1 x\x0d\x0aHost: a\x0d\x0a\x0d\x0a$behind")),
	'400', 'bytes behind the version');
is(answers(exchange("connect $echo HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a$behind")),
	'400', 'a method in small letters');
is(answers(exchange("CONNECT\x0d\x0a$behind")), '400', 'a method alone');

my $pieces = client();
$pieces->send_in_pieces(connect_request($echo, 'X-Field: value'), 1);
is(status_of($pieces->read_header()), '200', 'in single bytes');
is($pieces->send('echo')->read_bytes(4), 'echo', 'in single bytes, bytes arrive');
$pieces->close();

log_mark($t);
$pieces = client();
for my $byte (split //, connect_request('one.example:65536')) {
	$pieces->send($byte);

	# A parser may answer before the request is complete.
	last unless $pieces->is_quiet(0.001);
}
is(status_of($pieces->read_to_end()), '400', 'a bad port in single bytes');
is_refused($t, $port_words,
	'a bad port in single bytes: in the log');

###############################################################################
# Length

# A host has an end, zeros in front of a port have none.
my $zeros = '0' x 20480;

is(answers(exchange(connect_request("a:${zeros}443", 'Host: a'))), '414',
	'20 KiB of authority in buffers of 8k');

SKIP: {
	skip NO_REWRITE, 1 unless runs_rewrite($t);

	is(body_of(exchange(connect_request("a:${zeros}443", 'Host: a'), port => port(8082))),
		"a|443|a|\n", '20 KiB of authority in buffers of 32k');
}

is(answers(exchange(connect_request($echo, 'X-Long: ' . 'x' x 10000) . $behind)),
	'400', 'too large a field');

SKIP: {
	skip NO_REWRITE, 4 unless runs_rewrite($t);

	is(edges('x', 0), '', 'lines of 1000 to 1050 bytes in a buffer of 1024');
	is(edges('x' x 1500, 0), '', 'the same, with a field that takes a buffer of its own');
	is(edges('x', 7), '', 'the same in pieces');

	# The line moves to a larger buffer in the middle of the port.
	$pieces = client(port => port(8082));
	$pieces->send('CONNECT' . ' ' x 1013 . 'a:80');
	$pieces->send_in_pieces("80 HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a", 1);
	is(body_of($pieces->read_to_end()), "a|8080|a|\n", 'a buffer that ends within the port');
}

###############################################################################
# The body that CONNECT has not

for my $field (@bodies) {
	log_mark($t);
	is(answers(exchange(connect_request($echo, $field) . "12345$behind")), '400',
		"$field: 400");

	is_refused($t, 'CONNECT with a body', "$field: in the log");
}

is(answers(exchange(connect_request($echo, @bodies[0, 2]) . "0\x0d\x0a\x0d\x0a$behind")),
	'400', 'Content-Length and Transfer-Encoding');
is(answers(exchange(connect_request($echo, 'Content-Length: x') . $behind)), '400',
	'Content-Length that is no number');
is(answers(exchange(connect_request($echo, 'Transfer-Encoding: gzip') . $behind)), '501',
	'Transfer-Encoding that nginx does not know');
is(through(connect_request($echo, 'Content-Length: 0')), '200 echo',
	'Content-Length: 0');

###############################################################################
# Servers

SKIP: {
	skip NO_REWRITE, 6 unless runs_rewrite($t);

	is(server('one.example:443'), '|one.example|one.example|443||', 'a server by its name');
	is(server('ONE.Example:0443'), '|one.example|one.example|443||', 'a name in capitals');
	is(server('one.example.:443'), '|one.example|one.example|443||', 'a dot at the end');
	is(server('regex:1'), 'regex|regex|regex|1||', 'a server by an expression');
	is(server('[::1]:65535'), '|[::1]|[::1]|65535||', 'a server by an IPv6 literal');
	is(server('one.example:443', 'Host: none.example'), '|one.example|one.example|443||',
		'the authority counts, not Host');
}

is(answers(exchange(connect_request('one.example:443', 'Host: a', 'Host: b') . $behind)),
	'400', 'two Hosts');
is(answers(exchange(connect_request('one.example:443', 'Host: a/b') . $behind)),
	'400', 'an invalid Host');

log_mark($t);
is(answers(exchange(connect_request('none.example:443', 'Host: one.example') . $behind)),
	'405', 'a server without proxy_connect: 405');
is_refused($t, 'connect method to a server without "proxy_connect"',
	'a server without proxy_connect: in the log');

is(answers(exchange(connect_request($echo) . $behind, port => port(8085))),
	'405',
	'a server without proxy_connect and without location');

SKIP: {
	skip 'no HTTP/2', 1 unless $http2;

	is(http2_status(port(8083), ':method' => 'CONNECT', ':scheme' => 'http',
		':path' => '/', ':authority' => 'one.example:443'), '405',
		'HTTP/2: 405 of the core');
}

###############################################################################
# Other methods beside it

my $get = "GET /here HTTP/1.1\x0d\x0aHost: localhost\x0d\x0a\x0d\x0a";
my $answer = "location GET localhost /here\n";

is(body_of(http_get('/here')), $answer, 'GET');
is(body_of(http_get('/file')), 'SEE THIS FILE', 'GET of a file');
is(body_of(http_get('/proxied')), 'SEE THIS FILE', 'GET that is proxied');
is(status_of(http_head('/here')), '200', 'HEAD');
is(body_of(http_get('/file', PeerAddr => '127.0.0.1:' . port(8081))),
	'SEE THIS FILE', 'GET in a server without location');
is(body_of(http("GET http://localhost/abs HTTP/1.0\x0d\x0a\x0d\x0a")),
	"location GET localhost /abs\n", 'GET of absolute-form');
is(http("GET /file\x0d\x0a"), 'SEE THIS FILE', 'GET of HTTP/0.9');

my $kept = client();
$kept->send($get)->read_header();
$kept->read_bytes(length $answer);
$kept->send(connect_request($echo));
is(status_of($kept->read_header()), '200', 'GET, then CONNECT');
is($kept->send('echo')->read_bytes(4), 'echo', 'GET, then CONNECT, bytes arrive');
$kept->close();

$kept = client();
$kept->send($get . $get . connect_request($echo) . 'early');
for (1 .. 2) {
	$kept->read_header();
	$kept->read_bytes(length $answer);
}
is(status_of($kept->read_header()), '200', 'CONNECT behind GETs in one piece');
is($kept->read_bytes(5), 'early', 'CONNECT behind GETs, bytes behind it arrive');
$kept->close();

is(answers(exchange($get . connect_request('x:0') . $behind)), '200 400',
	'a bad CONNECT behind a GET');

$t->stop();
is(join("\n", log_lines($t, qr/smuggled/, 'line.log')), '',
	'nothing behind a refused CONNECT was read as a request');

###############################################################################

# The statuses of all answers that came over a connection.
sub answers {
	my ($text) = @_;
	return join ' ', $text =~ m!HTTP/1\.[01] (\d{3})!g;
}

# One line of ours in the log, at level info, with the client in it. It may come after the answer.
sub is_refused {
	my ($t, $words, $name) = @_;

	eval { wait_for_line($t, qr/proxy_connect: /) };
	my @lines = log_lines($t, qr/proxy_connect: /);
	my $line = qr/\[info\] \d+#\d+: \*\d+ proxy_connect: client sent \Q$words\E,? .*client: 127\.0\.0\.1,/;

	return ok(@lines == 1 && $lines[0] =~ $line, $name)
		|| diag("in the log:\n", join "\n", @lines);
}

# The status of the answer, and what the echo says.
sub through {
	my ($request) = @_;
	my $socket = client();

	my $status = status_of($socket->send($request)->read_header());
	return $status unless $status eq 200;

	my $echo = $socket->send('echo')->read_bytes(4);
	$socket->close();
	return "$status $echo";
}

# What a server's rewrite phase knows of a CONNECT.
sub server {
	my ($authority, @fields) = @_;
	my $answer = exchange(connect_request($authority, @fields));
	return body_of($answer) =~ s/\n//r;
}

# The lengths of the request line at which something is wrong.
sub edges {
	my ($last, $size) = @_;
	my @wrong;

	for my $length (1000 .. 1050) {
		my $port = '0' x ($length - length "CONNECT a:443 HTTP/1.1\x0d\x0a") . '443';
		my $request = connect_request("a:$port", 'Host: a', "Last: $last");
		my $socket = client(port => port(8082));

		if ($size) {
			$socket->send(substr $request, 0, 990, '');
			$socket->send_in_pieces($request, $size);
		} else {
			$socket->send($request);
		}

		push @wrong, $length
			unless body_of($socket->read_to_end()) eq "a|443|a|$last\n";
		$socket->close();
	}

	return "@wrong";
}

###############################################################################
# As much of HTTP/2 as one request needs

sub http2_status {
	my ($port, @fields) = @_;
	my $block = '';

	# Literal fields with literal names, never indexed.
	while (my ($name, $value) = splice @fields, 0, 2) {
		$block .= "\x10" . join '', map { chr(length) . $_ } $name, $value;
	}

	my $socket = client(port => $port);
	$socket->send("PRI * HTTP/2.0\x0d\x0a\x0d\x0aSM\x0d\x0a\x0d\x0a"
		. frame(4, 0, 0, '') . frame(1, 5, 1, $block));

	my ($type, $payload) = (0);
	($type, $payload) = read_frame($socket) until $type == 1;
	$socket->close();

	# An older nginx says first that it needs no dynamic table (RFC 7541, 6.3).
	$payload =~ s/^[\x20-\x3e]//;

	# ":status" with a value of its own, or an entry of the static table.
	return $payload =~ /^[\x08\x48]\x03(\d{3})/ ? $1
		: { 0x88 => 200, 0x8c => 400, 0x8d => 404 }->{ord $payload};
}

sub frame {
	my ($type, $flags, $stream, $payload) = @_;
	return pack('CnCCN', 0, length $payload, $type, $flags, $stream) . $payload;
}

sub read_frame {
	my ($socket) = @_;
	my ($high, $low, $type) = unpack 'CnC', $socket->read_bytes(9);
	return ($type, $socket->read_bytes($high << 16 | $low));
}

###############################################################################
