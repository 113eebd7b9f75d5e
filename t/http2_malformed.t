#!/usr/bin/perl

# What is wrong with a CONNECT over HTTP/2, or with what comes behind it: an error of its stream ends that alone,
# one of the connection ends it with the right code, and the log has a line for the one and the other.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::HTTP2 qw/ END_STREAM END_HEADERS PADDED PRIORITY as_frame block http2_on /;

use constant { DATA => 0, HEADERS => 1, PRIORITY_FRAME => 2, RST_STREAM => 3, SETTINGS => 4, PUSH_PROMISE => 5,
	PING => 6, WINDOW_UPDATE => 8, CONTINUATION => 9 };
use constant { NO_ERROR => 0, PROTOCOL_ERROR => 1, FLOW_CONTROL_ERROR => 3, FRAME_SIZE_ERROR => 6, CANCEL => 8,
	COMPRESSION_ERROR => 9 };

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_v2 rewrite/);

plan(skip_all => 'CONNECT over HTTP/2 needs nginx 1.22 or newer') unless $t->has_version('1.22.0');

my $on = http2_on($t);

$t->write_file_expand('nginx.conf', <<'EOF' =~ s/%%HTTP2%%/$on/gr);

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  tunnels  "$request|$status|$connect_host|$http_user_agent";
    access_log  %%TESTDIR%%/tunnels.log tunnels;

    keepalive_requests         100000;
    reset_timedout_connection  on;

    server {
        listen       127.0.0.1:8080%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        error_page  400  /page;

        location / {
            return 200 "here\n";
        }

        location /page {
            return 200 "page\n";
        }
    }

    server {
        listen       127.0.0.1:8084%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        client_header_timeout  1s;
    }
}

EOF

upstream($t, echo(), port(8081));
upstream($t, answer_at_eof(), port(8082));
upstream($t, reset_after(5, 'all'), port(8083));

my $to = '127.0.0.1:' . port(8081);
my @connect = (':method' => 'CONNECT', ':authority' => $to);

# Fields, and what the log says of them.
my @malformed = (
	[ 'no authority', 'without ":authority"', ':method' => 'CONNECT' ],
	[ 'a path', 'with ":scheme" or ":path"', @connect, ':path' => '/' ],
	[ 'a scheme', 'with ":scheme" or ":path"', @connect, ':scheme' => 'https' ],
	[ 'two methods', 'with a pseudo-header field twice', @connect, ':method' => 'CONNECT' ],
	[ 'another method in front', 'with a pseudo-header field twice', ':method' => 'GET', @connect ],
	[ 'another method behind', 'with a pseudo-header field twice', @connect, ':method' => 'GET' ],
	[ 'two authorities', 'with a pseudo-header field twice', @connect, ':authority' => $to ],
	[ 'a pseudo-header field behind others', 'with a pseudo-header field behind other fields', ':method' => 'CONNECT', 'a' => 'b',
		':authority' => $to ],
	[ 'a method behind other fields', 'with a pseudo-header field behind other fields', 'a' => 'b', @connect ],
	[ 'one of an answer', 'with an unknown pseudo-header field', @connect, ':status' => 200 ],
	[ 'one that nobody knows', 'with an unknown pseudo-header field', @connect, ':host' => $to ],
	[ 'an upper-case name', 'with an invalid field name', @connect, 'X-Field' => 'a' ],
	[ 'a name with a space', 'with an invalid field name', @connect, 'x field' => 'a' ],
	[ 'a name with a line break', 'with an invalid field name', @connect, "x\x0afield" => 'a' ],
	[ 'a name with a colon', 'with an invalid field name', @connect, 'x:field' => 'a' ],
	[ 'no name', 'with an invalid field name', @connect, '' => 'a' ],
	[ 'a value with a line break', 'with an invalid field value', @connect, 'x' => "a\x0d\x0ab: c" ],
	[ 'a value with a null character', 'with an invalid field value', @connect, 'x' => "a\0" ],
	(map { [ "the field $_", 'with a connection-specific field', @connect, $_ => 'close' ] }
		qw/ connection proxy-connection keep-alive transfer-encoding upgrade te /),
	[ 'another host', 'with a "Host" other than its ":authority"', @connect, 'host' => 'another.example:1' ],
);

# Fields with which there is an answer.
my @answered = (
	[ 400, 'no port', ':method' => 'CONNECT', ':authority' => '127.0.0.1' ],
	[ 400, 'port 0', ':method' => 'CONNECT', ':authority' => '127.0.0.1:0' ],
	[ 400, 'no host', ':method' => 'CONNECT', ':authority' => ':443' ],
	[ 400, 'an empty authority', ':method' => 'CONNECT', ':authority' => '' ],
	[ 400, 'a path in the authority', ':method' => 'CONNECT', ':authority' => 'a/b:1' ],
	[ 400, 'userinfo', ':method' => 'CONNECT', ':authority' => 'user@127.0.0.1:1' ],
	[ 400, 'a line break in the authority', ':method' => 'CONNECT', ':authority' => "127.0.0.1:1\x0a" ],
	[ 400, 'a body', @connect, 'content-length' => 5 ],
	[ 400, 'a length that is none', @connect, 'content-length' => 'x' ],
	[ 501, 'extended CONNECT', @connect, ':protocol' => 'websocket', ':scheme' => 'https', ':path' => '/' ],
	[ 501, 'extended CONNECT of nothing', @connect, ':protocol' => '' ],
	[ 200, 'a body of no bytes', @connect, 'content-length' => 0 ],
	[ 200, 'TE that may be', @connect, 'te' => 'trailers' ],
	[ 200, 'the same host', @connect, 'host' => $to ],
	[ 200, 'fields and cookies', @connect, 'cookie' => 'a=b', 'cookie' => 'c=d', 'x-y' => '', 'x' => "\xe4 " ],
);

# What ends the connection, and the code of GOAWAY.
my @fatal = (
	[ PROTOCOL_ERROR, 'a stream that goes back', sub {
		my $skipped = $_[0]->new_stream();
		$_[0]->tunnel($to);
		$_[0]->frame(HEADERS, END_HEADERS, $skipped, block(@connect)) } ],
	[ PROTOCOL_ERROR, 'an even stream', sub { $_[0]->frame(HEADERS, END_HEADERS, 2, block(@connect)) } ],
	[ PROTOCOL_ERROR, 'HEADERS of no stream', sub { $_[0]->frame(HEADERS, END_HEADERS, 0, block(@connect)) } ],
	[ PROTOCOL_ERROR, 'CONTINUATION of nothing', sub { $_[0]->frame(CONTINUATION, END_HEADERS, 1, '') } ],
	[ PROTOCOL_ERROR, 'CONTINUATION of another stream', sub {
		$_[0]->frame(HEADERS, 0, 1, block(@connect))->frame(CONTINUATION, END_HEADERS, 3, '') } ],
	[ PROTOCOL_ERROR, 'another frame in a block', sub {
		$_[0]->frame(HEADERS, 0, 1, block(@connect))->frame(PING, 0, 0, '12345678') } ],
	[ PROTOCOL_ERROR, 'padding longer than HEADERS', sub {
		$_[0]->frame(HEADERS, END_HEADERS | PADDED, 1, "\xff" . block(@connect)) } ],
	[ PROTOCOL_ERROR, 'HEADERS too short for a priority', sub {
		$_[0]->frame(HEADERS, END_HEADERS | PRIORITY, 1, 'abcd') } ],
	[ PROTOCOL_ERROR, 'padding longer than DATA', sub {
		$_[0]->frame(DATA, PADDED, $_[0]->tunnel($to), "\x05abc") } ],
	[ PROTOCOL_ERROR, 'a promise', sub { $_[0]->frame(PUSH_PROMISE, END_HEADERS, 1, pack('N', 2) . block(@connect)) } ],
	[ FRAME_SIZE_ERROR, 'RST_STREAM of 3 bytes', sub { $_[0]->frame(RST_STREAM, 0, $_[0]->tunnel($to), 'abc') } ],
	[ FRAME_SIZE_ERROR, 'WINDOW_UPDATE of 3 bytes', sub { $_[0]->frame(WINDOW_UPDATE, 0, $_[0]->tunnel($to), 'abc') } ],
	[ PROTOCOL_ERROR, 'a stream that depends on itself', sub {
		$_[0]->frame(PRIORITY_FRAME, 0, $_[0]->tunnel($to), pack 'NC', 1, 7) } ],
	[ PROTOCOL_ERROR, 'WINDOW_UPDATE of 0', sub { $_[0]->open_window($_[0]->tunnel($to), 0) } ],
	[ PROTOCOL_ERROR, 'WINDOW_UPDATE of 0 for the connection', sub { $_[0]->open_window(0, 0) } ],
	[ FLOW_CONTROL_ERROR, 'too large a window of the connection', sub { $_[0]->open_window(0, 0x7fffffff) } ],
	[ FLOW_CONTROL_ERROR, 'too large a window in SETTINGS', sub {
		$_[0]->frame(SETTINGS, 0, 0, pack 'nN', 4, 0x80000000) } ],
);

$t->plan(2 * @malformed + @answered + 3 * @fatal + 46)->run();

sub h2 { return Test::ProxyConnect::HTTP2->new(cleartext => 1, port => port(8080), @_) }

###############################################################################
# Errors of a stream

my $h2 = h2();
my $sibling = $h2->tunnel($to);

for my $case (@malformed) {
	my ($name, $says, @fields) = @$case;
	log_mark($t);

	my $id = $h2->headers(block(@fields, 'user-agent' => 'x'));
	$h2->data($id, 'ignored', END_STREAM);
	is($h2->ending($id), 'rst ' . PROTOCOL_ERROR, $name);
	ok(wait_for_line($t, qr/client sent CONNECT \Q$says\E/) && !$h2->stream($id)->{status},
		"$name: in the log, and no answer");
}

$h2->data($sibling, 'alive');
is($h2->read_bytes($sibling, 5), 'alive', 'a tunnel beside them');

is($h2->read_to_end($h2->get('/', 'localhost')), "here\n", 'a request behind them');
is(scalar(grep { /^CONNECT \S+ HTTP\/2\.0\|400\|/ } log_lines($t, qr/./, 'tunnels.log')), scalar @malformed,
	'the access log has each as 400');

for my $case (@answered) {
	my ($status, $name, @fields) = @$case;
	my $id = $h2->headers(block(@fields));
	is($h2->status($id), $status, $name);
	$status == 200 ? $h2->end($id) : $h2->data($id, 'ignored');
}

my $id = $h2->headers(block(':method' => 'CONNECT', ':authority' => 'nowhere', 'user-agent' => 'x'));
is($h2->read_to_end($id), "page\n", 'error_page applies');
like(wait_for_line($t, qr/nowhere/, 'tunnels.log'), qr/^CONNECT nowhere HTTP\/2\.0\|400\|-?\|x$/, 'what is no authority, as it was sent');
ok(wait_for_line($t, qr/client sent CONNECT with ":protocol", which is not supported/), 'extended CONNECT is logged');

# On a connection that is at rest otherwise.
my $alone = h2();
$id = $alone->headers(block(@connect, ':path' => '/'), END_STREAM);
is($alone->ending($id), 'rst ' . PROTOCOL_ERROR, 'a malformed one alone');
$id = $alone->tunnel($to);
$alone->data($id, 'fine', END_STREAM);
is($alone->read_to_end($id), 'fine', 'and a tunnel behind it');

# Many, while the client reads nothing.
$alone->headers(block(@connect, ':path' => '/')) for 1 .. 100;
$id = $alone->tunnel($to);
is(scalar(grep { ($_->{code} // '') eq PROTOCOL_ERROR } values %{$alone->{streams}}), 101, '100 malformed ones at once');
$alone->end($id);

###############################################################################
# What comes behind a CONNECT

# Trailers, before the end of the upstream and behind it.
$id = $h2->tunnel('127.0.0.1:' . port(8082));
$h2->data($id, 'bytes');
$h2->frame(HEADERS, END_HEADERS | END_STREAM, $id, block('x-trailer' => 'value'));
is($h2->read_to_end($id), 'bytes', 'trailers are an end');

$id = $h2->tunnel('127.0.0.1:' . port(8083));
$h2->data($id, 'reset');
is($h2->read_to_end($id), 'all', 'an upstream that resets');
$h2->data($id, 'late');
$h2->frame(HEADERS, END_HEADERS | END_STREAM, $id, "\x40\x06x-late\x05value");
$id = $h2->get('/', 'localhost');
is($h2->read_to_end($id), "here\n", 'trailers of a tunnel that is closed');
$id = $h2->headers("\x82\x84\x87\xbe", END_STREAM);
like($h2->status($id), qr/^[24]0/, 'the table has them');

$id = $h2->tunnel($to);
$h2->rst($id, CANCEL);
$h2->frame(HEADERS, END_HEADERS | END_STREAM, $id, block('x-trailer' => 'value'));
$h2->rst($id, NO_ERROR);
$h2->open_window($id, 5);
$h2->frame(DATA, 0, $id, 'late');
is($h2->read_to_end($h2->get('/', 'localhost')), "here\n", 'all kinds of frames behind a reset');

$id = $h2->tunnel($to);
$h2->open_window($id, 0x7fffffff);
is($h2->ending($id), 'rst ' . FLOW_CONTROL_ERROR, 'too large a window');
$id = $h2->tunnel($to);
$h2->frame(PRIORITY_FRAME, 0, $id, pack 'NC', 1, 7);
$h2->data($id, 'fine', END_STREAM);
is($h2->read_to_end($id), 'fine', 'a priority');
$id = $h2->tunnel($to);
$h2->frame(HEADERS, END_HEADERS, $id, block('x' => 'y'));
is($h2->ending($id), 'rst ' . PROTOCOL_ERROR, 'fields that are no trailers');
$id = $h2->tunnel($to);
$h2->frame(99, 0xff, $id, 'whatever');
$h2->data($id, 'fine', END_STREAM);
is($h2->read_to_end($id), 'fine', 'a frame of a kind that nobody knows');

$h2->data($sibling, 'alive', END_STREAM);
is($h2->read_to_end($sibling), 'alive', 'the tunnel beside them');

###############################################################################
# Errors of the connection

my $other = h2();
my $bystander = $other->tunnel($to);

for my $case (@fatal) {
	my ($code, $name, $does) = @$case;
	my $bad = h2();
	eval { $does->($bad) };
	is($bad->closing(), "eof $code", $name);
	$other->data($bystander, 'alive');
	is($other->read_bytes($bystander, 5), 'alive', "$name: others go on");
	is(scalar(grep { /\[(alert|crit|emerg)\]/ } log_lines($t, qr/./)), 0, "$name: the log");
}

###############################################################################
# A block that does not end in time: of its stream alone

my $block = block(@connect, 'x-late' => 'late');

sub of_block {
	my ($flags, $id) = @_;
	return as_frame(HEADERS, $flags, $id, $block);
}

for my $case (
	[ 'HEADERS in part', sub { unpack 'a20 a*', of_block(END_HEADERS, $_[0]) } ],
	[ 'its header alone', sub { unpack 'a9 a*', of_block(END_HEADERS, $_[0]) } ],
	[ 'CONTINUATION that does not come', sub { of_block(0, $_[0]), as_frame(CONTINUATION, END_HEADERS, $_[0], '') } ],
	[ 'CONTINUATION in part', sub {
		unpack 'a30 a*', as_frame(HEADERS, 0, $_[0], '') . as_frame(CONTINUATION, END_HEADERS, $_[0], $block) } ],
) {
	my ($name, $pieces) = @$case;
	my $slow = h2(port => port(8084));
	my $tunnel;

	for my $where ('alone', 'beside a tunnel') {
		log_mark($t);
		my $id = $slow->new_stream();
		my ($begun, $rest) = $pieces->($id);
		$slow->{socket}->send($begun);
		is($slow->ending($id), 'rst ' . PROTOCOL_ERROR, "client_header_timeout: $name, $where");
		like(wait_for_line($t, qr/timed out/),
			qr/proxy_connect: client timed out within a field block of stream $id .*, client: 127/,
			"client_header_timeout: $name, $where: the log");

		$slow->{socket}->send($rest);
		$tunnel //= $slow->tunnel($to);
		$slow->data($tunnel, 'alive');
		is($slow->read_bytes($tunnel, 5), 'alive', "client_header_timeout: $name, $where: the connection lives");
	}
}

my $slow = h2(port => port(8084));
$slow->tunnel($to);
$slow->{socket}->send(substr of_block(END_HEADERS, 2), 0, 20);
is($slow->closing(), 'eof ' . PROTOCOL_ERROR, 'client_header_timeout: no stream that a client may open');

# What never becomes a block is refused before.
my $begin = time();
$slow = h2();
$slow->{socket}->send(substr as_frame(HEADERS, END_HEADERS, 1, "\xff" x 100), 0, 13);
is($slow->closing(), 'eof ' . COMPRESSION_ERROR, 'too large a number, and no more');
cmp_ok(time() - $begin, '<', 10, 'at once');

###############################################################################
