#!/usr/bin/perl

# What a CONNECT may look like is the same on every way by which it reaches the module: HTTP/1.0, with
# a Host header and without, "_" in the host, several spaces before the authority; over plain TCP and
# TLS, in single bytes, behind another request, behind a header of the PROXY protocol. No expectation
# here may ask for the way.

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

use constant CRLF => "\x0d\x0a";

# How long, in seconds, between the pieces of a request.
use constant PAUSE => 0.0003;

my $t = Test::Nginx->new()->has(qw/http/);

my $port = port(8090);
my $closed = port(8091);
my $proxy_line = 'PROXY TCP4 192.0.2.1 192.0.2.2 1234 5678' . CRLF;

# What becomes a tunnel: a name, the request line, the host that it names, and the fields.
my @tunnels;

for (
	[ 'HTTP/1.0, an address', '127.0.0.1', "CONNECT 127.0.0.1:$port HTTP/1.0" ],
	[ 'HTTP/1.0, a name', 'www.example', "CONNECT www.example:$port HTTP/1.0" ],
	[ 'HTTP/1.0, "_"', 'my_host.example', "CONNECT my_host.example:$port HTTP/1.0" ],
	[ 'HTTP/1.0, "_" in front', '_host.example', "CONNECT _host.example:$port HTTP/1.0" ],
	[ 'HTTP/1.0, "_" at the end', 'host_', "CONNECT host_:$port HTTP/1.0" ],
	[ 'HTTP/1.0, spaces', 'www.example', "CONNECT   www.example:$port HTTP/1.0" ],
	[ 'HTTP/1.0, spaces and "_"', 'my_host.example', "CONNECT  my_host.example:$port HTTP/1.0" ],
	[ 'HTTP/1.0, many spaces', '127.0.0.1', 'CONNECT' . ' ' x 100 . "127.0.0.1:$port HTTP/1.0" ],
	[ 'HTTP/1.1, "_"', 'my_host.example', "CONNECT my_host.example:$port HTTP/1.1" ],
	[ 'HTTP/1.1, "_" in front', '_host.example', "CONNECT _host.example:$port HTTP/1.1" ],
	[ 'HTTP/1.1, spaces', 'www.example', "CONNECT   www.example:$port HTTP/1.1" ],
	[ 'HTTP/1.1, spaces and "_"', 'my_host.example', "CONNECT  my_host.example:$port HTTP/1.1" ],
	[ 'HTTP/1.1, spaces on both sides', 'www.example', "CONNECT   www.example:$port   HTTP/1.1" ],
) {
	my ($name, $host, $line) = @$_;

	push @tunnels, [ "$name, no Host", $line, $host ] if $line =~ m!HTTP/1\.0$!;
	push @tunnels, [ "$name, Host", $line, $host, "Host: $host:$port" ],
		[ "$name, another Host", $line, $host, 'Host: other.example', 'X-Field: value' ];
}

# What does not: a name, the request line, the status, and the fields.
my @refusals = (
	[ 'HTTP/1.1 without Host', "CONNECT www.example:$port HTTP/1.1", 400 ],
	[ 'HTTP/1.1 without Host, "_"', "CONNECT my_host.example:$port HTTP/1.1", 400 ],
	[ 'HTTP/1.1 without Host, spaces', "CONNECT   www.example:$port HTTP/1.1", 400 ],
	[ 'HTTP/1.1 without Host, an address', "CONNECT 127.0.0.1:$port HTTP/1.1", 400, 'X-Host: a' ],
	[ 'HTTP/1.0, a bad Host', "CONNECT www.example:$port HTTP/1.0", 400, 'Host: a/b' ],
	[ 'HTTP/1.0, a body', "CONNECT www.example:$port HTTP/1.0", 400, 'Content-Length: 5' ],
	[ 'HTTP/1.0, no port', 'CONNECT www.example HTTP/1.0', 400 ],
	[ 'HTTP/1.0, port 0', 'CONNECT www.example:0 HTTP/1.0', 400 ],
	[ 'HTTP/1.0, "_", no port', 'CONNECT my_host.example HTTP/1.0', 400 ],
	[ 'HTTP/1.0, a port that is not allowed', "CONNECT www.example:$closed HTTP/1.0", 403 ],
	[ '"_", a port that is not allowed', "CONNECT my_host.example:$closed HTTP/1.1", 403, 'Host: a' ],
	[ 'spaces, a port that is not allowed', "CONNECT   www.example:$closed HTTP/1.0", 403 ],
	[ 'HTTP/1.0, a server without proxy_connect', "CONNECT none.example:$port HTTP/1.0", 405 ],
	[ '"_", a server without proxy_connect', "CONNECT no_ne.example:$port HTTP/1.0", 405 ],
	[ 'HTTP/1.0, a name that does not resolve', "CONNECT nowhere.example:$port HTTP/1.0", 502 ],
	[ '"_", a name that does not resolve', "CONNECT no_where.example:$port HTTP/1.0", 502 ],
);

# How a client comes.
my %listener = (
	plain => { port => port(8080) },
	TLS => { port => port(8443), tls => plain_tls() },
	PROXY => { port => port(8081), proxy => $proxy_line },
	'PROXY, TLS' => { port => port(8444), proxy => $proxy_line, tls => plain_tls() },
	'PROXY in one piece' => { port => port(8081), prefix => $proxy_line },
);

delete @listener{grep { $listener{$_}{tls} } keys %listener} unless has_tls($t);
delete @listener{grep { /PROXY/ } keys %listener} unless $t->has_version('1.5.12');

# How it sends its request, before which there may be others.
my $get = 'GET /none HTTP/1.1' . CRLF . 'Host: localhost' . CRLF . CRLF;

my %delivery = (
	'at once' => sub {
		my ($socket, $prefix, $request, $behind) = @_;
		$socket->send("$prefix$request$behind");
	},
	'in single bytes' => sub {
		my ($socket, $prefix, $request, $behind) = @_;
		$socket->send($prefix);
		in_single_bytes($socket, $request);
		$socket->send($behind);
	},
	'behind a GET' => sub {
		my ($socket, $prefix, $request, $behind) = @_;
		read_answer($socket->send("$prefix$get"));
		$socket->send("$request$behind");
	},
	'behind GETs in one piece' => sub {
		my ($socket, $prefix, $request, $behind) = @_;
		$socket->send("$prefix$get$get$request$behind");
		read_answer($socket) for 1 .. 2;
	},
);

# What goes out in pieces anyway is no other case with a prefix.
my @cases = grep { !($listener{$_->[0]}{prefix} && $_->[1] !~ /at once|in one piece/) }
	map { my $listener = $_; map { [ $listener, $_ ] } sort keys %delivery } sort keys %listener;

# Over which of them a request is cut anywhere.
my @cut = grep { $listener{$_} } 'plain', 'TLS', 'PROXY in one piece';

$t->plan(@cases * (@tunnels + @refusals + 2) + 4 * @cut + 4)
	->write_file_expand('nginx.conf', configuration($t));

name_server($t, 8980, map { $_ => '127.0.0.1' } qw/ www.example my_host.example _host.example host_ /);
certificate($t, 'localhost') if has_tls($t);
$t->run();

my $upstream = listener($port);
my $never = listener($closed);

###############################################################################
# Tunnels

for (@cases) {
	my ($listener, $delivery) = @$_;
	my @lines;
	log_mark($t, 'connect.log');

	for (@tunnels) {
		my ($name, $line, $host, @fields) = @$_;

		is(eval { through($listener, $delivery, request($line, @fields)) } // $@,
			'200, early up down', "$listener, $delivery, $name");

		my ($version) = $line =~ m!(HTTP/1\..)$!;
		my ($told) = map { /^Host: (.+)/ } @fields;
		push @lines, join '|', $line, 200, $version, $host, $host, $port, $told // '-';
	}

	is_deeply(logged($t, scalar @lines), [ sort @lines ], "$listener, $delivery: the access log");
}

# The status, and what arrives at the ends of the tunnel.
sub through {
	my ($listener, $delivery, $request) = @_;
	my $client = come($listener, $delivery, $request, 'early');

	my $status = status_of($client->read_header());
	return $status unless $status eq 200;

	my $end = accept_end($upstream);
	$client->send(' up');
	$end->send(' down');
	my $got = $end->read_bytes(length 'early up') . $client->read_bytes(length ' down');
	$_->close() for $client, $end;

	return "$status, $got";
}

# A client that has sent its request, and bytes behind it, as far as it was let to.
sub come {
	my ($listener, $delivery, $request, $behind) = @_;
	my $socket = client(%{$listener{$listener}});

	eval {
		$delivery{$delivery}->($socket, $listener{$listener}{prefix} // '', $request, $behind);
	};
	return $socket;
}

sub request {
	return join CRLF, @_, '', '';
}

sub read_answer {
	my ($socket) = @_;
	my $header = $socket->read_header();
	return $socket->read_bytes(header_of($header, 'Content-Length') // 0);
}

# An answer may come before the last byte.
sub in_single_bytes {
	my ($socket, $bytes) = @_;

	for my $byte (split //, $bytes) {
		$socket->send($byte);
		last unless $socket->is_quiet(PAUSE);
	}
}

# The lines about CONNECT in the access log, once there are so many.
sub logged {
	my ($t, $count) = @_;
	my @lines = eval { wait_for_lines($t, $count, qr/^CONNECT/, 'connect.log') };
	return [ sort @lines ? @lines : log_lines($t, qr/^CONNECT/, 'connect.log') ];
}

###############################################################################
# Refusals, with nothing behind them read as a request

my $behind = 'GET /smuggled HTTP/1.1' . CRLF . 'Host: localhost' . CRLF . CRLF;

for (@cases) {
	my ($listener, $delivery) = @$_;
	my @lines;
	log_mark($t, 'connect.log');

	for (@refusals) {
		my ($name, $line, $status, @fields) = @$_;
		my $socket = come($listener, $delivery, request($line, @fields), $behind);

		is(join(' ', $socket->read_to_end() =~ m!HTTP/1\.[01] (\d{3})!g), $status,
			"$listener, $delivery, $name");
		$socket->close();
		push @lines, "$line|$status";
	}

	is_deeply([ map { told($_, $delivery) } @{logged($t, scalar @lines)} ],
		[ map { told($_, $delivery) } sort @lines ],
		"$listener, $delivery: the access log of refusals");
}

# The request and the status of a line. In single bytes a request may end behind what is wrong.
sub told {
	my ($line, $delivery) = @_;
	my ($request, $status) = split /\|/, $line;

	$request =~ s/^(CONNECT +\S+).*/$1/ if $delivery eq 'in single bytes';
	return "$request|$status";
}

is(unaccepted($upstream) + unaccepted($never), 0, 'nobody came for a CONNECT that was refused');

###############################################################################
# Cuts: a request in two pieces, wherever the cut is

for my $listener (@cut) {
	for (
		[ 'HTTP/1.0', request("CONNECT 127.0.0.1:$port HTTP/1.0") ],
		[ '"_"', request("CONNECT my_host.example:$port HTTP/1.1", 'Host: a') ],
		[ 'spaces', request("CONNECT   www.example:$port HTTP/1.0") ],
		[ 'all behind a GET', request("CONNECT  _host.example:$port HTTP/1.0", 'Host: a'), $get ],
	) {
		my ($name, $request, $first) = @$_;
		is(join(' ', grep { !passes($listener, $request, $first // '', $_) } 0 .. length $request), '',
			"$listener, cut anywhere: $name");
	}
}

sub passes {
	my ($listener, $request, $first, $cut) = @_;
	my $socket = client(%{$listener{$listener}});

	$socket->send(($listener{$listener}{prefix} // '') . $first . substr $request, 0, $cut);
	read_answer($socket) if $first;
	$socket->is_quiet(PAUSE);
	$socket->send(substr($request, $cut) . 'early');

	my $passes = eval {
		status_of($socket->read_header()) eq '200' && accept_end($upstream)->read_bytes(5) eq 'early'
	};
	$socket->close();
	return $passes;
}

###############################################################################

is(join(' ', sort { $a cmp $b } keys %{{ map { s/^A //r => 1 } queries($t, qr/^A /) }}),
	'_host.example host_ my_host.example no_where.example nowhere.example www.example',
	'the name server is asked for names as they are');

my @without = log_lines($t, qr/client sent HTTP\/1\.1 request without "Host" header/);
is(scalar(@without), @cases * grep({ $_->[0] =~ /^HTTP\/1\.1 without/ } @refusals),
	'HTTP/1.1 without Host: the error log');

$t->stop();
is(join("\n", log_lines($t, qr/smuggled/, 'connect.log')), '',
	'nothing behind a refused CONNECT was read as a request');

###############################################################################

sub configuration {
	my ($t) = @_;

	my $conf = with_tls($t, ipv4_only($t, <<'EOC'));
%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    error_log  %%TESTDIR%%/error.log info;

    resolver  127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    log_format  connect  "$request|$status|$server_protocol|$host|$connect_host|$connect_port|$http_host";
    access_log  %%TESTDIR%%/connect.log connect;

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        listen       127.0.0.1:8081 proxy_protocol;
        listen       127.0.0.1:8444 ssl proxy_protocol;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  %%PORT_8090%%;
    }

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        listen       127.0.0.1:8081 proxy_protocol;
        listen       127.0.0.1:8444 ssl proxy_protocol;
        server_name  none.example no_ne.example;
    }
}

EOC

	return $t->has_version('1.5.12') ? $conf : $conf =~ s/^ *listen [^;]* proxy_protocol;\n//gmr;
}

###############################################################################
