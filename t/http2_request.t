#!/usr/bin/perl

# A CONNECT over HTTP/2 is a request as any other over HTTP/1: phases, variables, rules, credentials, pages for its
# refusal; and what is about the bodies of requests and answers leaves its tunnel alone.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Hello;
use Test::ProxyConnect::HTTP2 qw/ END_STREAM block http2_on /;
use Test::ProxyConnect::Status;

use Digest::SHA qw/ sha256_hex /;
use Time::HiRes qw/ time /;

use constant CONNECT_ERROR => 10;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_v2 rewrite auth_basic access limit_conn gzip proxy/);

plan(skip_all => 'CONNECT over HTTP/2 needs nginx 1.22 or newer') unless $t->has_version('1.22.0');

my $on = http2_on($t);

$t->plan(69)->write_file_expand('nginx.conf', <<'EOF' =~ s/%%HTTP2%%/$on/gr);

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

error_log  %%TESTDIR%%/error.log debug;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  tunnels  "$server_port|$request|$status|$request_method|$server_protocol|$http2|"
                         "$uri$request_uri|$host|$http_host|$connect_host|$connect_port|"
                         "$http_cookie|$http_x_field|$remote_user|$request_completion|"
                         "$proxy_connect_close_reason|$proxy_connect_error|$proxy_connect_sni";
    log_format  counts   "$server_port|$status|$request_length|$bytes_sent|$body_bytes_sent|"
                         "$proxy_connect_bytes_sent|$proxy_connect_bytes_received|$request_time|"
                         "$proxy_connect_connect_time|$proxy_connect_duration|$connect_addr";
    access_log  %%TESTDIR%%/tunnels.log tunnels;
    access_log  %%TESTDIR%%/counts.log counts;

    # what is about bodies
    client_max_body_size       1;
    client_body_timeout        200ms;
    client_body_buffer_size    1;
    send_timeout               200ms;
    gzip                       on;
    gzip_min_length            0;
    gzip_types                 *;
    gzip_proxied               any;
    gzip_vary                  on;
    add_header                 X-Added  value always;
    expires                    1h;
    proxy_connect_response     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Seen: $http_x_field\r\n\r\n";

    limit_conn_zone  $server_port  zone=port:1m;

    server {
        listen       127.0.0.1:8080%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  %%PORT_8081%% %%PORT_8082%% %%PORT_8083%% %%PORT_8084%%;

        location / {
            return 200 "location";
        }
    }

    server {
        listen       127.0.0.1:8085%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  %%PORT_8081%% %%PORT_8082%% %%PORT_8083%% %%PORT_8084%%;
        proxy_connect_auth    on;
        auth_basic            closed;
        auth_basic_user_file  %%TESTDIR%%/users;
    }

    server {
        listen       127.0.0.1:8086%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  %%PORT_8081%% %%PORT_8082%% %%PORT_8083%% %%PORT_8084%%;
        error_page  403 502 =404 /page;
        error_page  400 @named;

        location /page {
            return 200 "page $proxy_connect_error";
        }

        location @named {
            return 418 "named";
        }
    }

    server {
        listen       127.0.0.1:8087%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  %%PORT_8081%% %%PORT_8082%% %%PORT_8083%% %%PORT_8084%%;
        limit_conn  port 2;

        deny   127.0.0.2;
        allow  all;
    }

    server {
        listen       127.0.0.1:8088%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  %%PORT_8081%% %%PORT_8082%% %%PORT_8083%% %%PORT_8084%%;
        proxy_connect_verify_sni  on;
        proxy_connect_address     127.0.0.1:%%PORT_8081%%;
    }

    server {
        listen       127.0.0.1:8089%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  %%PORT_8081%% %%PORT_8082%% %%PORT_8083%% %%PORT_8084%%;
        proxy_connect_max_bytes    1000;
        proxy_connect_tunnel_time  1s;
    }

    server {
        listen       127.0.0.1:8090%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  %%PORT_8081%% %%PORT_8082%% %%PORT_8083%% %%PORT_8084%%;

        set $where 127.0.0.1:%%PORT_8082%%;
        set $proxy_connect_data_timeout 300ms;
        proxy_connect_address $where;
        proxy_connect_proxy_status proxy.example details;

        if ($http_x_field = "stop") {
            return 429 "stopped";
        }
    }

    server {
        listen       127.0.0.1:8091%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow        %%PORT_8081%%;
        proxy_connect_status_zone  seen:64k;
    }

    server {
        listen       127.0.0.1:8092;
        server_name  localhost;

        location /tunnels { proxy_connect_tunnels control=on; }
    }
}

EOF

$t->write_file('users', "user:{PLAIN}password\n");
upstream($t, echo(), port(8081));
upstream($t, answer_at_eof(), port(8082));
upstream($t, reset_after(5, 'last'), port(8083));
upstream($t, discard(), port(8084));
$t->run();

sub h2 { return Test::ProxyConnect::HTTP2->new(cleartext => 1, port => port($_[0] // 8080), @_[1 .. $#_]) }
sub to { return '127.0.0.1:' . port($_[0]) }

sub is_logged {
	my ($t, $pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like(eval { wait_for_line($t, $pattern, 'tunnels.log') } // join("\n", log_lines($t, qr/./, 'tunnels.log')),
		$pattern, $name);
	log_mark($t, 'tunnels.log');
	return;
}

###############################################################################
# Variables

my $h2 = h2();
my $to = to(8081);
my $block = block(':method' => 'CONNECT', ':authority' => $to, 'cookie' => 'a=b', 'cookie' => 'c=d',
	'x-field' => 'value', 'proxy-authorization' => 'Basic c2VjcmV0OnNlY3JldA==', 'x-last' => 'seen');
my $id = $h2->headers($block);
is($h2->status($id), 200, 'a tunnel');
is($h2->field($id, 'x-seen'), 'value', 'a variable in the answer');
$h2->data($id, 'hello', END_STREAM);
is($h2->read_to_end($id), 'hello', 'its bytes');
my $port = port(8081);
is_logged($t, qr/^\d+\|CONNECT \Q$to\E HTTP\/2\.0\|200\|CONNECT\|HTTP\/2\.0\|h2c\|\|127\.0\.0\.1\|\Q$to\E\|127\.0\.0\.1\|$port\|a=b; c=d\|value\|(?:-|secret)\|OK\|client_eof\|\|-$/,
	'the access log');

my $line = wait_for_line($t, qr/./, 'counts.log');
my $octets = $h2->stream($id)->{octets};
like($line, qr/^\d+\|200\|${\length $block}\|$octets\|5\|5\|5\|\d\.\d+\|\d\.\d+\|\d\.\d+\|\Q$to\E$/, 'what it counts');
log_mark($t, 'counts.log');

$id = $h2->headers(block(':method' => 'CONNECT', ':authority' => 'LOCALHOST.:0443'));
is($h2->status($id), 403, 'a port that is not allowed');
is_logged($t, qr/^\d+\|CONNECT LOCALHOST\.:0443 HTTP\/2\.0\|403\|CONNECT\|HTTP\/2\.0\|h2c\|\|localhost\|localhost:443\|localhost\|443\|/,
	'the authority in its one form');

log_mark($t, 'counts.log');
$block = "\x82\x86\x84" . "\x41\x09localhost" . "\x40\x07x-field\x05value";
$id = $h2->headers($block, END_STREAM);
is($h2->read_to_end($id), 'location', 'a request beside them');
like(wait_for_line($t, qr/./, 'counts.log'), qr/^\d+\|200\|${\length $block}\|/, 'its length');
log_mark($t, 'counts.log');
$id = $h2->headers("\x82\x86\x84\xbf\xbe", END_STREAM);
is($h2->read_to_end($id), 'location', 'one of the table');
like(wait_for_line($t, qr/./, 'counts.log'), qr/^\d+\|200\|5\|/, 'the length as it was sent');

# What a CONNECT adds to the table is what the requests behind it mean, credentials included.
log_mark($t, 'tunnels.log');
my $open = $h2->headers("\x42\x07CONNECT" . "\x41" . chr(length $to) . $to . "\x40\x07x-field\x03one"
	. "\x71\x1aBasic c2VjcmV0OnNlY3JldA==" . "\x40\x07x-other\x03two");
is($h2->status($open), 200, 'a CONNECT that adds to the table');
$id = $h2->headers("\x82\x86\x84\xc4\xc0", END_STREAM);
is($h2->read_to_end($id), 'location', 'a request with a field of a CONNECT');
is_logged($t, qr/^\d+\|GET \/ HTTP\/2\.0\|200\|.*\|localhost\|localhost\|.*\|one\|/, 'its field');
$id = $h2->headers("\x82\x86\x84\xc4\x7f\x01\x05three\xbe", END_STREAM);
is($h2->read_to_end($id), 'location', 'a request with a name of a CONNECT');
# Before 1.23.0 a variable has the first of several.
my $both = $t->has_version('1.23.0') ? 'three, three' : 'three';
is_logged($t, qr/^\d+\|GET \/ HTTP\/2\.0\|200\|.*\|localhost\|localhost\|.*\|$both\|/, 'its fields');
$id = $h2->headers("\x82\x86\x84\xc5\xc0\xbe", END_STREAM);
is($h2->read_to_end($id), 'location', 'a request with the credentials of a CONNECT');
is_logged($t, qr/^\d+\|GET \/ HTTP\/2\.0\|200\|.*\|localhost\|localhost\|.*\|three\|/, 'its field');
$id = $h2->headers("\xc3\xc2\xc1", END_STREAM);
is($h2->status($id), 200, 'a CONNECT of what another has added');
is($h2->field($id, 'x-seen'), 'one', 'its field');
$h2->read_to_end($id);
$h2->data($open, 'still', END_STREAM);
is($h2->read_to_end($open), 'still', 'a tunnel beside them');
log_mark($t, 'counts.log');

# No log of any level has credentials.
my $all = $t->read_file('error.log');
like($all, qr/"x-last: seen"/, 'the debug log has fields') if $all =~ /\[debug\]/;
ok(1, 'no debug log') unless $all =~ /\[debug\]/;
unlike($all, qr/c2VjcmV0/, 'but no credentials');

###############################################################################
# Credentials

$h2 = h2(8085);
$id = $h2->connect($to);
is($h2->status($id), 407, 'no credentials');
like($h2->field($id, 'proxy-authenticate'), qr/^Basic realm="closed"/, 'they are asked for');
$id = $h2->connect($to, 'proxy-authorization' => 'Basic dXNlcjp3cm9uZw==');
is($h2->status($id), 407, 'the wrong ones');
$id = $h2->connect($to, 'authorization' => 'Basic b3JpZ2luOm9yaWdpbg==');
is($h2->status($id), 407, 'those for an origin');
$id = $h2->connect($to, 'proxy-authorization' => 'Basic dXNlcjpwYXNzd29yZA==');
is($h2->status($id), 200, 'the right ones, on the same connection');
$h2->data($id, 'in', END_STREAM);
is($h2->read_to_end($id), 'in', 'a tunnel');
is_logged($t, qr/\|200\|.*\|user\|OK\|/, 'its user');
$id = $h2->connect($to, map { ('proxy-authorization' => 'Basic dXNlcjpwYXNzd29yZA==') } 1 .. 2);
is($h2->status($id), 400, 'two of them');
unlike($t->read_file('error.log'), qr/dXNlcjpwYXNzd29yZA/, 'none in the log');

###############################################################################
# Phases and pages

$h2 = h2(8086);
$id = $h2->connect('127.0.0.1:1');
is($h2->status($id), 404, 'error_page: its status');
like($h2->read_to_end($id), qr/^page ./, 'error_page: its page');
$id = $h2->connect('nowhere');
is($h2->status($id), 400, 'error_page: a named location');
is($h2->read_to_end($id), 'named', 'error_page: its answer');

my $denied = h2(8087, local => '127.0.0.2');
is($denied->status($denied->connect($to)), 403, 'deny');

$h2 = h2(8087);
my @ids = map { $h2->tunnel($to) } 1 .. 2;
is($h2->status($h2->connect($to)), 503, 'limit_conn');
$h2->data($ids[0], 'x', END_STREAM);
$h2->read_to_end($ids[0]);
is_logged($t, qr/\|200\|.*\|OK\|/, 'one ends');
is($h2->status($ids[2] = $h2->connect($to)), 200, 'limit_conn counts those that stand');
$h2 = h2(8090);
$id = $h2->connect('a.example:' . port(8081));
is($h2->status($id), 200, 'set and proxy_connect_address');
like($h2->field($id, 'proxy-status'), qr/^proxy\.example/, 'Proxy-Status');
is($h2->ending($id), 'rst ' . CONNECT_ERROR, 'a timeout that is set');
is_logged($t, qr/\|timeout\|/, 'it is logged');
$id = $h2->connect('a.example:' . port(8081), 'x-field' => 'stop');
is($h2->status($id), 429, 'if and return in the server');
is($h2->read_to_end($id), 'stopped', 'its text');

###############################################################################
# SNI and limits

$h2 = h2(8088);
$id = $h2->tunnel("site.example:$port");
my $hello = hello(name => 'site.example');
$h2->data($id, $hello, END_STREAM);
is($h2->read_to_end($id), $hello, 'SNI: the right name');
$id = $h2->tunnel("site.example:$port");
$h2->data($id, $_) for hello(name => 'another.example') =~ /(.{1,50})/gs;
is($h2->ending($id), 'rst ' . CONNECT_ERROR, 'SNI: another one');
is_logged($t, qr/\|another\.example$/, 'SNI: it is logged');

$h2 = h2(8089);
$id = $h2->tunnel($to);
$h2->data($id, 'x' x 2000);
is($h2->ending($id), 'rst ' . CONNECT_ERROR, 'a quota');
is_logged($t, qr/\|quota\|/, 'it is logged');
$id = $h2->tunnel($to);
my $begin = time();
is($h2->ending($id), 'rst ' . CONNECT_ERROR, 'the time of a tunnel');
is_logged($t, qr/\|lifetime\|/, 'it is logged');
cmp_ok(time() - $begin, '<', 5, 'in time');

$h2 = h2(8091);
$id = $h2->tunnel($to);
my ($listed) = @{tunnels(undef, port => port(8092))->{tunnels}};
is($listed->{destination}, $to, 'a tunnel in the list');
is(status_of(ask("/tunnels/$listed->{id}/close", method => 'POST', port => port(8092))), 200, 'an operator closes it');
is($h2->ending($id), 'rst ' . CONNECT_ERROR, 'and so it ends');
is_logged($t, qr/\|closed_by_operator\|/, 'it is logged');

###############################################################################
# What is about bodies

$h2 = h2();
$id = $h2->connect($to, 'accept-encoding' => 'gzip', 'if-match' => '"x"', 'if-none-match' => '*', 'range' => 'bytes=0-1');
is($h2->status($id), 200, 'gzip: a tunnel');
is_deeply($h2->stream($id)->{fields}, { ':status' => 200, 'content-type' => 'text/plain', 'x-seen' => '' },
	'filters of answers: nothing is theirs');
my $noise = pattern(300_000);
$h2->upload($id, $noise);
is(sha256_hex($h2->read_bytes($id, 300_000)), sha256_hex($noise), 'client_max_body_size and the like: all bytes');

# Quiet for longer than the timeouts of bodies, on one side, and on the other.
my $full = h2(undef, window => 0);
my $stalled = $full->tunnel($to);
$full->upload($stalled, 'x' x 1000);
my $other = $h2->tunnel(to(8084));
select undef, undef, undef, 0.6;
$h2->data($id, 'still here', END_STREAM);
is($h2->read_to_end($id), 'still here', 'client_body_timeout');
ok(!defined $h2->ping()->stream($other)->{code}, 'client_body_timeout: of a client that says nothing');
$h2->end($other);
ok(!defined $full->ping()->stream($stalled)->{code}, 'send_timeout: the tunnel stands');
$full->open_window($stalled, 5000);
is($full->read_bytes($stalled, 1000), 'x' x 1000, 'send_timeout: all bytes');
$full->end($stalled);

###############################################################################
# What comes of the upstream

$h2 = h2();
$id = $h2->tunnel(to(8083));
$h2->data($id, 'reset');
is($h2->ending($id), 'rst ' . CONNECT_ERROR, 'a reset');
is_logged($t, qr/\|200\|.*\|upstream_reset\|/, 'its reason');
$id = $h2->tunnel(to(8084));
$h2->rst($id);
is_logged($t, qr/\|200\|.*\|client_reset\|/, 'a reset of the client');
$id = $h2->connect($to);
$h2->rst($id);
is_logged($t, qr/\|(?:499|200)\|/, 'a reset of the client before the answer');

###############################################################################
