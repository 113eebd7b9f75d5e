#!/usr/bin/perl

# A browser through an http:// and an https:// proxy: Chromium shows a page of a TLS server, with
# what the page loads.

use warnings;
use strict;

use Test::More;
use POSIX ();

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Browser;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $browser = chromium_or_skip();

my $t = Test::Nginx->new()->has(qw/http http_ssl rewrite/);

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

    log_format  tunnel  "$request_method $connect_host:$connect_port $status $connect_addr $bytes_sent";
    log_format  inside  "$scheme $host $uri $status";

    # The proxy. Whatever the browser wants, it gets the server below.
    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8444 ssl;
        server_name  localhost;

        access_log  %%TESTDIR%%/tunnel.log tunnel;

        proxy_connect;
        proxy_connect_address  127.0.0.1:8443;
    }

    server {
        listen       127.0.0.1:8443 ssl%%HTTP2%%;
        server_name  www.example;

        access_log  %%TESTDIR%%/inside.log inside;

        location = /page {
            default_type  text/html;
            return 200 '<!DOCTYPE html><title>A page</title>
<p id="told">nothing</p>
<script src="/script"></script>';
        }

        # It waits for what it asks for, so that the page is complete when it is loaded.
        location = /script {
            default_type  text/javascript;
            return 200 'function get(path) {
                var request = new XMLHttpRequest();
                request.open("GET", path, false);
                request.send();
                return request.responseText;
            }
            document.getElementById("told").textContent =
                get("/host") + ", " + get("/big").length + " bytes";';
        }

        location = /host {
            return 200 "$host over $scheme";
        }
    }
}

EOF

my $http2 = $t->has_module('http_v2') ? ' http2' : '';
$t->plan(12)->write_file_expand('nginx.conf', $conf =~ s/%%HTTP2%%/$http2/r);

certificate($t, 'localhost');
$t->write_file('big', 'x' x 1000000);
run_quietly($t);

my $server = '127.0.0.1:' . port(8443);

###############################################################################

for my $proxy ('http://127.0.0.1:' . port(8080), 'https://127.0.0.1:' . port(8444)) {
	my ($scheme) = $proxy =~ /^(\w+)/;
	log_mark($t, $_) for qw/ tunnel.log inside.log /;

	my $page = page($t, $browser, $proxy, 'https://www.example/page');

	like($page, qr!<title>A page</title>!, "$scheme: the page");
	like($page, qr!<p id="told">www\.example over https, 1000000 bytes</p>!,
		"$scheme: what the page asked for");

	my @inside = access_lines($t, 4, 'inside.log');
	for my $path (qw{ /page /script /big }) {
		ok(scalar(grep { $_ eq "https www.example $path 200" } @inside),
			"$scheme: the server was asked for $path");
	}

	# A tunnel is told of at its end, which is when the browser leaves at the latest.
	my ($tunnel) = sort { ($b =~ /(\d+)$/)[0] <=> ($a =~ /(\d+)$/)[0] }
		wait_for_lines($t, 1, qr/^CONNECT www\.example:443 /, 'tunnel.log');
	like($tunnel, qr/^CONNECT www\.example:443 200 \Q$server\E \d+$/, "$scheme: through a tunnel");
}

###############################################################################

# The page as the browser has it once it is loaded.
sub page {
	my ($t, $browser, $proxy, $url) = @_;
	my $pid = open(my $output, '-|') // die "Can't fork: $!\n";

	if ($pid == 0) {
		# Its processes are a group, to be ended together.
		setpgrp 0, 0;
		open STDERR, '>', $t->testdir() . '/browser.log';
		exec { $browser } $browser, browser_options($t, $proxy), '--headless', '--dump-dom', $url or POSIX::_exit(1);
	}

	my ($page) = patiently($t, sub { local $/; return scalar <$output> });
	diag($t->read_file('browser.log')) unless defined $page && $page =~ /told/;

	end_browser($t, $pid);
	close $output;

	return $page // '';
}

###############################################################################
