#!/usr/bin/perl

# CONNECT over HTTP/2 in cleartext, by prior knowledge: what begins with the preface, what does not, and
# a PROXY protocol header in front of either.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::HTTP2 qw/ END_STREAM END_HEADERS PREFACE block as_frame http2_on /;
use Test::ProxyConnect::Tunnel;

use Digest::SHA qw/ sha256_hex /;

use constant { DATA => 0, HEADERS => 1, SETTINGS => 4, PING => 6 };

# More than the system takes of what nobody reads.
use constant MUCH => 16_000_000;

# What makes 16 KiB with the header of its frame.
use constant FRAME => 16375;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_v2 rewrite/);

plan(skip_all => 'CONNECT over HTTP/2 needs nginx 1.22 or newer') unless $t->has_version('1.22.0');

# Before 1.25.1 an address in cleartext has HTTP/2 or HTTP/1, not both.
my $has_both = $t->has_version('1.25.1');

my $on = http2_on($t);

$t->plan(40)->write_file_expand('nginx.conf', <<'EOF' =~ s/%%HTTP2%%/$on/gr);

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  tunnels  "$request|$status|$scheme|$proxy_protocol_addr|$proxy_connect_close_reason";
    access_log  %%TESTDIR%%/tunnels.log tunnels;

    server {
        listen       127.0.0.1:8080%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        location / {
            return 200 "here $server_protocol $http_x_field\n";
        }
    }

    server {
        listen       127.0.0.1:8082 proxy_protocol%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        location / {
            return 200 "here $server_protocol\n";
        }
    }

    # no tunnels over HTTP/2 here
    server {
        listen       127.0.0.1:8083%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow         all;
        proxy_connect_http2_window  off;

        location / {
            return 200 "here $server_protocol\n";
        }
    }

    # no HTTP/2
    server {
        listen       127.0.0.1:8084;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
    }
}

EOF

upstream($t, echo(), port(8081));
upstream($t, half_close_after(pattern(MUCH)), port(8086));
$t->run();

my $to = '127.0.0.1:' . port(8081);
my $v1 = "PROXY TCP4 192.0.2.1 192.0.2.2 1111 2222\x0d\x0a";
my $v2 = "\x0d\x0a\x0d\x0a\0\x0d\x0aQUIT\x0a\x21\x11\0\x0c" . pack 'C8nn', 192, 0, 2, 7, 192, 0, 2, 2, 1, 2;

sub h2c { return Test::ProxyConnect::HTTP2->new(cleartext => 1, port => port(8080), @_) }

sub echoes {
	my ($h2, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $id = $h2->tunnel($to);
	$h2->data($id, 'hello', END_STREAM);
	is($h2->read_to_end($id), 'hello', $name);
	return;
}

# A CONNECT and all that its client says.
sub said {
	my (@pieces) = @_;
	my $last = pop @pieces;
	return join '', as_frame(HEADERS, END_HEADERS, 1, block(':method' => 'CONNECT', ':authority' => $to)),
		(map { as_frame(DATA, 0, 1, $_) } @pieces), as_frame(DATA, END_STREAM, 1, $last);
}

###############################################################################

my $h2 = h2c();
echoes($h2, 'a tunnel in cleartext');
like(wait_for_line($t, qr/CONNECT/, 'tunnels.log'), qr!^CONNECT \Q$to\E HTTP/2\.0\|200\|http\|-?\|client_eof$!,
	'the access log');

is($h2->read_to_end($h2->get('/', 'localhost', 'x-field' => 'value')), "here HTTP/2.0 value\n",
	'a request beside it');

my $id = $h2->tunnel($to);
my $noise = pattern(1_000_000);
$h2->upload($id, $noise, END_STREAM);
is(sha256_hex($h2->read_to_end($id)), sha256_hex($noise), '1 MB up and down');

# Together with the preface, whatever the pieces.
for my $size (undef, 1, 23, 25) {
	my $name = $size ? "in pieces of $size" : 'in one piece';
	$h2 = h2c(behind => said('at once'), pieces => $size);
	$h2->new_stream();
	is($h2->status(1), 200, "$name: an answer");
	is($h2->read_to_end(1), 'at once', "$name: bytes");
}

$h2 = h2c(behind => said((pattern(1000)) x 40));
$h2->new_stream();
is(sha256_hex($h2->read_to_end(1)), sha256_hex(pattern(1000) x 40), 'more than nginx reads at once');

# The end comes with the last piece that nginx reads at once, and fills it.
my $listener = listener(port(8085));
my $worker = lone_worker($t);

for my $frames (1, 2, 3, 4) {
	$h2 = h2c();
	$id = $h2->tunnel('127.0.0.1:' . port(8085));
	my $upstream = accept_end($listener);

	kill 'STOP', $worker;
	$h2->data($id, 'a' x FRAME) for 1 .. $frames;
	$h2->{socket}->half_close();
	kill 'CONT', $worker;

	is(length $upstream->read_to_end(), $frames * FRAME, "$frames frames and the end of the connection: all arrives");
	is($upstream->ending(), 'reset', "$frames frames and the end of the connection: that, too");
}

# Frames of nginx's own are queued behind ours, and ours gather behind those, while the client reads nothing.
$h2 = h2c();
my $much = $h2->tunnel('127.0.0.1:' . port(8086));
my $little = $h2->tunnel('127.0.0.1:' . port(8085));
my $upstream = accept_end($listener);
my ($rounds, $pings) = (40, $h2->{pings});

for (1 .. $rounds) {
	$h2->data($little, 'up');
	$upstream->read_bytes(2);
	$upstream->send('down');
	$h2->frame(PING, 0, 0, 'proxy_co');
	$h2->wait_for('some bytes', sub { length $h2->data_of($much) >= $_ * 2 ** 17 }) if $_ > $rounds / 2;
}

is($h2->read_bytes($little, 4 * $rounds), 'down' x $rounds, 'frames behind each other: small messages');
$h2->wait_for('all answers', sub { $h2->{pings} == $pings + $rounds });
is(sha256_hex($h2->read_to_end($much)), sha256_hex(pattern(MUCH)), 'frames behind each other: much beside them');

###############################################################################
# PROXY protocol

for my $case ([ 'version 1', $v1, '192.0.2.1' ], [ 'version 2', $v2, '192.0.2.7' ]) {
	my ($name, $header, $addr) = @$case;
	log_mark($t, 'tunnels.log');
	echoes(h2c(port => port(8082), proxy => $header), "PROXY protocol $name");
	ok(wait_for_line($t, qr/\|\Q$addr\E\|/, 'tunnels.log'), "PROXY protocol $name: its address");
}

my $client = client(port => port(8082));
$client->send($v1 . PREFACE . as_frame(SETTINGS, 0, 0, '') . said('together'));
ok(eval { $client->read_while(sub { $client->{input} !~ /together/ }, 'bytes'); 1 },
	'PROXY protocol and frames in one piece') or diag($@);

###############################################################################
# What is not HTTP/2

SKIP: {
	skip 'HTTP/1 and HTTP/2 at one address came with nginx 1.25.1', 8 unless $has_both;

	my $tunnel = tunnel($to);
	$tunnel->send('hello');
	is($tunnel->read_bytes(5), 'hello', 'HTTP/1 at the same address');

	like(exchange("GET / HTTP/1.0\x0d\x0a\x0d\x0a"), qr/^here HTTP\/1\.0/m, 'a request of HTTP/1');
	like(exchange("PRIVATE / HTTP/1.0\x0d\x0a\x0d\x0a"), qr/^here HTTP\/1\.0/m,
		'a method that begins like the preface');

	$client = client();
	$client->send_in_pieces("PRI / HTTP/1.0\x0d\x0a\x0d\x0a", 1);
	like($client->read_to_end(), qr/^here HTTP\/1\.0/m, 'one that has even more of it, in pieces');

	$tunnel = tunnel($to, port => port(8082), proxy => $v1);
	$tunnel->send('hello');
	is($tunnel->read_bytes(5), 'hello', 'HTTP/1 behind a PROXY protocol header');

	unlike(exchange(PREFACE . said('nothing'), port => port(8084)), qr/nothing/,
		'the preface where there is no HTTP/2');

	unlike(exchange(PREFACE =~ s/SM/XX/r), qr/ 200 /, 'another preface');
	
	$tunnel = tunnel($to, port => port(8083));
	$tunnel->send('hello');
	is($tunnel->read_bytes(5), 'hello', 'HTTP/1 where there are no tunnels over HTTP/2');
}

SKIP: {
	skip 'HTTP/1 and HTTP/2 at one address came with nginx 1.25.1', 2 if $has_both;

	# It is no request line.
	unlike(exchange("CONNECT $to HTTP/1.1\x0d\x0aHost: $to\x0d\x0a\x0d\x0a"), qr/HTTP/, 'HTTP/1 where there is none');
	unlike(exchange("CONNECT $to HTTP/1.1\x0d\x0aHost: $to\x0d\x0a\x0d\x0a", port => port(8083)), qr/HTTP/,
		'HTTP/1 where there is none, and no tunnels either');
}

$h2 = h2c(port => port(8083));
is($h2->status($h2->connect($to)), 400, 'CONNECT where there are no tunnels: the answer of nginx');
is($h2->read_to_end($h2->get('/', 'localhost')), "here HTTP/2.0\n", 'other requests there');

###############################################################################
