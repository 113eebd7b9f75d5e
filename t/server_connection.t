#!/usr/bin/perl

# proxy_connect_server: whether the server that the authority names answers a CONNECT, or the one that the
# connection came to, with and without certificates of clients.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl rewrite/)->has_daemon('openssl');

eval { require IO::Socket::SSL; };
plan(skip_all => 'IO::Socket::SSL not installed') if $@;

# Before, 400 stood for 421.
my $misdirected = $t->has_version('1.10.0') ? '421' : '400';

# 1.13.0 is the first that knows TLS 1.3, and for long had to be told to.
my @versions = $t->has_version('1.13.0') ? (qw/ TLSv1_2 TLSv1_3 /) : ('TLSv1_2');
my $protocols = join ' ', map { tr/_/./r } @versions;

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  choice  "$server_name|$host|$connect_host|$status";
    access_log  %%TESTDIR%%/choice.log choice;

    ssl_certificate         localhost.crt;
    ssl_certificate_key     localhost.key;
    ssl_client_certificate  client.crt;
    ssl_session_cache       shared:SSL:1m;
    ssl_protocols           PROTOCOLS;

    # plain: the default server answers whatever is named
    server {
        listen       127.0.0.1:8080;
        server_name  first.example;

        proxy_connect;
        proxy_connect_address  127.0.0.1:%%PORT_8081%%;
        proxy_connect_server   connection;
    }

    server {
        listen       127.0.0.1:8080;
        server_name  site.example *.wild.example ~^regex;

        proxy_connect_server  authority;
    }

    # the same, by the authority
    server {
        listen       127.0.0.1:8082;
        server_name  first.example;

        proxy_connect;
        proxy_connect_address  127.0.0.1:%%PORT_8081%%;
    }

    server {
        listen       127.0.0.1:8082;
        server_name  site.example;
    }

    # TLS: the default server verifies nobody
    server {
        listen       127.0.0.1:8443 ssl;
        server_name  default.example;

        proxy_connect;
        proxy_connect_allow    443;
        proxy_connect_address  127.0.0.1:%%PORT_8081%%;
        proxy_connect_server   connection;
    }

    server {
        listen       127.0.0.1:8443 ssl;
        server_name  proxy.example *.proxy.example;

        ssl_verify_client  on;

        proxy_connect;
        proxy_connect_address  127.0.0.1:%%PORT_8081%%;
        proxy_connect_server   connection;
    }

    server {
        listen       127.0.0.1:8443 ssl;
        server_name  optional.example;

        ssl_verify_client  optional;

        proxy_connect;
        proxy_connect_address  $ssl_client_verify.example;
        proxy_connect_server   connection;
    }

    server {
        listen       127.0.0.1:8443 ssl;
        server_name  site.example;

        location / {
            return 200 "site\n";
        }
    }

    # TLS, by the authority, without a word of it
    server {
        listen       127.0.0.1:8444 ssl;
        server_name  verifying.example;

        ssl_verify_client  on;

        proxy_connect;
    }

    server {
        listen       127.0.0.1:8444 ssl;
        server_name  site.example;

        proxy_connect;
        proxy_connect_address  127.0.0.1:%%PORT_8081%%;
    }

    # and with one
    server {
        listen       127.0.0.1:8445 ssl;
        server_name  decided.example;

        ssl_verify_client  on;

        proxy_connect;
        proxy_connect_server  authority;
    }

    server {
        listen       127.0.0.1:8445 ssl;
        server_name  site.example;
    }

    # nobody beside it has a name
    server {
        listen       127.0.0.1:8446 ssl;
        server_name  alone.example;

        ssl_verify_client  on;

        proxy_connect;
    }

    server {
        listen       127.0.0.1:8446 ssl;
    }
}

EOF

$t->plan(17 + 19 * @versions)->write_file_expand('nginx.conf', $conf =~ s/PROTOCOLS/$protocols/r);

certificate($t, $_) for qw/ localhost client /;
my $upstream = upstream($t, close_after(0, 'hello'), port(8081));
$t->run();

my $dir = $t->testdir();
my %cert = (SSL_use_cert => 1, SSL_cert_file => "$dir/client.crt", SSL_key_file => "$dir/client.key");

###############################################################################
# Plain

for my $name (qw/ first.example site.example SITE.example. a.wild.example regex.example 127.0.0.1
	[::1] other.example /)
{
	my $host = lc $name =~ s/\.$//r;
	is(chosen($t, "$name:443"), "200 hello first.example|$host|$host|200", "connection: $name");
}

is(chosen($t, 'site.example:443', fields => [ 'Host: site.example' ]),
	'200 hello first.example|site.example|site.example|200', 'connection: the Host header');
is(chosen($t, 'site.example:80'), '403 first.example|site.example|site.example|403',
	'connection: what the server refuses');
is(chosen($t, 'site.example:443', port => port(8082)),
	'405 site.example|site.example|site.example|405', 'authority: the server that it names');
is(chosen($t, 'other.example:443', port => port(8082)),
	'200 hello first.example|other.example|other.example|200', 'authority: the default server');

###############################################################################
# TLS

for my $version (@versions) {
	my $tls = sub { tls(port(8443), $version, @_) };

	for my $named (qw/ site.example proxy.example other.example /) {
		is(chosen($t, "$named:443", $tls->('proxy.example', %cert)),
			"200 hello proxy.example|$named|$named|200",
			"$version: $named by the server of SNI, with a certificate");
		is(chosen($t, "$named:443", $tls->('proxy.example')), "400 proxy.example|$named|$named|400",
			"$version: $named by the server of SNI, without a certificate");
		is(chosen($t, "$named:443", $tls->('')), "200 hello default.example|$named|$named|200",
			"$version: $named by the default server, without SNI");
	}

	is(chosen($t, 'site.example:443', $tls->('www.proxy.example', %cert)),
		'200 hello proxy.example|site.example|site.example|200', "$version: a wildcard name in SNI");
	is(chosen($t, 'site.example:443', $tls->('www.proxy.example')),
		'400 proxy.example|site.example|site.example|400',
		"$version: a wildcard name in SNI, without a certificate");
	is(chosen($t, 'site.example:443', $tls->('optional.example', %cert)),
		'502 optional.example|site.example|site.example|502', "$version: an optional certificate");
	is(chosen($t, 'site.example:444', $tls->('unknown.example')),
		'403 default.example|site.example|site.example|403', "$version: the default server's rules, for SNI that nobody has");

	# A server that says nothing of it stays as it is.
	is(chosen($t, 'proxy.example:443', $tls->('site.example', %cert)),
		"$misdirected site.example|site.example|proxy.example|$misdirected", "$version: no way from a server to one that verifies");
	is(chosen($t, 'site.example:443', $tls->('site.example')),
		'405 site.example|site.example|site.example|405', "$version: a server without proxy_connect");
}

###############################################################################
# A session of one server brings nobody past the certificate of another

for my $version (map { s/v//r =~ tr/A-Z/a-z/r } @versions) {
	my $session = "$dir/session.$version";
	my @cert = ('-cert', "$dir/client.crt", '-key', "$dir/client.key");

	like(s_client($t, $version, 'proxy.example', '-sess_out', $session, @cert), qr/hello/,
		"$version: a session with a certificate");
	like(s_client($t, $version, 'proxy.example', '-sess_in', $session), qr/Reused.*hello/s,
		"$version: resumed, it is the one that showed the certificate");

	like(s_client($t, $version, 'default.example', '-sess_out', $session), qr/hello/,
		"$version: a session without a certificate");

	# OpenSSL may say that the name of a session that is resumed is still the one that it began with.
	log_mark($t, 'choice.log');
	my $answer = s_client($t, $version, 'proxy.example', '-sess_in', $session);
	my $line = $answer =~ m!HTTP/1\.1 ! ? wait_for_line($t, qr/^/, 'choice.log') : 'no answer';
	like($line, qr/^(?:no answer|proxy\.example\|.*\|400|default\.example\|.*\|200)$/,
		"$version: it gets no tunnel of a server that verifies");
}

###############################################################################
# By the authority nginx answers as it does any request

is(chosen($t, 'site.example:443', tls(port(8444), 'TLSv1_2', 'verifying.example', %cert)),
	'200 hello site.example|site.example|site.example|200', 'authority: moved to a server that verifies nobody');
is(chosen($t, 'verifying.example:443', tls(port(8444), 'TLSv1_2', 'site.example')),
	"$misdirected site.example|site.example|verifying.example|$misdirected", 'authority: refused where the server verifies');

SKIP: {
	skip 'before 1.19.5 a warning of the start may only be on standard error', 3
		unless $t->has_version('1.19.5');

	my @warnings = log_lines($t, qr/\[warn\].*verifies clients/);
	is(scalar @warnings, 1, 'one server is told of');
	like($warnings[0] // '', qr/proxy_connect: the server "verifying\.example" /, 'it is named');
	like($warnings[0] // '', qr/server "site\.example": .*"proxy_connect_server connection"/,
		'and so are the other one and what to do');
}

###############################################################################

# Options of a client whose TLS asks for a name, the empty one for none.
sub tls {
	my ($port, $version, $name, %options) = @_;

	return (port => $port, tls => {
		SSL_version => $version,
		SSL_hostname => $name,
		%options,
	});
}

# How a CONNECT ends, and which server the log says that it was.
sub chosen {
	my ($t, $authority, %options) = @_;
	my $fields = delete $options{fields} // [];

	log_mark($t, 'choice.log');
	my $client = client(%options)->send(connect_request($authority, @$fields));

	my $outcome = status_of($client->read_header());
	$outcome .= ' ' . $client->read_bytes(5) if $outcome eq 200;
	$client->close();

	return "$outcome " . wait_for_line($t, qr/^/, 'choice.log');
}

# What s_client prints of a CONNECT.
sub s_client {
	my ($t, $version, $name, @options) = @_;
	my $dir = $t->testdir();
	$t->write_file('request', connect_request('site.example:443'));

	my @command = ('openssl', 's_client', '-connect', '127.0.0.1:' . port(8443), "-$version",
		'-servername', $name, '-ign_eof', @options);
	return scalar `timeout 20 @command < $dir/request 2>&1`;
}

###############################################################################
