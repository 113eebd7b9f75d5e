#!/usr/bin/perl

# proxy_connect_auth with a browser: Chromium is asked for a password, gives it, and shows a page of a TLS server;
# with a wrong one it shows none.

use warnings;
use strict;

use Test::More;
use JSON::PP ();

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Browser;
use Test::ProxyConnect::Devtools;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $program = chromium_or_skip();

my $t = Test::Nginx->new()->has(qw/http http_ssl rewrite auth_basic/);

$t->plan(14)->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    log_format  tunnel  "$status $connection_requests $request_method $connect_host $remote_user";
    log_format  inside  "$request|$http_authorization|$http_proxy_authorization";

    # The proxy. Whatever the browser wants, it gets the server below.
    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8444 ssl;
        server_name  localhost;

        access_log  %%TESTDIR%%/tunnel.log tunnel;

        proxy_connect;
        proxy_connect_address  127.0.0.1:%%PORT_8443%%;
        proxy_connect_auth     on;

        auth_basic            "proxy";
        auth_basic_user_file  %%TESTDIR%%/users;
    }

    server {
        listen       127.0.0.1:8443 ssl;
        server_name  www.example;

        access_log  %%TESTDIR%%/inside.log inside;

        location = /page {
            default_type  text/html;
            return 200 "<!DOCTYPE html><p>told</p>";
        }
    }
}

EOF

certificate($t, 'localhost');
$t->write_file('users', "user:{PLAIN}secret\n");
run_quietly($t);

###############################################################################

for my $proxy ('http://127.0.0.1:' . port(8080), 'https://127.0.0.1:' . port(8444)) {
	my ($scheme) = $proxy =~ /^(\w+)/;
	log_mark($t, $_) for qw/ tunnel.log inside.log /;

	my ($page, $asked) = page($t, $proxy, 'secret');
	like($page, qr!<p>told</p>!, "$scheme: the page");
	is($asked, "Proxy $proxy basic proxy", "$scheme: what it asks its user");
	like(wait_for_line($t, qr!^GET /page !, 'inside.log'), qr/\|-\|-$/,
		"$scheme: the server sees no password");
	like(wait_for_line($t, qr/^407 \d+ CONNECT www\.example -$/, 'tunnel.log'), qr/^407 1 /,
		"$scheme: it is asked");
	ok(scalar wait_for_lines($t, 1, qr/^200 2 CONNECT www\.example user$/, 'tunnel.log'),
		"$scheme: the tunnel is on the same connection");

	log_mark($t, 'inside.log');
	($page, $asked) = page($t, $proxy, 'wrong');
	unlike($page, qr!<p>told</p>!, "$scheme: wrong: no page");
	is_deeply([ log_lines($t, qr!GET /page !, 'inside.log') ], [], "$scheme: wrong: the server");
}

###############################################################################

# The page as the browser has it, and who asked for a password.
sub page {
	my ($t, $proxy, $password) = @_;
	my $browser = start_browser($t, $program, $proxy);
	my ($page, $asked) = patiently($t, sub { visit($browser, 'https://www.example/page', $password) });
	end_browser($t, $browser->{pid});

	return ($page // '', $asked // '');
}

# Has the browser load a page; a password is given once.
sub visit {
	my ($browser, $url, $password) = @_;
	my $asked = '';
	my %session = new_page($browser);

	result($browser, call($browser, 'Fetch.enable', { handleAuthRequests => JSON::PP::true }, %session));
	result($browser, call($browser, 'Page.enable', {}, %session));
	call($browser, 'Page.navigate', { url => $url }, %session);

	# Where there is no page it loads one that says so.
	while (my $message = receive($browser)) {
		my ($method, $params) = @{$message}{qw/ method params /};
		next unless $method;
		last if $method eq 'Page.loadEventFired';

		if ($method eq 'Fetch.requestPaused') {
			call($browser, 'Fetch.continueRequest', { requestId => $params->{requestId} }, %session);

		} elsif ($method eq 'Fetch.authRequired') {
			my $answer = $asked ? { response => 'CancelAuth' }
				: { response => 'ProvideCredentials', username => 'user', password => $password };
			$asked ||= join ' ', @{$params->{authChallenge}}{qw/ source origin scheme realm /};

			call($browser, 'Fetch.continueWithAuth',
				{ requestId => $params->{requestId}, authChallengeResponse => $answer }, %session);
		}
	}

	my $shown = result($browser, call($browser, 'Runtime.evaluate',
		{ expression => 'document.documentElement.outerHTML' }, %session));
	return ($shown->{result}{value} // '', $asked);
}
