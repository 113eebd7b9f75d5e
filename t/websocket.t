#!/usr/bin/perl

# A WebSocket client (RFC 6455) through a tunnel: ws:// straight to a server, and wss:// to an
# nginx that passes it on.

use warnings;
use strict;

use Test::More;
use Digest::SHA qw/ sha1_base64 /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# What kinds of frames there are.
use constant { TEXT => 1, BINARY => 2, CLOSE => 8, PING => 9, PONG => 10 };

use constant GUID => '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
use constant CRLF => "\x0d\x0a";

my $t = Test::Nginx->new()->has(qw/http http_ssl proxy socket_ssl/);

$t->plan(30)->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
    }

    server {
        listen       127.0.0.1:8443 ssl;
        server_name  localhost;

        location / {
            proxy_pass          http://127.0.0.1:8081;
            proxy_http_version  1.1;
            proxy_set_header    Upgrade $http_upgrade;
            proxy_set_header    Connection "Upgrade";
        }
    }
}

EOF

certificate($t, 'localhost');
my $server = upstream($t, \&serve, port(8081));
$t->run();

###############################################################################

for my $way ([ 'ws', $server ], [ 'wss', '127.0.0.1:' . port(8443) ]) {
	my ($scheme, $authority) = @$way;

	my $socket = tunnel($authority);
	$socket->start_tls() if $scheme eq 'wss';

	my $key = 'dGVzdHRlc3R0ZXN0dGVzdA==';
	$socket->send(join CRLF, 'GET /chat HTTP/1.1', "Host: $authority", 'Upgrade: websocket',
		'Connection: Upgrade', "Sec-WebSocket-Key: $key", 'Sec-WebSocket-Version: 13', '', '');

	my $header = $socket->read_header();
	like($header, qr/^HTTP.1\.1 101 /, "$scheme: the handshake");
	is(header_of($header, 'Sec-WebSocket-Accept'), accept_of($key), "$scheme: its key");

	for my $text ('', 'hello', 'x' x 125, 'y' x 126, 'z' x 65535, noise(65536), noise(2 ** 20)) {
		my $kind = length $text > 65535 ? BINARY : TEXT;
		send_frame($socket, $kind, $text, 'mask');
		is_deeply([ read_frame($socket) ], [ $kind, $text ],
			"$scheme: a frame of " . length($text) . ' bytes');
	}

	send_frame($socket, PING, 'are you there', 'mask');
	is_deeply([ read_frame($socket) ], [ PONG, 'are you there' ], "$scheme: a ping");

	# More than one on their way.
	send_frame($socket, TEXT, "number $_", 'mask') for 1 .. 500;
	is_deeply([ map { (read_frame($socket))[1] } 1 .. 500 ], [ map { "number $_" } 1 .. 500 ],
		"$scheme: 500 frames in a row");

	# Said by the server without being asked.
	send_frame($socket, TEXT, 'count to 3', 'mask');
	is_deeply([ map { (read_frame($socket))[1] } 1 .. 3 ], [ 1, 2, 3 ],
		"$scheme: frames of the server's own");

	# A frame in single bytes.
	$socket->send_in_pieces(frame(TEXT, 'slowly', 'mask'), 1);
	is_deeply([ read_frame($socket) ], [ TEXT, 'slowly' ], "$scheme: a frame in single bytes");

	send_frame($socket, CLOSE, pack('n', 1000) . 'bye', 'mask');
	is_deeply([ read_frame($socket) ], [ CLOSE, pack('n', 1000) . 'bye' ], "$scheme: the close");
	is($socket->ending(), 'eof', "$scheme: the end");
	$socket->close();
}

###############################################################################
# The server: it says what it hears

sub serve {
	my ($socket) = @_;
	my ($key) = $socket->read_header() =~ /^Sec-WebSocket-Key: (\S+)/mi or return;

	$socket->send(join CRLF, 'HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket',
		'Connection: Upgrade', 'Sec-WebSocket-Accept: ' . accept_of($key), '', '');

	while (1) {
		my ($kind, $text) = read_frame($socket);

		if ($kind == TEXT && $text =~ /^count to (\d+)$/) {
			send_frame($socket, TEXT, $_) for 1 .. $1;
			next;
		}

		send_frame($socket, $kind == PING ? PONG : $kind, $text);
		last if $kind == CLOSE;
	}
}

sub accept_of {
	my ($key) = @_;

	# The padding that makes it a multiple of four.
	return sha1_base64($key . GUID) . '=';
}

###############################################################################
# Frames: section 5.2 of the RFC

sub send_frame {
	my ($socket, @frame) = @_;
	$socket->send(frame(@frame));
}

sub frame {
	my ($kind, $text, $is_masked) = @_;
	my $size = length $text;
	my $flag = $is_masked ? 0x80 : 0;

	my $length = $size < 126 ? pack 'C', $flag | $size
		: $size < 65536 ? pack 'C n', $flag | 126, $size
		: pack 'C Q>', $flag | 127, $size;

	return pack('C', 0x80 | $kind) . $length . $text unless $is_masked;

	my $mask = join '', map { chr int rand 256 } 1 .. 4;
	return pack('C', 0x80 | $kind) . $length . $mask . masked($text, $mask);
}

sub read_frame {
	my ($socket) = @_;
	my ($kind, $length) = unpack 'C C', $socket->read_bytes(2);
	my $size = $length & 0x7f;

	$size = unpack 'n', $socket->read_bytes(2) if $size == 126;
	$size = unpack 'Q>', $socket->read_bytes(8) if $size == 127;

	my $mask = $length & 0x80 ? $socket->read_bytes(4) : '';
	my $text = $size ? $socket->read_bytes($size) : '';

	return ($kind & 0x0f, $mask eq '' ? $text : masked($text, $mask));
}

sub masked {
	my ($text, $mask) = @_;
	my $size = length $text;
	return $text ^ substr $mask x ($size / 4 + 1), 0, $size;
}

###############################################################################
