#!/usr/bin/perl

# A plain CONNECT on a listener for TLS gets what a plain GET gets there: 497, its page, its line.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl rewrite socket_ssl/);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    log_format  plain  "$status $server_name $request_method|$request|$connect_host";
    access_log  %%TESTDIR%%/plain.log plain;

    server {
        listen       127.0.0.1:8443 ssl;
        listen       127.0.0.1:8444 ssl proxy_protocol;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        location / {
            return 200 "here";
        }
    }

    server {
        listen       127.0.0.1:8443 ssl;
        server_name  page.example;

        error_page   497 = /page;

        proxy_connect;

        location / {
            return 200 "page $status $host $request_uri\n";
        }
    }

    server {
        listen       127.0.0.1:8443 ssl;
        server_name  named.example;

        error_page   497 = @named;

        proxy_connect;

        location @named {
            return 200 "named $request_method $connect_host $connect_port|$uri\n";
        }
    }

    server {
        listen       127.0.0.1:8443 ssl;
        server_name  away.example;

        error_page   497 https://$host$request_uri;

        proxy_connect;
    }
}

EOF

certificate($t, 'localhost');
$t->plan(17)->run();

my $echo = upstream($t, echo(), port(8081));
my $said = 'The plain HTTP request was sent to HTTPS port';

###############################################################################

log_mark($t);
my $get = exchange("GET / HTTP/1.1\x0d\x0aHost: localhost\x0d\x0a\x0d\x0a", port => port(8443));
like($get, qr/^HTTP\/1\.1 400 .*\Q$said\E/s, 'GET');

for my $case (
	[ 'CONNECT', sub { $_[0]->send(connect_request($echo)) } ],
	[ 'CONNECT in single bytes', sub { $_[0]->send_in_pieces(connect_request($echo), 1) } ],
	[ 'CONNECT of HTTP/1.0', sub { $_[0]->send("CONNECT $echo HTTP/1.0\x0d\x0a\x0d\x0a") } ],
) {
	my ($name, $send) = @$case;
	log_mark($t, $_) for 'error.log', 'plain.log';

	my $client = client(port => port(8443));
	$send->($client);
	my $answer = $client->read_to_end();

	is(page($answer), page($get), "$name: the answer that GET gets");
	like(wait_for_line($t, qr/^/, 'plain.log'),
		qr!^400 localhost CONNECT\|CONNECT \Q$echo\E HTTP/1\.[01]\|127\.0\.0\.1$!, "$name: the access log");
	ok(wait_for_line($t, qr/\[info\] .*client sent plain HTTP request to HTTPS port\b.* client: 127\.0\.0\.1, .*request: "CONNECT \Q$echo\E/),
		"$name: the line that GET gets");
}

my $behind = exchange("PROXY TCP4 127.0.0.1 127.0.0.1 1 2\x0d\x0a" . connect_request($echo),
	port => port(8444));
like($behind, qr/^HTTP\/1\.1 400 .*\Q$said\E/s, 'behind a PROXY header');

# Pages. They are those of the server that the authority names.
SKIP: {
	skip 'Tengine refuses the page, too', 1 if `$ENV{TEST_NGINX_BINARY} -V 2>&1` =~ /Tengine/;

	like(exchange(connect_request('page.example:443'), port => port(8443)),
		qr/^HTTP\/1\.1 200 .*page \d+ page\.example \n$/s, 'error_page');
}

like(exchange(connect_request('Named.example.:0444'), port => port(8443)),
	qr/^HTTP\/1\.1 200 .*named CONNECT named\.example 444\|\n$/s, 'error_page with a named location');
my $away = exchange(connect_request('away.example:443'), port => port(8443));
like($away, qr/^HTTP\/1\.1 302 /, 'error_page with a redirect');
is(header_of($away, 'Location'), 'https://away.example', 'and where to');

# A bad authority is a bad authority.
like(exchange(connect_request('a..b:443'), port => port(8443)), qr/^HTTP\/1\.1 400 /,
	'an authority that is none');

# TLS on the same listener.
my $client = tunnel($echo, port => port(8443), tls => 1);
is($client->send('there')->read_bytes(5), 'there', 'a tunnel over TLS');
$client->close();

###############################################################################

# An answer without what differs from one to the next: the date, and what Tengine says of the request.
sub page {
	my ($answer) = @_;
	return $answer =~ s/^Date: .*?\n//mr =~ s/<td>(?:http:|\d{4}\/)[^<]*<\/td>//gr;
}

###############################################################################
