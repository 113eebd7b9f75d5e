#!/usr/bin/perl

# Which server answers a CONNECT over HTTP/2: the one that its authority names, or with "proxy_connect_server
# connection" the one that the connection has by its address, or the name in its TLS; and whose connections are
# looked into for it.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::HTTP2 qw/ END_STREAM http2_on /;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl http_v2 rewrite socket_ssl/)->has_daemon('openssl');

plan(skip_all => 'CONNECT over HTTP/2 needs nginx 1.22 or newer') unless $t->has_version('1.22.0');

my $on = http2_on($t);

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  choice  "$server_name|$host|$http_host|$connect_host|$request|$status";
    access_log  %%TESTDIR%%/choice.log choice;

    ssl_certificate         localhost.crt;
    ssl_certificate_key     localhost.key;
    ssl_client_certificate  client.crt;

    proxy_connect_http2_window  64k;

    # cleartext: the default server answers whatever is named
    server {
        listen       127.0.0.1:8080%%HTTP2%%;
        server_name  first.example;

        proxy_connect;
        proxy_connect_address  127.0.0.1:%%PORT_8081%%;
        proxy_connect_server   connection;
    }

    server {
        listen       127.0.0.1:8080%%HTTP2%%;
        server_name  site.example *.wild.example ~^regex ~^-;

        location / {
            return 200 "$server_name";
        }
    }

    # the same, by the authority
    server {
        listen       127.0.0.1:8082%%HTTP2%%;
        server_name  first.example;

        proxy_connect;
        proxy_connect_address  127.0.0.1:%%PORT_8081%%;
    }

    server {
        listen       127.0.0.1:8082%%HTTP2%%;
        server_name  site.example ~^-;
    }

    # TLS: the default server verifies nobody
    server {
        listen       127.0.0.1:8443 ssl%%HTTP2%%;
        server_name  default.example;

        proxy_connect;
        proxy_connect_allow    443;
        proxy_connect_address  127.0.0.1:%%PORT_8081%%;
        proxy_connect_server   connection;
    }

    server {
        listen       127.0.0.1:8443 ssl%%HTTP2%%;
        server_name  proxy.example *.proxy.example ~^(?<named>.+)\.regex\.example$;

        ssl_verify_client  on;

        proxy_connect;
        proxy_connect_address  127.0.0.1:%%PORT_8081%%;
        proxy_connect_server   connection;
    }

    server {
        listen       127.0.0.1:8443 ssl%%HTTP2%%;
        server_name  site.example;

        location / {
            return 200 "site";
        }
    }

    # tunnels are of a server that is not the default
    server {
        listen       127.0.0.1:8444 ssl%%HTTP2%%;
        listen       127.0.0.1:8083%%HTTP2%%;
        listen       unix:%%TESTDIR%%/nginx.sock%%HTTP2%%;
        server_name  default.example;
    }

    server {
        listen       127.0.0.1:8444 ssl%%HTTP2%%;
        listen       unix:%%TESTDIR%%/nginx.sock%%HTTP2%%;
        server_name  hidden.example;

        proxy_connect;
        proxy_connect_address  127.0.0.1:%%PORT_8081%%;
    }

    # all addresses of the host at once, one of which is named
    server {
        listen       *:%%PORT_8084%%%%HTTP2%%;
        server_name  all.example;

        proxy_connect;
        proxy_connect_address  127.0.0.1:%%PORT_8081%%;
    }

    server {
        listen       127.0.0.2:%%PORT_8084%%%%HTTP2%%;
        server_name  second.example;
    }

    server {
        listen       [::1]:%%PORT_8084%%%%HTTP2%%;
        server_name  v6.example;

        proxy_connect;
        proxy_connect_address  127.0.0.1:%%PORT_8081%%;
    }
}

EOF

my $has_ipv6 = eval { IO::Socket::IP->new(LocalHost => '::1', Listen => 1) } ? 1 : 0;
$conf =~ s/    server \{\s+listen +\[::1\].*?\n    \}\n//s unless $has_ipv6;

$t->plan(43)->write_file_expand('nginx.conf', with_http2($conf, $on));

certificate($t, $_) for qw/ localhost client /;
upstream($t, half_close_after('hello'), port(8081));
$t->run();

my $dir = $t->testdir();
my %cert = (SSL_use_cert => 1, SSL_cert_file => "$dir/client.crt", SSL_key_file => "$dir/client.key");

###############################################################################
# Cleartext

for my $name (qw/ first.example site.example SITE.example. a.wild.example regex.example 127.0.0.1
	[::1] other.example /)
{
	my $host = lc $name =~ s/\.$//r;
	is(chosen($t, "$name:443", clear(8080)),
		"200 hello first.example|$host|$host:443|$host|CONNECT $name:443 HTTP/2.0|200", "connection: $name");
}

is(chosen($t, 'site.example:443', clear(8080), host => 'site.example:443'),
	'200 hello first.example|site.example|site.example:443|site.example|CONNECT site.example:443 HTTP/2.0|200',
	'connection: the Host field');
is(chosen($t, 'site.example:80', clear(8080)),
	'403 first.example|site.example|site.example:80|site.example|CONNECT site.example:80 HTTP/2.0|403',
	'connection: what the server refuses');
is(chosen($t, 'nowhere', clear(8080)), '400 first.example|first.example|first.example|-|CONNECT nowhere HTTP/2.0|400',
	'connection: what names nothing');
is(chosen($t, 'site.example:443', clear(8082)),
	'405 site.example|site.example|site.example:443|site.example|CONNECT site.example:443 HTTP/2.0|405',
	'authority: the server that it names');
is(chosen($t, 'other.example:443', clear(8082)),
	'200 hello first.example|other.example|other.example:443|other.example|CONNECT other.example:443 HTTP/2.0|200',
	'authority: the default server');
is(chosen($t, 'nowhere', clear(8082)), '400 first.example|first.example|first.example|-|CONNECT nowhere HTTP/2.0|400',
	'authority: what names nothing');

# What announces a body names a server all the same.
is(chosen($t, 'other.example:443', clear(8082), fields => [ 'content-length' => 5 ]),
	'400 first.example|other.example|other.example:443|other.example|CONNECT other.example:443 HTTP/2.0|400',
	'authority: a body');
is(chosen($t, 'site.example:443', clear(8082), fields => [ 'content-length' => 5 ]),
	'405 site.example|site.example|site.example:443|site.example|CONNECT site.example:443 HTTP/2.0|405',
	'authority: a body, for a server without proxy_connect');

my $h2 = client_of(clear(8080));
is($h2->read_to_end($h2->get('/', 'site.example')), 'site.example', 'other requests by the authority');

###############################################################################
# TLS

for my $named (qw/ site.example proxy.example other.example /) {
	my $line = "$named|$named:443|$named|CONNECT $named:443 HTTP/2.0";
	is(chosen($t, "$named:443", tls(8443, 'proxy.example', %cert)), "200 hello proxy.example|$line|200",
		"$named by the server of SNI, with a certificate");
	is(chosen($t, "$named:443", tls(8443, 'proxy.example')), "400 proxy.example|$line|400",
		"$named by the server of SNI, without a certificate");
	is(chosen($t, "$named:443", tls(8443, '')), "200 hello default.example|$line|200",
		"$named by the default server, without SNI");
}

my $line = 'site.example|site.example:443|site.example|CONNECT site.example:443 HTTP/2.0';
is(chosen($t, 'site.example:443', tls(8443, 'www.proxy.example', %cert)), "200 hello proxy.example|$line|200",
	'a wildcard name in SNI');
is(chosen($t, 'site.example:443', tls(8443, 'a.regex.example', %cert)), "200 hello proxy.example|$line|200",
	'a regular expression for SNI');
is(chosen($t, 'site.example:443', tls(8443, 'unknown.example')), "200 hello default.example|$line|200",
	'SNI that nobody has');
is(chosen($t, 'site.example:443', tls(8443, 'site.example')), "405 $line|405" =~ s/405 /405 site.example|/r,
	'a server without proxy_connect');

$line = 'site.example|site.example:443|proxy.example|CONNECT proxy.example:443 HTTP/2.0';
like(chosen($t, 'proxy.example:443', tls(8443, 'site.example', %cert)), qr/^421 .*\|CONNECT proxy\.example:443 HTTP\/2\.0\|421$/,
	'no way from a server to one that verifies');

###############################################################################
# Whose connections are looked into

for my $name ('hidden.example', 'default.example', '') {
	like(chosen($t, 'hidden.example:443', tls(8444, $name)), qr/^200 hello hidden\.example\|/,
		"by the authority, SNI is \"$name\"");
	like(chosen($t, 'default.example:443', tls(8444, $name)), qr/^405 default\.example\|/,
		"a server without proxy_connect, SNI is \"$name\"");
}

like(chosen($t, 'hidden.example:443', cleartext => 1, path => "$dir/nginx.sock"), qr/^200 hello hidden/, 'a unix socket');
like(chosen($t, 'hidden.example:443', clear(8083)), qr/^400 /, 'an address of the same server without tunnels');

like(chosen($t, 'a.example:443', clear(8084)), qr/^200 hello all\.example/, 'all addresses');
like(chosen($t, 'a.example:443', clear(8084), host => '127.0.0.3'), qr/^200 hello all\.example/, 'another of them');
like(chosen($t, 'a.example:443', clear(8084), host => '127.0.0.2'), qr/^400 /, 'one of its own without tunnels');

SKIP: {
	skip 'no IPv6', 1 unless $has_ipv6;
	like(chosen($t, 'a.example:443', clear(8084), host => '::1'), qr/^200 hello v6\.example/, 'an address of IPv6');
}

###############################################################################

# Once in a server where it is a directive of its own.
sub with_http2 {
	my ($conf, $on) = @_;
	$conf =~ s/%%HTTP2%%(?=;\n +listen)//g if $on =~ /;/;
	return $conf =~ s/%%HTTP2%%/$on/gr;
}

sub clear { return (cleartext => 1, port => port($_[0])) }

# Options of a client whose TLS asks for a name, the empty one for none.
sub tls {
	my ($port, $name, %options) = @_;
	return (port => port($port), tls => { SSL_hostname => $name, %options });
}

sub client_of { return Test::ProxyConnect::HTTP2->new(@_) }

# How a CONNECT ends, and which server the log says that it was. A name as "host" is a field, an address the
# client's; "fields" are more of them.
sub chosen {
	my ($t, $authority, %options) = @_;
	my @fields = @{delete $options{fields} // []};
	push @fields, host => delete $options{host} if ($options{host} // '') =~ /example/;

	log_mark($t, 'choice.log');
	my $h2 = client_of(%options);
	my $id = $h2->connect($authority, @fields);
	my $outcome = $h2->status($id);
	$outcome .= ' ' . $h2->read_bytes($id, 5) if $outcome eq 200;
	$h2->end($id);

	return "$outcome " . wait_for_line($t, qr/^/, 'choice.log');
}

###############################################################################
