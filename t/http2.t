#!/usr/bin/perl

# CONNECT over HTTP/2, frame by frame: tunnels, their ends, their windows, what is refused, and what else
# goes over the same connection.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::HTTP2 qw/ END_STREAM END_HEADERS PADDED PRIORITY /;

use Digest::SHA qw/ sha256_hex /;

use constant { DATA => 0, HEADERS => 1, PRIORITY_FRAME => 2, CONTINUATION => 9 };
use constant { PROTOCOL_ERROR => 1, FLOW_CONTROL_ERROR => 3, CANCEL => 8, COMPRESSION_ERROR => 9,
	CONNECT_ERROR => 10 };

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl http_v2 rewrite socket_ssl/);

plan(skip_all => 'CONNECT over HTTP/2 needs nginx 1.22 or newer') unless $t->has_version('1.22.0');

my $on = $t->has_version('1.25.1') ? '; http2 on' : ' http2';

$t->plan(73)->write_file_expand('nginx.conf', <<'EOF' =~ s/%%HTTP2%%/$on/gr);

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;
error_log %%TESTDIR%%/error.log info;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    http2_max_concurrent_streams  256;
    keepalive_requests            100000;

    log_format  tunnels  "$request|$status|$connect_host|$connect_port|$server_protocol|$uri|"
                         "$proxy_connect_bytes_sent|$proxy_connect_bytes_received|"
                         "$proxy_connect_close_reason|$http_user_agent";
    access_log  %%TESTDIR%%/tunnels.log tunnels;

    server {
        listen       127.0.0.1:8443 ssl%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  %%PORT_8081%% %%PORT_8082%% %%PORT_8083%% %%PORT_8084%% %%PORT_8085%%
                             %%PORT_8086%% %%PORT_8087%% %%PORT_8099%%;

        location / {
            return 200 "here $request_method $http_x_field\n";
        }
    }

    server {
        listen       127.0.0.1:8444 ssl%%HTTP2%%;
        server_name  localhost;

        location / {
            return 200 "no proxy\n";
        }
    }

    server {
        listen       127.0.0.1:8443 ssl%%HTTP2%%;
        server_name  127.0.0.2;
    }

    server {
        listen       127.0.0.1:8446 ssl%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow         all;
        proxy_connect_http2_window  off;
    }

    server {
        listen       127.0.0.1:8445 ssl%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow         all;
        proxy_connect_data_timeout  500ms;
        proxy_connect_http2_window  64k;
        http2_body_preread_size     0;
        proxy_connect_response      "HTTP/1.1 299 Fine\r\nX-Agent: $proxy_connect_resolve_time x\r\nConnection: close\r\n\r\n";

        auth_basic            "closed";
        auth_basic_user_file  %%TESTDIR%%/users;
    }
}

EOF

$t->write_file('users', "user:{PLAIN}password\n");
certificate($t, 'localhost');

upstream($t, echo(), port(8081));
upstream($t, answer_at_eof(), port(8082));
upstream($t, half_close_after('all'), port(8083));
upstream($t, reset_after(5, 'last words'), port(8084));
upstream($t, discard(), port(8085));
$t->write_file('deaf', '');
upstream($t, deaf($t->testdir() . '/deaf'), port(8086));
upstream($t, source(4_000_000), port(8087));

$t->run();

# Reads nothing as long as there is a file.
sub deaf {
	my ($file) = @_;
	return sub { wait_until('The file stays', sub { !-e $file }, 60) };
}

sub h2 { return Test::ProxyConnect::HTTP2->new(port => port(8443), @_) }
sub to { return '127.0.0.1:' . port($_[0]) }
sub block { return Test::ProxyConnect::HTTP2::block(@_) }

sub is_logged {
	my ($t, $pattern, $name) = @_;
	like(wait_for_line($t, $pattern, 'tunnels.log'), $pattern, $name);
	return;
}

###############################################################################
# A tunnel, and requests beside it

my $h2 = h2();
my $id = $h2->tunnel(to(8081), 'user-agent' => 'first');

is($h2->field($id, 'proxy-agent'), 'nginx', 'the fields of the answer');
ok(!$h2->stream($id)->{has_ended}, 'no end yet');

$h2->data($id, 'hello');
is($h2->read_bytes($id, 5), 'hello', 'bytes there and back');

my $get = $h2->get('/', 'localhost', 'x-field' => 'value');
is($h2->read_to_end($get), "here GET value\n", 'a request beside the tunnel');
is($h2->status($get), 200, 'its status');

$h2->data($id, 'again', END_STREAM);
is($h2->read_to_end($id), 'again', 'bytes behind it');
is($h2->ending($id), 'end', 'the end of the upstream');
is_logged($t, qr/^CONNECT \S+ HTTP\/2\.0\|200\|127\.0\.0\.1\|\d+\|HTTP\/2\.0\|\|10\|10\|client_eof\|first$/,
	'the access log');

$id = $h2->tunnel(to(8081));
$h2->data($id, 'next', END_STREAM);
is($h2->read_to_end($id), 'next', 'the next tunnel of the connection');

###############################################################################
# Half-closes

$id = $h2->tunnel(to(8082));
$h2->data($id, 'question');
$h2->end($id);
is($h2->read_to_end($id), 'question', 'an answer behind the end of the client');
is($h2->ending($id), 'end', 'and then its end');

$id = $h2->tunnel(to(8083));
is($h2->read_to_end($id), 'all', 'all before the end of the upstream');
is($h2->ending($id), 'end', 'its end');
$h2->data($id, 'still here', END_STREAM);
wait_for_upstream($t, qr/^\S*:${\port(8083)} closed after 10 bytes, eof/);
ok(!defined $h2->ping()->stream($id)->{code}, 'no reset after both ends');
is_logged($t, qr/\|10\|3\|upstream_eof\|/, 'the end of the upstream came first');

$id = $h2->headers(block(':method' => 'CONNECT', ':authority' => to(8082)), END_STREAM);
is($h2->status($id), 200, 'END_STREAM on HEADERS');
is($h2->read_to_end($id), '', 'nothing to say');
is($h2->ending($id), 'end', 'and an end');

###############################################################################
# Resets

$id = $h2->tunnel(to(8084));
$h2->data($id, 'reset');
is($h2->ending($id), 'rst ' . CONNECT_ERROR, 'a reset of the upstream');
is($h2->data_of($id), 'last words', 'behind all that it sent');
is_logged($t, qr/\|5\|10\|upstream_reset\|/, 'it is logged');

$id = $h2->tunnel(to(8085));
$h2->data($id, 'abc');
wait_until('The upstream heard nothing', sub { upstream_lines($t, qr/:${\port(8085)} accepted/) });
$h2->rst($id, CANCEL);
like(wait_for_upstream($t, qr/^\S*:${\port(8085)} closed/), qr/closed after \d+ bytes, reset/,
	'a reset of the client');
is_logged($t, qr/\|client_reset\|/, 'it is logged');

my $other = h2();
my @ids = map { $other->tunnel(to(8085)) } 1 .. 3;
$other->ping();
$other->{socket}->reset();
wait_until('Not all upstreams were closed', sub {
	upstream_lines($t, qr/^\S*:${\port(8085)} closed after \d+ bytes, reset/) == 4;
});
pass('a client that leaves is a reset for all its upstreams');

$id = $h2->tunnel(to(8081));
$h2->data($id, 'alive', END_STREAM);
is($h2->read_to_end($id), 'alive', 'others go on');

###############################################################################
# Frames of all kinds

$id = $h2->connect(to(8082));
$h2->data($id, 'early');
$h2->data($id, '');
$h2->frame(DATA, PADDED, $id, "\x05 late\0\0\0\0\0");
$h2->frame(PRIORITY_FRAME, 0, $id, pack 'NC', 0, 7);
$h2->frame(DATA, PADDED | END_STREAM, $id, "\x02\0\0");
is($h2->read_to_end($id), 'early late', 'bytes before the answer, empty and padded frames');

my $connect = block(':method' => 'CONNECT', ':authority' => to(8082));
$id = $h2->new_stream();
$h2->frame(HEADERS, PADDED | PRIORITY, $id, "\x03" . pack('NC', 0, 1) . substr($connect, 0, 9) . "\0\0\0");
$h2->frame(CONTINUATION, 0, $id, substr $connect, 9, 9);
$h2->frame(CONTINUATION, END_HEADERS, $id, substr $connect, 18);
is($h2->status($id), 200, 'HEADERS with padding and priority, CONTINUATION');
$h2->data($id, 'bytes');
$h2->frame(HEADERS, END_HEADERS | END_STREAM, $id, block('x-trailer' => 'value'));
is($h2->read_to_end($id), 'bytes', 'trailers are an end');

$id = $h2->tunnel(to(8085));
$h2->frame(HEADERS, END_HEADERS, $id, block('x-trailer' => 'value'));
is($h2->code($id), PROTOCOL_ERROR, 'fields in the middle of a tunnel');

# An entry of the dynamic table, and what refers to it.
$id = $h2->headers(block(':method' => 'CONNECT') . "\x41" . Test::ProxyConnect::HTTP2::string(to(8082)));
is($h2->status($id), 200, 'an authority for the table');
$h2->end($id);
$id = $h2->headers(block(':method' => 'CONNECT') . "\xbe");
is($h2->status($id), 200, 'an authority of the table');
$h2->end($id);
$get = $h2->headers("\x82\x84\x87\xbe\x40\x07x-field\x05value", END_STREAM);
is($h2->read_to_end($get), "here GET value\n", 'a request with a name of the table');
$get = $h2->headers("\x82\x84\x87\xbf\xbe", END_STREAM);
is($h2->read_to_end($get), "here GET value\n", 'a request with a field of the table');

# One byte at a time.
$id = $h2->new_stream();
$h2->{socket}->send_in_pieces(join('', map { Test::ProxyConnect::HTTP2::as_frame(@$_) }
	[ HEADERS, END_HEADERS, $id, $connect ], [ DATA, 0, $id, 'slow' ], [ DATA, 1, $id, 'ly' ]), 1, 0.0002);
is($h2->read_to_end($id), 'slowly', 'bytes that come alone');

###############################################################################
# Refusals; the connection lives

for my $case (
	[ 403, 'a port that is not allowed', ':authority' => '127.0.0.1:1' ],
	[ 502, 'nobody listens there', ':authority' => to(8099) ],
	[ 400, 'no port', ':authority' => '127.0.0.1' ],
	[ 400, 'a body', ':authority' => to(8081), 'content-length' => 5 ],
	[ 501, 'a protocol', ':authority' => to(8081), ':protocol' => 'websocket', ':scheme' => 'https',
		':path' => '/' ],
) {
	my ($status, $name, @fields) = @$case;
	$id = $h2->headers(block(':method' => 'CONNECT', @fields));
	is($h2->status($id), $status, $name);
	$h2->data($id, 'ignored');
}

like(wait_for_line($t, qr/":protocol"/), qr/client sent CONNECT with ":protocol", which is not supported/,
	'extended CONNECT is logged');

$get = $h2->get('/', 'localhost');
is($h2->read_to_end($get), "here GET \n", 'the connection lives');

my $closed = Test::ProxyConnect::HTTP2->new(port => port(8444));
$id = $closed->connect(to(8081));
is($closed->status($id), 400, 'an address without "proxy_connect": the answer of nginx');
$get = $closed->get('/', 'localhost');
is($closed->read_to_end($get), "no proxy\n", 'its other requests');

my $off = Test::ProxyConnect::HTTP2->new(port => port(8446));
is($off->status($off->connect(to(8081))), 400, 'an address without tunnels over HTTP/2');

$id = $h2->connect('127.0.0.2:443');
is($h2->status($id), 405, 'a server without "proxy_connect" beside one that has it');
like(wait_for_line($t, qr/ 127\.0\.0\.2:443 HTTP/), qr/client sent connect method to a server without "proxy_connect"/,
	'which is what the log says');

$id = $h2->headers(block(':method' => 'CONNEC', ':scheme' => 'https', ':path' => '/', ':authority' => 'a'));
is($h2->read_to_end($id), "here CONNEC \n", 'a method that a CONNECT is shown with');

my $auth = Test::ProxyConnect::HTTP2->new(port => port(8445));
$id = $auth->connect(to(8081));
like($auth->status($id), qr/^40[17]$/, 'credentials are asked for');
$id = $auth->connect(to(8081), authorization => 'Basic dXNlcjpwYXNzd29yZA==',
	'proxy-authorization' => 'Basic dXNlcjpwYXNzd29yZA==');
is($auth->status($id), 299, 'the status of "proxy_connect_response"');
like($auth->field($id, 'x-agent'), qr/^0\.\d+ x$/, 'its field');
is($auth->field($id, 'connection'), undef, 'no field of a connection');
$auth->upload($id, pattern(200_000));
is($auth->read_bytes($id, 200_000), pattern(200_000), 'the settings have no window for streams');
is($auth->ending($id), 'rst ' . CONNECT_ERROR, 'the data timeout');
is_logged($t, qr/\|299\|.*\|timeout\|/, 'it is logged');

###############################################################################
# What ends a connection

for my $case (
	[ PROTOCOL_ERROR, 'another frame in a field block', sub {
		$_[0]->frame(HEADERS, 0, $_[0]->new_stream(), "\x82")->frame(DATA, 0, 1, 'a') } ],
	[ COMPRESSION_ERROR, 'an index that is none', sub { $_[0]->headers("\xff\x7f") } ],
	[ COMPRESSION_ERROR, 'a string that is no Huffman code', sub { $_[0]->headers("\x41\x82\xff\xff") } ],
	[ PROTOCOL_ERROR, 'padding longer than its frame', sub {
		my $id = $_[0]->tunnel(to(8085));
		$_[0]->frame(DATA, PADDED, $id, "\x01") } ],
	[ PROTOCOL_ERROR, 'a block of 70,000 bytes', sub { $_[0]->headers("\0" x 70_000) } ],
) {
	my ($code, $name, $does) = @$case;
	my $bad = h2();
	$does->($bad);
	is($bad->closing(), "eof $code", $name);
}

$h2 = h2();
$id = $h2->headers(block(':method' => 'CONNECT', ':authority' => to(8081), map { ("x-$_" => 'a' x 100) } 1 .. 600));
is($h2->status($id), 400, 'too many fields');

###############################################################################
# Windows

# A stream whose upstream reads nothing holds a window, and no other stream waits for it.
my $stalled = $h2->tunnel(to(8086));
my $sent = $h2->fill_window($stalled);

cmp_ok($h2->stream($stalled)->{window}, '<=', 0, "a window is full, after $sent bytes");
$id = $h2->tunnel(to(8081));
my $noise = pattern(1_000_000);
$h2->upload($id, $noise, END_STREAM);
is(sha256_hex($h2->read_to_end($id)), sha256_hex($noise), 'others go on beside it');

# The system may yet take some of it, and open it by that.
for (1 .. 2000) {
	last if defined $h2->stream($stalled)->{code};
	my $window = $h2->stream($stalled)->{window};
	$h2->data($stalled, 'x' x ($window < 1 ? 1 : $window > 16384 ? 16384 : $window))->ping();
}

is($h2->code($stalled), FLOW_CONTROL_ERROR, 'more than the window');

# A window grows with what is taken.
$id = $h2->tunnel(to(8085));
my $initial = $h2->stream($id)->{window};
$h2->upload($id, 'y' x 3_000_000, 0);
$h2->ping();
cmp_ok($h2->stream($id)->{updates}, '>', 3_000_000, 'a window grows');
cmp_ok($h2->stream($id)->{updates}, '<=', 3_000_000 + (8 << 20), 'up to its limit');
$h2->end($id);
$h2->ending($id);
like(wait_for_upstream($t, qr/closed after 3000000 bytes/), qr/eof/, 'all came');

# A client that has no window, and opens it by 1.
$other = h2(window => 0);
$id = $other->tunnel(to(8087));
is($other->ping()->data_of($id), '', 'nothing without a window');

for (1 .. 3) {
	my $count = $_;
	$other->open_window($id, 1);
	$other->wait_for('a byte', sub { length $other->data_of($id) >= $count });
}

is($other->ping()->data_of($id), substr(pattern(8), 0, 3), 'as many bytes as there is room for');
$other->open_window($id, 0x7fffff00);
is(sha256_hex($other->read_to_end($id)), sha256_hex(pattern(4_000_000)), 'and then all others');

###############################################################################
# Many

my %noise = map { $h2->tunnel(to(8081)) => substr(pattern(300_000), $_ * 1000) } 1 .. 100;
my %left = %noise;

while (%left) {
	for my $id (keys %left) {
		my $piece = substr $left{$id}, 0, 1 + int rand 16000, '';
		my $is_last = $left{$id} eq '';
		delete $left{$id} if $is_last;
		$h2->upload($id, $piece, $is_last ? END_STREAM : 0);
	}
}

my @bad = grep { sha256_hex($h2->read_to_end($_)) ne sha256_hex($noise{$_}) } keys %noise;
is("@bad", '', '100 tunnels at once');

# Opened and reset as fast as they go.
my $count = int(10_000 * SHARE) || 100;
$other = h2();

my $rapid = eval {
	for (1 .. $count) {
		my $id = $other->connect(to(8085));
		$other->rst($id, CANCEL);
		$other->ping() unless $_ % 100;
		last if $other->{ending};
	}
	1;
};

ok($rapid || $other->{ending}, "$count CONNECTs that are reset at once");
wait_until('Connections to the upstream are left', sub { sockets(worker_pid($t)) < 20 });
pass('none of them is left');

$h2 = h2();
$id = $h2->tunnel(to(8081));
$h2->data($id, 'fine', END_STREAM);
is($h2->read_to_end($id), 'fine', 'nginx goes on');

unlink $t->testdir() . '/deaf';
