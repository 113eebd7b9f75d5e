#!/usr/bin/perl

# Early data of TLS 1.3: a CONNECT that comes before the handshake is finished, and whose upstream takes
# longer than the rest of it.

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

my $t = Test::Nginx->new()->has(qw/http http_ssl/)->has_daemon('openssl');

plan(skip_all => 'no early data in this nginx') unless $t->has_version('1.15.4');
plan(skip_all => 'no early data in this openssl')
	unless `openssl s_client -help 2>&1` =~ /-early_data/;

$t->plan(6)->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;
    ssl_protocols        TLSv1.3;
    ssl_early_data       on;

    resolver  127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    log_format  early  "$status $proxy_connect_close_reason";
    access_log  %%TESTDIR%%/early.log early;

    server {
        listen       127.0.0.1:8443 ssl;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
    }
}

EOF

certificate($t, 'localhost');
name_server($t, 8980, 'slow.example' => { addrs => '127.0.0.1', delay => 0.4 });
$t->run();

my $upstream = upstream($t, sub {
	my ($end) = @_;
	$end->send('got ' . $end->read_bytes(4));
	$end->close();
}, port(8081));

my ($session, $request, $rest) = map { $t->testdir() . "/$_" } 'session', 'request', 'rest';

# The first handshake brings a session, and a ticket with the answer.
$t->write_file('rest', connect_request('127.0.0.1:' . port(8081)) . 'ping');
like(openssl($rest, '-sess_out', $session), qr/got ping/, 'a session');
is_deeply([ access_lines($t, 1, 'early.log') ], [ '200 upstream_eof' ], 'a session: the log');

# Early data end with the request; what follows them is there before the name is resolved.
$t->write_file('request', connect_request('slow.example:' . port(8081)));
$t->write_file('rest', 'ping');
my $answer = openssl($rest, '-sess_in', $session, '-early_data', $request);
like($answer, qr/Early data was accepted/, 'early data: taken');
like($answer, qr/HTTP.1\.1 200 .*\r\n\r\ngot ping/s, 'early data: the tunnel');
is_deeply([ access_lines($t, 2, 'early.log') ], [ ('200 upstream_eof') x 2 ], 'early data: the log');

unlike($t->read_file('error.log'), qr/SSL_read_early_data\(\) failed/, 'nothing went wrong in TLS');

###############################################################################

# What s_client prints, which sends what is in a file, until the connection ends.
sub openssl {
	my ($input, @options) = @_;
	my @command = ('openssl', 's_client', '-connect', '127.0.0.1:' . port(8443), '-tls1_3',
		'-ign_eof', @options);

	return scalar `timeout 20 @command < $input 2>&1`;
}

###############################################################################
