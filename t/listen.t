#!/usr/bin/perl

# Every kind of listener, in front of every kind of upstream: IPv4, IPv6 and unix sockets, plain
# and TLS.

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

my $t = Test::Nginx->new()->has(qw/http http_ssl socket_ssl unix/);
my $dir = $t->testdir();

# Without IPv6 on the loopback, its cases are left out.
my $listener6 = eval { listener('[::1]:' . port(8091)) };

my %listener = (
	IPv4 => listener(port(8090)),
	unix => listener("unix:$dir/upstream.sock"),
	$listener6 ? (IPv6 => $listener6) : (),
);

my %client = (
	'IPv4' => { port => port(8080) },
	'IPv4, TLS' => { port => port(8443), tls => plain_tls() },
	'IPv4, deferred' => { port => port(8081) },
	'IPv4, HTTP/2 allowed' => { port => port(8444), tls => { SSL_alpn_protocols => [ 'http/1.1' ] } },
	'unix' => { path => "$dir/nginx.sock" },
	'unix, TLS' => { path => "$dir/nginx-tls.sock", tls => plain_tls() },
	$listener6 ? (
		'IPv6' => { host => '::1', port => port(8080) },
		'IPv6, TLS' => { host => '::1', port => port(8443), tls => plain_tls() },
	) : (),
);

# Where a CONNECT goes, and what the log calls that.
my %target = (
	IPv4 => [ '127.0.0.1:' . port(8090), '127.0.0.1:' . port(8090) ],
	IPv6 => [ '[::1]:' . port(8091), '[::1]:' . port(8091) ],
	unix => [ 'unix.example:443', "unix:$dir/upstream.sock" ],
);

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    log_format  ends  "$remote_addr $server_addr $connect_addr $status $bytes_sent";
    access_log  %%TESTDIR%%/ends.log ends;

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        listen       [::1]:%%PORT_8080%%;
        listen       [::1]:%%PORT_8443%% ssl;
        listen       unix:%%TESTDIR%%/nginx.sock;
        listen       unix:%%TESTDIR%%/nginx-tls.sock ssl;
        listen       127.0.0.1:8081 deferred reuseport rcvbuf=8k sndbuf=8k backlog=10;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
    }

    server {
        listen       127.0.0.1:8444 ssl http2;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
    }

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        listen       [::1]:%%PORT_8080%%;
        listen       [::1]:%%PORT_8443%% ssl;
        listen       unix:%%TESTDIR%%/nginx.sock;
        listen       unix:%%TESTDIR%%/nginx-tls.sock ssl;
        listen       127.0.0.1:8081;
        listen       127.0.0.1:8444 ssl http2;
        server_name  unix.example;

        proxy_connect;
        proxy_connect_address  unix:%%TESTDIR%%/upstream.sock;
    }
}

EOF

$conf =~ s/listen +\[::1\].*\n//g unless $listener6;
$conf =~ s/ http2;/;/g unless $t->has_module('http_v2');

$t->plan(8 * keys(%client) * keys(%listener))->write_file_expand('nginx.conf', $conf);

certificate($t, 'localhost');
run_quietly($t);

###############################################################################

for my $from (sort keys %client) {
	for my $to (sort keys %listener) {
		my $case = "from $from to $to";
		my ($authority, $address) = @{$target{$to}};
		log_mark($t, 'ends.log');

		my ($client, $upstream, $header) = pair($listener{$to}, %{$client{$from}},
			authority => $authority, early => 'early');

		is($upstream->read_bytes(5), 'early', "$case: early bytes");
		my @got = cross($client, $upstream, noise(300000), noise(200000));
		same($got[0], noise(300000), "$case: up");
		same($got[1], noise(200000), "$case: down");

		$upstream->send('last words');
		$upstream->half_close();
		is($client->read_to_end(), 'last words', "$case: what the upstream said last");
		$client->send('so long');
		finish($client);
		is($upstream->read_to_end(), 'so long', "$case: what the client said last");
		is($upstream->ending(), 'eof', "$case: the end");

		my ($remote, $server, $log) = split ' ', (access_lines($t, 1, 'ends.log'))[0], 3;
		is("$remote $server", ends_of($client{$from}, $dir), "$case: who is at the ends");
		my $bytes_sent = OVER_HTTP2 ? qr/\d+/ : length($header) + 200010;
		like($log, qr/^\Q$address\E 200 $bytes_sent$/, "$case: the access log");
	}
}

###############################################################################

# Says that no more will come.
sub finish {
	my ($end) = @_;
	$end->handle()->can('get_cipher') ? send_close_notify($end) : $end->half_close();
}

# The client's address and nginx's, as nginx tells them.
sub ends_of {
	my ($options, $dir) = @_;
	return 'unix: unix:' . $options->{path} if $options->{path};
	my $address = $options->{host} // '127.0.0.1';
	return "$address $address";
}

###############################################################################
