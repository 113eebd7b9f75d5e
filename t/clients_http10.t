#!/usr/bin/perl

# Clients as people use them that ask for their tunnel with HTTP/1.0, and curl beside them, which does
# so when told: what came through, what they sent, and what they make of a refusal.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Program;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant MB => 2 ** 20;

my $t = Test::Nginx->new()->has(qw/http http_ssl socket_ssl/);
my $dir = $t->testdir();

my $proxy = '127.0.0.1:' . port(8080);
my ($python, $python_http) = python();

# A row is a client: its name, where it is, the HTTP version of its CONNECT, and its arguments for a
# host and a port.

# Those that pass on their standard input and output.
my @pipes = (
	[ 'nc', installed('nc.openbsd', 'nc'), '1.0',
		sub { ('-X', 'connect', '-x', $proxy, @_) } ],
	[ 'ncat', installed('ncat'), '1.0',
		sub { ('--proxy', $proxy, '--proxy-type', 'http', @_) } ],
	[ 'socat', installed('socat'), '1.0',
		sub { ('-', "PROXY:127.0.0.1:$_[0]:$_[1],proxyport=" . port(8080)) } ],
	[ 'corkscrew', installed('corkscrew'), '1.0',
		sub { ('127.0.0.1', port(8080), @_) } ],
	[ 'connect-proxy', installed('connect-proxy', 'connect'), '1.0',
		sub { ('-R', 'remote', '-H', $proxy, @_) } ],
	[ 'openssl s_client', installed('openssl'), '1.0',
		sub { ('s_client', '-proxy', $proxy, '-connect', "$_[0]:$_[1]", '-quiet',
			'-verify_return_error', '-CAfile', "$dir/www.example.crt") }, 'TLS' ],
);

# Those that fetch a file of a TLS server, and write it to their standard output.
my @readers = (
	[ 'http.client', $python, $python_http,
		sub { ('-c', script(), port(8080), "$dir/www.example.crt", @_) } ],
	[ 'curl', installed('curl'), '1.1', sub { curl_arguments('--proxy', @_) } ],
	[ 'curl --proxy1.0', installed('curl'), '1.0', sub { curl_arguments('--proxy1.0', @_) } ],
);

# Names that the test's name server has; "_" is in the names of many a network.
my @names = qw/ www.example my_host.example /;

$t->plan(8 * @names * @pipes + 3 * @readers + 1 + 6 * (@pipes + @readers) + 1)
	->write_file_expand('nginx.conf', ipv4_only($t, <<'EOC'));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    # Every byte moved would be a line.
    error_log  %%TESTDIR%%/error.log info;

    resolver  127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    log_format  tunnel  "$request|$status";
    access_log  %%TESTDIR%%/tunnel.log tunnel;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  %%PORT_8081%% %%PORT_8443%%;
    }

    server {
        listen       127.0.0.1:8443 ssl;
        server_name  www.example;

        ssl_certificate      www.example.crt;
        ssl_certificate_key  www.example.key;

        access_log  off;
    }
}

EOC

$t->write_file('big', noise(MB));
certificate($t, 'www.example');
name_server($t, 8980, map { $_ => '127.0.0.1' } @names);
$t->run();

my $listener = listener(port(8081));

###############################################################################
# Bytes both ways

for my $row (@pipes) {
	my ($client, $path, $http, $arguments, $tls) = @$row;

	for my $host (@names) { SKIP: {
		skip "no $client", 8 unless $path;
		my $name = "$client to $host";
		log_mark($t, 'tunnel.log');

		my ($near, $process) = piped_program($t,
			[ $path, $arguments->($host, port(8081)) ]);
		my $far = eval { accept_end($listener, 5 * SLOWNESS) };
		ok($far, "$name: it comes") or skip "$client did not come", 7;

		$far->start_tls(SSL_server => 1, SSL_cert_file => "$dir/www.example.crt",
			SSL_key_file => "$dir/www.example.key") if $tls;

		my @got = cross($near, $far, noise(MB), scalar reverse noise(MB));
		same($got[0], noise(MB), "$name: 1 MiB up");
		same($got[1], scalar reverse(noise(MB)), "$name: 1 MiB down");

		# The upstream says that it is done; then the user does.
		$far->send('last words');
		is($near->read_bytes(10), 'last words', "$name: the last words");
		$tls ? $far->close() : $far->half_close();
		$near->half_close();
		is($near->ending(), 'eof', "$name: the user's end");
		is($tls ? 'eof' : $far->ending(), 'eof', "$name: the upstream's end");
		is(exit_status($process), 0, "$name: the exit status");

		is_line($t, "CONNECT $host:" . port(8081) . " HTTP/$http|200", $name);
	}}
}

###############################################################################
# A file of a TLS server

for my $row (@readers) {
	my ($client, $path, $http, $arguments) = @$row;

	SKIP: {
		skip "no $client", 3 unless $path;
		log_mark($t, 'tunnel.log');

		my ($out, $err, $status) = run_program($t,
			[ $path, $arguments->('www.example', port(8443)) ]);
		same($out, noise(MB), "$client: 1 MiB");
		is($status, 0, "$client: the exit status") or diag($err);
		is_line($t, 'CONNECT www.example:' . port(8443) . " HTTP/$http|200", $client);
	}
}

sub script {
	return <<'EOS';
import http.client, ssl, sys

port, authority, host, remote = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
connection = http.client.HTTPSConnection("127.0.0.1", int(port), context=context, timeout=10)
connection.set_tunnel(host, int(remote))
connection.request("GET", "/big")
sys.stdout.buffer.write(connection.getresponse().read())
EOS
}

sub curl_arguments {
	my ($option, $host, $port) = @_;
	return ('--disable', '--silent', '--show-error', '--max-time', 10, $option, $proxy,
		'--cacert', "$dir/www.example.crt", "https://$host:$port/big");
}

is_deeply([ log_lines($t, qr/\[(?:warn|error|crit|alert|emerg)\] .*proxy_connect: /) ], [],
	'nothing to complain of so far');

###############################################################################
# Refusals: each client is told, and ends

my $forbidden = listener(port(8083));

for my $row (@pipes, @readers) {
	my ($client, $path, $http, $arguments) = @$row;

	for my $case ([ 403, 'www.example', port(8083) ], [ 502, 'nowhere.example', port(8081) ]) { SKIP: {
		my ($answer, $host, $port) = @$case;
		skip "no $client", 3 unless $path;
		log_mark($t, 'tunnel.log');

		my ($out, $err, $status) = run_program($t, [ $path, $arguments->($host, $port) ]);
		like($status, qr/^[1-9]\d*$/, "$client, $answer: it fails") or diag("$out\n$err");
		unlike($out, qr/nginx/, "$client, $answer: the page of the refusal is not taken for the server's");
		is_line($t, "CONNECT $host:$port HTTP/$http|$answer", "$client, $answer");
	}}
}

is(unaccepted($listener) + unaccepted($forbidden), 0, 'nobody came');

###############################################################################
