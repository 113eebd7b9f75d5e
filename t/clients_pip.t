#!/usr/bin/perl

# pip through the proxy: a package from an index of packages on a TLS server.

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

my $t = Test::Nginx->new()->has(qw/http http_ssl/);
my $dir = $t->testdir();

my ($python, $http) = python();
my $has_pip = $python && (!system("$python -m pip --version >/dev/null 2>&1") || not_installed('pip'));
plan(skip_all => 'no pip found') unless $has_pip;

$t->plan(11)->write_file_expand('nginx.conf', ipv4_only($t, <<'EOC'));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    resolver  127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    log_format  line  "$request|$status";
    access_log  %%TESTDIR%%/tunnel.log line;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  %%PORT_8443%%;
    }

    # The index.
    server {
        listen       127.0.0.1:8443 ssl;
        server_name  www.example;

        ssl_certificate      www.example.crt;
        ssl_certificate_key  www.example.key;

        access_log  %%TESTDIR%%/inside.log line;

        location /simple {
            default_type  text/html;
        }
    }
}

EOC

my $wheel = 'tiny-1.0-py3-none-any.whl';
mkdir "$dir/$_" for qw{ simple simple/tiny };
$t->write_file('simple/tiny/index.html', "<!DOCTYPE html><a href=\"/$wheel\">$wheel</a>\n");
$t->write_file('noise', noise(2 ** 20));
system($python, '-c', wheel(), "$dir/$wheel", "$dir/noise") == 0 or die "Can't make a wheel\n";

certificate($t, 'www.example');
name_server($t, 8980, 'www.example' => '127.0.0.1');
$t->run();

my ($out, $err, $status);

###############################################################################

($out, $err, $status) = download($t, 'www.example', port(8443));
is($status, 0, 'the exit status') or diag($err);
same(-e "$dir/wheels/$wheel" && $t->read_file("wheels/$wheel"), $t->read_file($wheel), 'the package');

my @lines = eval { access_lines($t, 2, 'inside.log') };
is_deeply(\@lines, [ 'GET /simple/tiny/ HTTP/1.1|200', "GET /$wheel HTTP/1.1|200" ],
	'what the index was asked for');
is_line($t, 'CONNECT www.example:' . port(8443) . " HTTP/$http|200", 'the tunnel');
is_deeply([ log_lines($t, qr/\[(?:warn|error|crit|alert|emerg)\] .*proxy_connect: /) ], [], 'nothing to complain of');

###############################################################################

for (
	[ 'a port that is not allowed', 403, 'www.example', port(8444) ],
	[ 'a name that does not resolve', 502, 'nowhere.example', port(8443) ],
) {
	my ($name, $answer, $host, $port) = @$_;
	log_mark($t, 'tunnel.log');
	system('rm', '-rf', "$dir/wheels");

	($out, $err, $status) = download($t, $host, $port);
	like($status, qr/^[1-9]\d*$/, "$name: the exit status") or diag("$out\n$err");
	ok(!-e "$dir/wheels/$wheel", "$name: no package");
	is_line($t, "CONNECT $host:$port HTTP/$http|$answer", $name);
}

###############################################################################

sub download {
	my ($t, $host, $port) = @_;
	my $dir = $t->testdir();

	return run_program($t, [ $python, '-m', 'pip', 'download', '--no-deps', '--no-cache-dir',
		'--disable-pip-version-check', '--retries', 0, '--timeout', 10,
		'--proxy', 'http://127.0.0.1:' . port(8080), '--cert', "$dir/www.example.crt",
		'--index-url', "https://$host:$port/simple", '--dest', "$dir/wheels", 'tiny' ]);
}

sub wheel {
	return <<'EOS';
import sys, zipfile

info = "tiny-1.0.dist-info/"
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    wheel.write(sys.argv[2], "tiny.bin")
    wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(info + "RECORD", "")
EOS
}

###############################################################################
