#!/usr/bin/perl

# A client as people use it: curl through an http:// and an https:// proxy, to a real TLS server.

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

my $t = Test::Nginx->new()->has(qw/http http_ssl rewrite auth_basic/)->has_daemon('curl');

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    resolver          127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    log_format  tunnel  "$request_method $connect_host:$connect_port $status";
    log_format  inside  "$scheme $server_protocol $request_method $uri $status";

    # The proxy.
    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8444 ssl;
        server_name  proxy.example;

        ssl_certificate      proxy.example.crt;
        ssl_certificate_key  proxy.example.key;

        access_log  %%TESTDIR%%/tunnel.log tunnel;

        proxy_connect;
        proxy_connect_allow  %%PORT_8443%% %%PORT_8081%% %%PORT_8445%%;

        location / {
            return 403 "no tunnel\n";
        }
    }

    # One that wants a password.
    server {
        listen       127.0.0.1:8082;
        server_name  proxy.example;

        access_log  %%TESTDIR%%/tunnel.log tunnel;

        auth_basic            "proxy";
        auth_basic_user_file  %%TESTDIR%%/users;

        proxy_connect;
        proxy_connect_allow  all;
    }

    # What the tunnels lead to.
    server {
        listen       127.0.0.1:8081;
        listen       127.0.0.1:8443 ssl%%HTTP2%%;
        server_name  www.example;

        ssl_certificate      www.example.crt;
        ssl_certificate_key  www.example.key;

        access_log  %%TESTDIR%%/inside.log inside;

        location /host {
            return 200 "$host $scheme\n";
        }
    }
}

EOF

my $has_http2 = $t->has_module('http_v2') && `curl --version` =~ /HTTP2/;
$conf =~ s/%%HTTP2%%/$has_http2 ? ' http2' : ''/e;

$t->plan(39)->write_file_expand('nginx.conf', $conf);

$t->write_file('users', "user:{PLAIN}secret\n");
$t->write_file('big', noise(5 * 2 ** 20));
certificate($t, $_) for qw/ proxy.example www.example /;
name_server($t, 8980, 'www.example' => '127.0.0.1');
run_quietly($t);

my $dir = $t->testdir();
my $www = 'www.example:' . port(8443);
my $plain = 'www.example:' . port(8081);
my @ca = ('--cacert', "$dir/www.example.crt");

my %proxy = (
	'http' => [ '--proxy', 'http://127.0.0.1:' . port(8080) ],
	'https' => [ '--proxy', 'https://proxy.example:' . port(8444),
		'--resolve', 'proxy.example:' . port(8444) . ':127.0.0.1',
		'--proxy-cacert', "$dir/proxy.example.crt" ],
);

my ($out, $status);

###############################################################################

for my $scheme (sort keys %proxy) {
	my @proxy = @{$proxy{$scheme}};
	log_mark($t, $_) for qw/ tunnel.log inside.log /;

	is(curl(@proxy, @ca, "https://$www/host"), "www.example https\n", "$scheme: a page");
	ok(wait_for_line($t, qr/^CONNECT \Q$www\E 200$/, 'tunnel.log'), "$scheme: the proxy's log");
	ok(wait_for_line($t, qr!^https HTTP/\S+ GET /host 200$!, 'inside.log'),
		"$scheme: the server's log");

	same(curl(@proxy, @ca, "https://$www/big"), noise(5 * 2 ** 20), "$scheme: 5 MiB");

	is(curl(@proxy, @ca, '--http1.1', "https://$www/host"), "www.example https\n",
		"$scheme: over HTTP/1.1");

	SKIP: {
		skip 'no HTTP/2', 2 unless $has_http2;
		log_mark($t, 'inside.log');
		is(curl(@proxy, @ca, '--http2', "https://$www/host"), "www.example https\n",
			"$scheme: over HTTP/2");
		ok(wait_for_line($t, qr!^https HTTP/2!, 'inside.log'), "$scheme: it was HTTP/2");
	}

	# The server's status, and how many connections it took.
	is(curl(@proxy, @ca, '-o', '/dev/null', '-o', '/dev/null',
		'-w', '%{http_code} %{num_connects} ', "https://$www/host", "https://$www/big"),
		'200 1 200 0 ', "$scheme: two pages through one tunnel");

	# Several at once, each with a tunnel of its own.
	log_mark($t, 'tunnel.log');
	($out, $status) = curl_status(@proxy, @ca, '--http1.1', '--parallel',
		'--parallel-immediate', map { ('-o', "$dir/out$_", "https://$www/big") } 1 .. 8);
	is($status, 0, "$scheme: 8 at once") or diag($out);
	is(scalar(grep { $t->read_file("out$_") eq noise(5 * 2 ** 20) } 1 .. 8), 8,
		"$scheme: 8 at once, all of them");
	ok(wait_for_lines($t, 8, qr/^CONNECT \Q$www\E 200$/, 'tunnel.log'),
		"$scheme: 8 at once, 8 tunnels");

	is(curl(@proxy, '--proxytunnel', "http://$plain/host"), "www.example http\n",
		"$scheme: a page without TLS");

	# A certificate that is not trusted is the client's affair, through the tunnel too. curl has
	# one number for it over TLS alone, and another over TLS in TLS.
	($out, $status) = curl_status(@proxy, "https://$www/host");
	like($status, qr/^(60|35)$/, "$scheme: a certificate that is not trusted");

	# Refused.
	($out, $status) = curl_status(@proxy, @ca, "https://www.example:1/");
	like($out, qr/CONNECT tunnel failed, response 403|HTTP code 403 from proxy/,
		"$scheme: a port that is not allowed");
	is($status, 56, "$scheme: curl's word for it");

	($out, $status) = curl_status(@proxy, @ca, 'https://nowhere.example:' . port(8443) . '/');
	like($out, qr/response 502|HTTP code 502/, "$scheme: a name that does not resolve");

	($out, $status) = curl_status(@proxy, @ca, 'https://www.example:' . port(8445) . '/');
	like($out, qr/response 502|HTTP code 502/, "$scheme: a port where nobody listens");

	is(curl(@proxy, "http://$plain/host"), "no tunnel\n", "$scheme: no CONNECT at all");
}

###############################################################################
# A password goes in Authorization, as auth_basic wants it; since 1.31.0 it asks as a proxy does

my $asks_as_proxy = $t->has_version('1.31.0');
my $wanted = $asks_as_proxy ? qr/response 407|HTTP code 407/ : qr/response 401|HTTP code 401/;

my @guarded = ('--proxy', 'http://127.0.0.1:' . port(8082));

($out, $status) = curl_status(@guarded, @ca, "https://$www/host");
like($out, $wanted, 'a password is wanted');
($out, $status) = curl_status(@guarded, @ca, '--proxy-header', authorization('user:wrong'),
	"https://$www/host");
like($out, $wanted, 'a password that is wrong');
is(curl(@guarded, @ca, '--proxy-header', authorization('user:secret'), "https://$www/host"),
	"www.example https\n", 'a password that is right');

###############################################################################

sub authorization {
	my ($words) = @_;
	require MIME::Base64;
	return ($asks_as_proxy ? 'Proxy-' : '') . 'Authorization: Basic '
		. MIME::Base64::encode_base64($words, '');
}

# What curl says, and its exit status; what goes wrong is told where the page would be.
sub curl_status {
	my (@arguments) = @_;
	local $ENV{NO_PROXY} = '';
	local $ENV{no_proxy} = '';

	open my $curl, '-|', 'sh', '-c', 'exec curl "$@" 2>&1', 'sh',
		'--disable', '--silent', '--show-error', '--max-time', 20, @arguments
		or die "Can't run curl: $!\n";
	binmode $curl;
	my $out = do { local $/; <$curl> };
	close $curl;

	return ($out // '', $? >> 8);
}

sub curl { return (curl_status(@_))[0] }

###############################################################################
