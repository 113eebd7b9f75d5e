#!/usr/bin/perl

# Listeners with the PROXY protocol in front: the addresses in it, what comes right behind it, and
# that nothing of it gets into the tunnel.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl realip socket_ssl/);

$t->plan(75)->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    log_format  ends  "$proxy_protocol_addr,$proxy_protocol_port $remote_addr $status";
    access_log  %%TESTDIR%%/ends.log ends;

    set_real_ip_from  127.0.0.1;
    real_ip_header    proxy_protocol;

    server {
        listen       127.0.0.1:8080 proxy_protocol;
        listen       127.0.0.1:8443 ssl proxy_protocol;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        proxy_connect_response  "HTTP/1.1 200 OK\r\nX-Client: $remote_addr\r\n\r\n";

        location / {
            return 200 "here";
        }
    }

    server {
        listen       127.0.0.1:8081 proxy_protocol;
        server_name  localhost;

        deny  192.0.2.1;

        proxy_connect;
        proxy_connect_allow  all;
    }
}

EOF

certificate($t, 'localhost');
$t->run();

my $listener = listener(port(8090));
my $connect = connect_request('127.0.0.1:' . port(8090));

my ($client, $upstream, $header);

my %way = (
	plain => { port => port(8080) },
	TLS => { port => port(8443), tls => plain_tls() },
);

# How much of a header nginx reads before TLS.
my $more = $t->has_version('1.23.2') ? 600 : 60;

# A header of the protocol, the address in it and its port, and the address that then counts.
my %proxy = (
	'v1, IPv4' => [ "PROXY TCP4 192.0.2.1 192.0.2.2 1234 5678\x0d\x0a",
		'192.0.2.1', 1234, '192.0.2.1' ],
	'v1, IPv6' => [ "PROXY TCP6 2001:db8::1 2001:db8::2 1234 5678\x0d\x0a",
		'2001:db8::1', 1234, '2001:db8::1' ],
	'v1, unknown' => [ "PROXY UNKNOWN\x0d\x0a", '-', '-', '127.0.0.1' ],
	'v2, IPv4' => [ version2(0x11, pack 'C8 n2', 192, 0, 2, 1, 192, 0, 2, 2, 1234, 5678),
		'192.0.2.1', 1234, '192.0.2.1' ],
	'v2, IPv6' => [ version2(0x21, pack 'n8 n8 n2', 0x2001, 0xdb8, (0) x 5, 1,
		0x2001, 0xdb8, (0) x 5, 2, 1234, 5678), '2001:db8::1', 1234, '2001:db8::1' ],
	'v2, with more in it' => [ version2(0x11, pack('C8 n2', 192, 0, 2, 1, 192, 0, 2, 2, 1234, 5678)
		. pack('C n a*', 4, $more, ' ' x $more)), '192.0.2.1', 1234, '192.0.2.1' ],
);

###############################################################################

for my $name (sort keys %way) {
	for my $kind (sort keys %proxy) {
		SKIP: {
			skip 'no version 2 before nginx 1.13.11', 4
				if $kind =~ /^v2/ && !$t->has_version('1.13.11');

			my ($proxy, $address, $port, $remote) = @{$proxy{$kind}};
			my $case = "$name, $kind";
			log_mark($t, 'ends.log');

			($client, $upstream, $header)
				= pair($listener, %{$way{$name}}, proxy => $proxy, early => 'early');

			is(header_of($header, 'X-Client'), $remote, "$case: the client's address");
			is($upstream->read_bytes(5), 'early', "$case: early bytes");
			is_deeply([ cross($client, $upstream, $proxy, 'down') ], [ $proxy, 'down' ],
				"$case: in the tunnel it means nothing");

			$_->close() for $client, $upstream;
			is_logged($t, qr/^\Q$address,$port $remote\E 200$/,
				"$case: the access log");
		}
	}
}

sub version2 {
	my ($family, $rest) = @_;
	return "\x0d\x0a\x0d\x0a\x00\x0d\x0aQUIT\x0a" . pack 'C C n/a*', 0x21, $family, $rest;
}

###############################################################################
# Pieces

my $proxy = $proxy{'v1, IPv4'}[0];

$client = client(%{$way{plain}});
$client->send($proxy . $connect . 'early');
$upstream = accept_end($listener);
is($upstream->read_bytes(5), 'early', 'all in one piece: early bytes');
is(header_of($client->read_header(), 'X-Client'), '192.0.2.1', 'all in one piece: the answer');

$client = client(%{$way{plain}});
$client->send($proxy);
$client->send_in_pieces($connect . 'early', 1);
$upstream = accept_end($listener);
is($upstream->read_bytes(5), 'early', 'in single bytes: early bytes');
is(header_of($client->read_header(), 'X-Client'), '192.0.2.1', 'in single bytes: the answer');

# It is there once for a connection, not for each of its requests.
for my $name (sort keys %way) {
	$client = client(%{$way{$name}}, proxy => $proxy);
	$client->send("GET / HTTP/1.1\x0d\x0aHost: localhost\x0d\x0a\x0d\x0a");
	like($client->read_header(), qr/ 200 /, "$name: a request before the CONNECT");
	$client->read_bytes(4);
	$client->send($connect . 'early');
	$upstream = accept_end($listener);
	is($upstream->read_bytes(5), 'early', "$name: early bytes after another request");
	is(header_of($client->read_header(), 'X-Client'), '192.0.2.1',
		"$name: the answer after another request");
}

###############################################################################
# Refused

log_mark($t, 'ends.log');
my $answer = exchange($proxy . $connect, port => port(8081));
is(status_of($answer), 403, 'an address in it that is denied');
is_logged($t, qr/^192\.0\.2\.1,1234 192\.0\.2\.1 403$/,
	'an address that is denied: the access log');

for my $name (sort keys %way) {
	for my $bad ('', "PROXY TCP4 192.0.2.1\x0d\x0a", "PROXY\x0d\x0a",
		"\x0d\x0a\x0d\x0a\x00\x0d\x0aQUIT\x0a\x11\x11\x00\x00")
	{
		my $rest = $name eq 'plain' ? $connect : "\x16\x03\x01\x00";
		$client = client(port => $way{$name}{port});

		# It may be closed before all is sent.
		eval { $client->send($bad . $rest)->half_close() };
		is($client->read_to_end(), '', "$name: no PROXY protocol in \"" . shown($bad) . '"');
	}
}

# Where such a header ends nginx says: what stands in it is no request.
for my $header ("PROXY UNKNOWN\x0aCONNECT a:1\x0d\x0a", "PROXY UNKNOWN CONNECT a:1\x0d\x0a") {
	$answer = exchange($header . "GET / HTTP/1.0\x0d\x0a\x0d\x0a", port => port(8080));
	is(status_of($answer), 200, 'a GET behind "' . shown($header) . '"');

	$client = client(port => port(8080))->send($header . $connect . 'early');
	is(status_of($client->read_header()), 200, 'a CONNECT behind "' . shown($header) . '"');
	$upstream = accept_end($listener);
	is($upstream->read_bytes(5), 'early', 'and its early bytes');
}

$listener->blocking(0);
ok(!$listener->accept(), 'nobody came');

###############################################################################

sub shown {
	my ($bytes) = @_;
	return $bytes =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger;
}

###############################################################################
