#!/usr/bin/perl

# Why there is no tunnel: $proxy_connect_error for the log, and Proxy-Status for the client. Each failure
# that a CONNECT can meet, by its token of RFC 9209.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use MIME::Base64 qw/ encode_base64 /;

use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Servers;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/ http rewrite access auth_basic limit_conn /)->plan(58);

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format why '$server_name $status [$proxy_connect_error] $proxy_connect_verdict';
    access_log %%TESTDIR%%/why.log why;

    limit_conn_zone  $binary_remote_addr  zone=client:1m;

    NO_NAME_SERVER

    proxy_connect_proxy_status  proxy.example;

    SERVERS

    server {
        listen       127.0.0.1:%%PORT_8099%%;
        server_name  other;
    }
}

EOF

my %servers = (
	plain => 'proxy_connect_connect_timeout 300ms; proxy_connect_data_timeout 1s;',
	off => 'proxy_connect_proxy_status off;',
	details => <<'EOF',
        proxy_connect_proxy_status "my proxy" details;
        resolver 127.0.0.1:%%PORT_8981_UDP%% ipv6=off;
EOF
	response => <<'EOF',
        proxy_connect_proxy_status here details;
        proxy_connect_response "HTTP/1.1 299 Fine\r\nX-A: b\r\n\r\n";
EOF
	wordless => <<'EOF',
        proxy_connect_proxy_status here details;
        proxy_connect_response "x";
EOF
	denying => <<'EOF',
        proxy_connect_response "HTTP/1.1 403 No\r\n\r\n";
EOF
	resolver => 'resolver 127.0.0.1:%%PORT_8981_UDP%% ipv6=off; resolver_timeout 300ms;',
	address => 'proxy_connect_address "$http_x_to";',
	bind => 'proxy_connect_bind "$http_x_from";',
	return => 'return 403;',
	fine => 'return 200 fine;',
	deny => 'deny all;',
	basic => 'auth_basic closed; auth_basic_user_file %%TESTDIR%%/users;',
	limit => 'limit_conn client 1; proxy_connect_proxy_status limited;',
	page => <<'EOF',
        error_page 502 =200 /page;
        location /page {
            return 200 "$proxy_connect_error\n";
        }
EOF
);

my $http = server_blocks(%servers);
server_port(other => 8099);
$t->write_file_expand('nginx.conf', ipv4_only($t, $conf =~ s/^\s*SERVERS$/$http/mr
	=~ s/NO_NAME_SERVER/no_name_server($t)/er));
$t->write_file('users', "user:{PLAIN}secret\n");

name_server($t, 8981, 'silent.example' => 'drop', 'broken.example' => 'SERVFAIL',
	'closed.example' => 'REFUSED', 'here.example' => '127.0.0.1');
$t->run();

my $echo = upstream($t, echo(), port(8081));
my $closed = '127.0.0.1:' . port(8082);
my $full = full_backlog(port(8083));
my $reset = upstream($t, reset_after(1), port(8084));

###############################################################################
# Each failure

fails($t, 'plain', $closed, '', 502, 'connection_refused', 'refused');
fails($t, 'plain', '127.0.0.1:' . port(8083), '', 504, 'connection_timeout', 'no answer');
fails($t, 'plain', '127.255.255.255:443', '', 502, 'destination_ip_unroutable', 'no route');
fails($t, 'plain', '127.0.0.1:65001', '', 403, 'http_request_denied', 'a port', 'denied:port');
fails($t, 'plain', 'some.example:443', '', 502, 'proxy_configuration_error', 'no resolver');
fails($t, 'plain', 'a..b:443', '', 400, 'http_request_error', 'no authority');
fails($t, 'plain', 'a:0', '', 400, 'http_request_error', 'no port');
fails($t, 'resolver', 'nobody.example:443', '', 502, 'dns_error; rcode="NXDOMAIN"', 'no such name');
fails($t, 'resolver', 'broken.example:443', '', 502, 'dns_error; rcode="SERVFAIL"', 'a broken name server');
fails($t, 'resolver', 'closed.example:443', '', 502, 'dns_error; rcode="REFUSED"', 'a closed name server');
fails($t, 'resolver', 'silent.example:443', '', 504, 'dns_timeout', 'a silent name server');
fails($t, 'address', $echo, 'X-To: 300.0.0.1:99999', 502, 'proxy_configuration_error', 'no address');
fails($t, 'bind', $echo, 'X-From: here', 502, 'proxy_configuration_error', 'no local address');
fails($t, 'deny', $echo, '', 403, 'http_request_denied', 'deny');
fails($t, 'basic', $echo, '', $t->has_version('1.31.0') ? 407 : 401, 'http_request_denied', 'no password');

SKIP: {
	skip NO_REWRITE, 4 unless runs_rewrite($t);

	fails($t, 'return', $echo, '', 403, 'http_request_denied', 'return');

	log_mark($t, 'why.log');
	is(header_of(answer('fine', $echo), 'Proxy-Status'), undef, 'an answer that is no failure: no field');
	is(why($t, 'fine'), '200 [] -', 'an answer that is no failure: no error');
}

# Where the server has no proxy_connect, Proxy-Status is of the http block still.
fails($t, 'other', $echo, '', 405, 'http_request_denied', 'no proxy_connect');

# A connection that stands keeps another out.
my $first = start('limit', undef, $echo);
like($first->read_header(), qr/^HTTP\/1\.1 200 /, 'limit_conn: the first');
fails($t, 'limit', $echo, '', 503, 'http_request_denied', 'limit_conn', '-', 'limited');
$first->close();

###############################################################################
# What else is told

log_mark($t, 'why.log');
is(header_of(answer('off', $closed), 'Proxy-Status'), undef, 'off: no field');
is(why($t, 'off'), '502 [connection_refused] -', 'off: the log has it');

is(header_of(answer('details', $closed), 'Proxy-Status'),
	"\"my proxy\"; error=connection_refused; details=\"upstream connect failed (peer:$closed)\"",
	'details: in words');
is(header_of(answer('details', 'nobody.example:1'), 'Proxy-Status'),
	'"my proxy"; error=dns_error; rcode="NXDOMAIN"; '
		. 'details="nobody.example could not be resolved (3: Host not found)"',
	'details: of a name server');

my $long = join '.', ('a' x 60) x 4;
my ($words) = header_of(answer('details', "$long:1"), 'Proxy-Status') =~ /details="(.*)"$/;
is(length $words, 256, 'details: bounded');

my $socket = start('details', undef, 'here.example:' . port(8081));
is(header_of($socket->read_header(), 'Proxy-Status'), "\"my proxy\"; next-hop=\"$echo\"",
	'details: where the tunnel leads');
is($socket->send('echo')->read_bytes(4), 'echo', 'details: the tunnel stands');
$socket->close();

$socket = start('response', undef, $echo);
is($socket->read_header(), "HTTP/1.1 299 Fine\x0d\x0aProxy-Status: here; next-hop=\"$echo\"\x0d\x0a"
	. "X-A: b\x0d\x0a\x0d\x0a", 'a response of the configuration');
$socket->close();

$socket = start('wordless', undef, $echo);
is($socket->read_bytes(1), 'x', 'a response without a line is left alone');
is($socket->send('echo')->read_bytes(4), 'echo', 'a response without a line: the tunnel stands');
$socket->close();

my $answer = exchange(connect_request($closed), port => server_port('page'));
is(header_of($answer, 'Proxy-Status'), 'proxy.example; error=connection_refused',
	'a page of error_page: the field');
is(body_of($answer), "connection_refused\n", 'a page of error_page: the error');

is(header_of(exchange("GET / HTTP/1.1\x0d\x0aHost: a\x0d\x0aConnection: close\x0d\x0a\x0d\x0a",
	port => server_port('deny')), 'Proxy-Status'), undef, 'no field for a GET');

###############################################################################
# A tunnel that stood

log_mark($t, 'why.log');
$socket = start('plain', undef, $echo);
$socket->read_header();
$socket->half_close();
$socket->read_to_end();
is(why($t, 'plain'), '200 [] allowed', 'a tunnel that came to its end');

log_mark($t, 'why.log');
$socket = start('plain', undef, $reset);
$socket->read_header();
$socket->send('x')->ending();
is(why($t, 'plain'), '200 [connection_terminated] allowed', 'a tunnel whose upstream reset it');

log_mark($t, 'why.log');
$socket = start('plain', undef, $echo);
$socket->read_header();
$socket->ending();
is(why($t, 'plain'), '200 [connection_read_timeout] allowed', 'a tunnel in which nothing moved');

log_mark($t, 'why.log');
$socket = start('denying', undef, $echo);
like($socket->read_header(), qr/^HTTP\/1\.1 403 No/, 'a tunnel that is announced as none');
$socket->half_close();
$socket->read_to_end();
is(why($t, 'denying'), '403 [] allowed', 'a tunnel that is announced as none: no error');

# Who leaves has met no error.
log_mark($t, 'why.log');
$socket = start('plain', undef, '127.0.0.1:' . port(8083));
$socket->close();
is(why($t, 'plain'), '499 [] -', 'a client that left');

$t->stop();

###############################################################################

# A CONNECT with a header field fails with this status and error, and both know.
sub fails {
	my ($t, $server, $authority, $field, $status, $error, $name, $verdict, $proxy) = @_;

	log_mark($t, 'why.log');
	my $answer = answer($server, $authority, $field ? $field : ());
	is(join(' ', status_of($answer), header_of($answer, 'Proxy-Status') // 'none'),
		"$status " . ($proxy // 'proxy.example') . "; error=$error", "$name: the client");

	my ($token) = split /;/, $error;
	is(why($t, $server), "$status [$token] " . ($verdict // '-'), "$name: the log");
}

# What the access log says of the next request to a server.
sub why {
	my ($t, $server) = @_;
	return wait_for_line($t, qr/^\Q$server\E /, 'why.log') =~ s/^\S+ //r;
}
