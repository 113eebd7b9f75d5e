#!/usr/bin/perl

# proxy_connect_response: the bytes that tell a client that its tunnel stands.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Servers qw/ server_blocks server_port /;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http rewrite/)->plan(37);

my $conf = <<'EOF';
%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format line '$server_name $status $proxy_connect_response';
    access_log %%TESTDIR%%/line.log line;

    large_client_header_buffers 32 16k;

    SERVERS
}

EOF

my %servers = (
	default => '',
	directive => 'proxy_connect_response "HTTP/1.1 200 Fine\r\nX-A: b\r\n\r\n";',
	variables => 'proxy_connect_response "HTTP/1.1 200 OK\r\nX-Addr: $connect_addr\r\nX-Host: $connect_host\r\nX-Port: $connect_port\r\nX-Client: $remote_addr\r\nX-Times: $proxy_connect_resolve_time $proxy_connect_connect_time $proxy_connect_first_byte_time\r\n\r\n";',
	status => 'proxy_connect_response "HTTP/1.1 299 Odd\r\n\r\n";',
	short => 'proxy_connect_response "HTTP/1.1 201";',
	raw => 'proxy_connect_response "hello";',
	lying => 'proxy_connect_response "HTTP/1.1 2x0 Odd\r\n\r\n";',
	binary => "proxy_connect_response \"HTTP/1.1 200 OK\\r\\nX: \xff\xfe\\r\\n\\r\\n\";",
	dollar => 'proxy_connect_response "HTTP/1.1 200 OK\r\nX: ${connect_port}x\r\n\r\n";',
	long => 'proxy_connect_response "HTTP/1.1 200 OK\r\nX: '
		. '$http_long' x 10 . '\r\n\r\n";',
	set => <<'EOF',
        set $proxy_connect_response "HTTP/1.1 200 Set\r\n\r\n";
EOF
	both => <<'EOF',
        proxy_connect_response "HTTP/1.1 200 Directive\r\n\r\n";
        set $proxy_connect_response "HTTP/1.1 200 Set\r\n\r\n";
EOF
	twice => <<'EOF',
        set $proxy_connect_response "HTTP/1.1 200 First\r\n\r\n";
        set $proxy_connect_response "HTTP/1.1 202 Second\r\n\r\n";
EOF
	set_none => <<'EOF',
        proxy_connect_response "HTTP/1.1 200 Directive\r\n\r\n";
        set $proxy_connect_response "";
EOF
	# a set value is no text with variables
	set_variable => <<'EOF',
        set $text "$http_text";
        set $proxy_connect_response "HTTP/1.1 200 OK\r\nX: $text\r\n\r\n";
EOF
	set_early => <<'EOF',
        set $proxy_connect_response "HTTP/1.1 200 OK\r\nX: $connect_addr.$connect_host\r\n\r\n";
EOF
	chosen => <<'EOF',
        if ($http_user_agent = old) {
            set $proxy_connect_response "HTTP/1.0 200 OK\r\n\r\n";
        }
EOF
);

my $servers = server_blocks(%servers);

$t->write_file_expand('nginx.conf', $conf =~ s/^ *SERVERS\n/$servers/mr);
$t->run();

my $end = "\x0d\x0a\x0d\x0a";
my $default = "HTTP/1.1 200 Connection Established\x0d\x0aProxy-agent: nginx$end";

my $echo = upstream($t, echo(), port(8081));
my $greeting = upstream($t, greet('hello'), port(8082));
my $refused = '127.0.0.1:' . port(8083);

###############################################################################

is(response($t, 'default', length $default), $default, 'the default');
is_status($t, 'default', 200);
is(response_to("CONNECT $echo HTTP/1.0$end", 'default', length $default), $default,
	'the default for HTTP/1.0');

is(response($t, 'directive'), "HTTP/1.1 200 Fine\x0d\x0aX-A: b$end", 'a directive');
is_status($t, 'directive', 200);

my $header = response($t, 'variables');
is(header_of($header, 'X-Addr'), $echo, 'variables: the address, connected by then');
is(header_of($header, 'X-Host'), '127.0.0.1', 'variables: the host');
is(header_of($header, 'X-Port'), port(8081), 'variables: the port');
is(header_of($header, 'X-Client'), '127.0.0.1', 'variables: of the core');
like(header_of($header, 'X-Times'), qr/^0\.000 0\.\d{3} -$/, 'variables: the times');

is(response($t, 'status'), "HTTP/1.1 299 Odd$end", 'another status');
is_status($t, 'status', 299);
is(response($t, 'short', 12), 'HTTP/1.1 201', 'no more than a status');
is_status($t, 'short', 201);
is(response($t, 'raw', 5), 'hello', 'no HTTP at all');
is_status($t, 'raw', 200);
is(response($t, 'lying'), "HTTP/1.1 2x0 Odd$end", 'a status that is none');
is_status($t, 'lying', 200);
is(response($t, 'binary'), "HTTP/1.1 200 OK\x0d\x0aX: \xff\xfe$end", '8-bit bytes');
is(response($t, 'dollar'), "HTTP/1.1 200 OK\x0d\x0aX: " . port(8081) . "x$end",
	'a variable in braces');

###############################################################################
# The variable

SKIP: {
	skip NO_REWRITE, 9 unless runs_rewrite($t);

	is(response($t, 'set'), "HTTP/1.1 200 Set$end", 'set');
	is(response($t, 'both'), "HTTP/1.1 200 Set$end", 'set, over a directive');
	is(response($t, 'twice'), "HTTP/1.1 202 Second$end", 'set twice');
	is_status($t, 'twice', 202);
	is(response($t, 'set_none'), "HTTP/1.1 200 Directive$end", 'set to nothing');
	is(response($t, 'set_early'), "HTTP/1.1 200 OK\x0d\x0aX: .127.0.0.1$end",
		'set before the address is known');
	is(response($t, 'set_variable', undef, 'Text: $connect_host'),
		"HTTP/1.1 200 OK\x0d\x0aX: \$connect_host$end", 'set to what looks like a variable');
	is(response($t, 'chosen', undef, 'User-Agent: old'), "HTTP/1.0 200 OK$end", 'set if');
	is(response($t, 'chosen', length $default), $default, 'not set');
}

###############################################################################
# Its place among the bytes

my $socket = start('default', $greeting);
is($socket->read_bytes(length("$default") + 5), "${default}hello",
	'it comes before what the upstream says first');
$socket->close();

$socket = client(port => server_port('default'));
$socket->send(connect_request($echo) . 'early');
is($socket->read_bytes(length($default) + 5), "${default}early",
	'it comes before the answer to early bytes');
$socket->close();

# More than a socket takes at once, for a client that reads late.
my $long = 'x' x 15000;
$socket = client(port => server_port('long'))->shrink_buffers(16384);
$socket->send(connect_request($greeting, "Long: $long"));
wait_for_upstream($t, qr/^\Q$greeting\E accepted/);
my $whole = "HTTP/1.1 200 OK\x0d\x0aX: " . $long x 10 . "${end}hello";
ok($socket->read_bytes(length $whole) eq $whole, 'a long one comes whole');
$socket->close();

###############################################################################
# Where there is no tunnel

log_mark($t, 'line.log');
my $answer = exchange(connect_request($refused), port => server_port('directive'));
is(status_of($answer), '502', 'no tunnel, no such response');
unlike($answer, qr/Fine/, 'nor a part of it');

# nginx may end the connection before it logs.
is(wait_for_line($t, qr/^directive /, 'line.log'), 'directive 502 HTTP/1.1 200 Fine\x0D\x0AX-A: b\x0D\x0A\x0D\x0A',
	'the variable tells it all the same');

log_mark($t, 'line.log');
is(status_of(exchange("GET / HTTP/1.0$end", port => server_port('directive'))), '403',
	'GET gets another');
is(wait_for_line($t, qr/^directive /, 'line.log'), 'directive 403 -', 'and there is none for it');

$t->stop();

###############################################################################

sub start {
	my ($server, $authority, @fields) = @_;
	return client(port => server_port($server))
		->send(connect_request($authority, @fields));
}

# The response of a server: a header, or so many bytes. An echo behind it shows that it is whole.
sub response {
	my ($t, $server, $size, @fields) = @_;
	log_mark($t, 'line.log');
	return response_to(connect_request($echo, @fields), $server, $size);
}

sub response_to {
	my ($request, $server, $size) = @_;
	my $socket = client(port => server_port($server))->send($request);

	my $response = defined $size ? $socket->read_bytes($size) : $socket->read_header();
	my $echo = $socket->send('echo')->half_close()->read_to_end();
	$socket->close();

	return $echo eq 'echo' ? $response : "$response, and then $echo";
}

# What the access log has for the last request to a server.
sub is_status {
	my ($t, $server, $status) = @_;
	my $line = wait_for_line($t, qr/^$server /, 'line.log');
	return like($line, qr/^$server $status /, "$server: $status in the access log");
}

###############################################################################
