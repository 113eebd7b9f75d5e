#!/usr/bin/perl

# Which server answers a CONNECT: that of the authority, whatever else a client says. People keep their
# lists of destinations as server_name, the allowed ones or the denied ones; nothing may lead round
# them: no Host header, no version of HTTP, no SNI, nothing that was asked for before.

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

use constant CRLF => "\x0d\x0a";

my $t = Test::Nginx->new()->has(qw/http access rewrite pcre/);
my $port = port(8090);

# The hosts of authorities, each with the server that is to answer and, where it is another, with what
# $host then is. One server has a list of names, the other is the default of the address.
my @hosts = (
	[ 'listed.example', 'listed' ],
	[ 'LISTED.Example', 'listed', 'listed.example' ],
	[ 'listed.example.', 'listed', 'listed.example' ],
	[ 'Listed.EXAMPLE.', 'listed', 'listed.example' ],
	[ 'www.listed.example', 'listed' ],
	[ 'WWW.listed.example.', 'listed', 'www.listed.example' ],
	[ 'li_sted.example', 'listed' ],
	[ 'Li_Sted.example.', 'listed', 'li_sted.example' ],
	[ '7.regex.example', 'listed' ],
	[ '7.REGEX.example.', 'listed', '7.regex.example' ],
	[ '127.0.0.2', 'listed' ],
	[ '[::a]', 'listed' ],
	[ '[::A]', 'listed', '[::a]' ],
	[ 'default.example', 'default' ],
	[ 'Default.example.', 'default', 'default.example' ],
	[ 'other.example', 'default' ],
	[ 'OTHER.example.', 'default', 'other.example' ],
	[ 'ot_her.example', 'default' ],
	[ 'notlisted.example', 'default' ],
	[ 'listed.example.other.example', 'default' ],
	[ '77.regex.example', 'default' ],
	[ '127.0.0.1', 'default' ],
	[ '[::b]', 'default' ],
);

# A name of each server, and of the other: what an attacker says to get there.
my %own = (listed => 'listed.example', default => 'default.example');
my %other = (listed => 'default.example', default => 'listed.example');

# Requests for a host, by someone who would like another server to answer.
my %request = (
	'its Host' => sub { lines("CONNECT $_[0]:$port HTTP/1.1", "Host: $_[0]:$port") },
	'another Host' => sub { lines("CONNECT $_[0]:$port HTTP/1.1", "Host: $_[1]") },
	'another Host with a port' => sub { lines("CONNECT $_[0]:$port HTTP/1.1", "Host: $_[1]:$port") },
	'another Host in capitals, with a dot' => sub {
		lines("CONNECT $_[0]:$port HTTP/1.1", "HOST: \U$_[1]\E.")
	},
	'fields that proxies write' => sub {
		lines("CONNECT $_[0]:$port HTTP/1.1", "Host: $_[0]", "X-Forwarded-Host: $_[1]",
			"Forwarded: host=$_[1]", "X-Original-Host: $_[1]")
	},
	'HTTP/1.0, no Host' => sub { lines("CONNECT $_[0]:$port HTTP/1.0") },
	'HTTP/1.0, another Host' => sub { lines("CONNECT $_[0]:$port HTTP/1.0", "Host: $_[1]") },
	'spaces, another Host' => sub { lines("CONNECT  $_[0]:$port HTTP/1.1", "Host: $_[1]") },
	'behind a GET' => sub {
		lines('GET /none HTTP/1.1', "Host: $_[1]")
			. lines("CONNECT $_[0]:$port HTTP/1.1", "Host: $_[1]")
	},
	'behind a GET of absolute-form' => sub {
		lines("GET http://$_[1]/none HTTP/1.1", "Host: $_[1]")
			. lines("CONNECT $_[0]:$port HTTP/1.0")
	},
);

my @over_tls = ('its Host', 'another Host', 'HTTP/1.0, no Host', 'behind a GET');

# What a client says in SNI over TLS: of the server that is to answer, and of the other.
my %sni = (
	'TLS, no SNI' => sub { '' },
	'TLS, its own name' => sub { $_[0] },
	'TLS, the other name' => sub { $_[1] },
	'TLS, the other name in capitals' => sub { uc $_[1] },
);

my $has_sni = has_tls($t) && $t->has_module('sni') && $t->has_feature('socket_ssl_sni');
%sni = () unless $has_sni;

# Nobody's requests: in each case the one server or the other could be meant.
my @nonsense = (
	[ 'absolute-form in Host', "CONNECT listed.example:$port HTTP/1.1", 'Host: http://default.example/' ],
	[ 'an empty Host', "CONNECT listed.example:$port HTTP/1.1", 'Host:' ],
	[ 'no Host', "CONNECT listed.example:$port HTTP/1.1" ],
	[ 'absolute-form', "CONNECT http://listed.example:$port/ HTTP/1.1", 'Host: default.example' ],
	[ 'userinfo', "CONNECT listed.example\@default.example:$port HTTP/1.1", 'Host: listed.example' ],
	[ 'userinfo with a port', "CONNECT listed.example:$port\@default.example:$port HTTP/1.1",
		'Host: listed.example' ],
	[ 'two dots at the end', "CONNECT listed.example..:$port HTTP/1.1", 'Host: default.example' ],
	[ 'a path', "CONNECT /listed.example:$port HTTP/1.1", 'Host: listed.example' ],
	[ 'NUL in the host', "CONNECT listed.example\x00.default.example:$port HTTP/1.1",
		'Host: listed.example' ],
);

# What the two servers do: the listed names are the allowed ones, or the denied ones.
my %policy = (
	allowed => { listed => 200, default => 403, port => port(8080), tls_port => port(8443) },
	denied => { listed => 403, default => 200, port => port(8081), tls_port => port(8444) },
);

my @cases = ((map { [ 'plain', $_ ] } sort keys %request),
	map { my $sni = $_; map { [ $sni, $_ ] } @over_tls } sort keys %sni);


$t->plan(2 * (2 * @cases + 2 * @nonsense) + 1 + 2 * 4 + 12 * 3)
	->write_file_expand('nginx.conf', with_tls($t, <<'EOC'));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    error_log  %%TESTDIR%%/error.log info;

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;
    ssl_session_cache    shared:SSL:1m;

    log_format  choice  "$request|$server_name|$host|$status";

    # The list of the allowed ones.
    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        server_name  default.example;
        access_log   %%TESTDIR%%/allowed.log choice;

        deny all;

        proxy_connect;
        proxy_connect_allow     all;
        proxy_connect_address   127.0.0.1;
        proxy_connect_response  "HTTP/1.1 200 $server_name\r\nX-Host: $host\r\n\r\n";
    }

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        server_name  listed.example *.listed.example li_sted.example
                     ~^(?<digit>\d)\.regex\.example$ 127.0.0.2 [::a];
        access_log   %%TESTDIR%%/allowed.log choice;

        proxy_connect;
        proxy_connect_allow     all;
        proxy_connect_address   127.0.0.1;
        proxy_connect_response  "HTTP/1.1 200 $server_name\r\nX-Host: $host\r\n\r\n";
    }

    # The list of the denied ones.
    server {
        listen       127.0.0.1:8081;
        listen       127.0.0.1:8444 ssl;
        server_name  default.example;
        access_log   %%TESTDIR%%/denied.log choice;

        proxy_connect;
        proxy_connect_allow     all;
        proxy_connect_address   127.0.0.1;
        proxy_connect_response  "HTTP/1.1 200 $server_name\r\nX-Host: $host\r\n\r\n";
    }

    server {
        listen       127.0.0.1:8081;
        listen       127.0.0.1:8444 ssl;
        server_name  listed.example *.listed.example li_sted.example
                     ~^(?<digit>\d)\.regex\.example$ 127.0.0.2 [::a];
        access_log   %%TESTDIR%%/denied.log choice;

        return 403;

        proxy_connect;
        proxy_connect_allow  all;
    }
}

EOC

certificate($t, 'localhost') if has_tls($t);
$t->run();

my $upstream = listener($port);
upstream($t, \&page, port(8091));

###############################################################################

for my $policy (sort keys %policy) { SKIP: {
	skip NO_REWRITE, 2 * @cases + 2 * @nonsense unless holds($t, $policy);
	my %policy = %{$policy{$policy}};

	for (@cases) {
		my ($way, $kind) = @$_;
		my $name = "$policy, $way, $kind";
		log_mark($t, "$policy.log");

		my (@got, @expected, @lines);

		for (@hosts) {
			my ($host, $server, $told) = @$_;
			my $request = $request{$kind}->($host, $other{$server});
			my ($line) = $request =~ /^(CONNECT .*)\x0d$/m;
			my $status = $policy{$server};
			$told //= $host;

			push @got, eval { outcome(come($way, $server, %policy), $request) } // $@;
			push @expected, $status == 200 ? "200 $own{$server} $told" : $status;
			push @lines, "$line|$own{$server}|$told|$status";
		}

		is_deeply(\@got, \@expected, "$name: the answers");
		is_deeply(logged($t, "$policy.log", scalar @lines), [ sort @lines ],
			"$name: the access log");
	}

	for (@nonsense) {
		my ($name, @request) = @$_;
		log_mark($t, "$policy.log");

		is(status_of(exchange(lines(@request), port => $policy{port})), 400,
			"$policy, $name: 400");
		like(logged($t, "$policy.log", 1)->[0], qr/^CONNECT .*\|400$/s,
			"$policy, $name: the access log");
	}
}}

# Whether a policy holds: a core without the rewrite phase knows no "return".
sub holds {
	my ($t, $policy) = @_;
	return $policy eq 'allowed' || runs_rewrite($t);
}

is(unaccepted($upstream), 0, 'nobody came for a CONNECT that was refused');

# A client on its way in.
sub come {
	my ($way, $server, %policy) = @_;
	return client(port => $policy{port}) if $way eq 'plain';

	my $name = $sni{$way}->($own{$server}, $other{$server});
	return client(port => $policy{tls_port}, tls => { %{plain_tls()}, SSL_hostname => $name });
}

# What a client gets for its last request: the status, and of a tunnel what the server says of itself.
sub outcome {
	my ($socket, $requests) = @_;
	$socket->send($requests);

	if ($requests =~ /^GET/) {
		$socket->read_bytes(header_of($socket->read_header(), 'Content-Length'));
	}

	my $header = $socket->read_header();
	my $status = status_of($header);

	unless ($status eq 200) {
		$socket->close();
		return $status;
	}

	# The tunnel leads to where it has to.
	my $end = accept_end($upstream);
	$socket->send('up');
	die "Not \"up\"\n" unless $end->read_bytes(2) eq 'up';
	$_->close() for $socket, $end;

	my ($server) = $header =~ /^HTTP\S* 200 (\S+)/;
	return "200 $server " . header_of($header, 'X-Host');
}

# The lines about CONNECT in a log, once there are so many.
sub logged {
	my ($t, $file, $count) = @_;
	my @lines = eval { wait_for_lines($t, $count, qr/^CONNECT/, $file) };
	return [ sort @lines ? @lines : log_lines($t, qr/^CONNECT/, $file) ];
}

sub lines {
	return join CRLF, @_, '', '';
}

###############################################################################
# A session of TLS that was begun with one name, and goes on

for my $policy (sort keys %policy) { SKIP: {
	skip 'no SNI', 4 unless $has_sni;
	skip 'no sessions of OpenSSL here', 4 unless $t->has_feature('socket_ssl_reused');
	skip 'sessions are not resumed', 4 unless $t->has_version('1.23.2');
	skip NO_REWRITE, 4 unless holds($t, $policy);

	for my $server (sort keys %own) {
		my $context = IO::Socket::SSL::SSL_Context->new(SSL_verify_mode => 0,
			SSL_session_cache_size => 10, SSL_version => 'TLSv1_2');
		my ($host, $status) = ($own{$server}, $policy{$policy}{$server});
		my ($answer, $reused);

		for (1 .. 2) {
			my $client = client(port => $policy{$policy}{tls_port}, tls => {
				SSL_reuse_ctx => $context, SSL_session_key => 'here',
				SSL_hostname => $other{$server} });
			$reused = $client->handle()->get_session_reused();
			$answer = outcome($client, $request{'another Host'}->($host, $other{$server}));
		}

		ok($reused, "$policy, $host: the session is resumed");
		is($answer, $status == 200 ? "200 $host $host" : $status,
			"$policy, $host: the answer over a session that is resumed");
	}
}}

###############################################################################
# curl can be told to lie

my $curl = installed('curl');

my %proxy = (
	http => sub { ('--proxy', "http://127.0.0.1:$_[1]{port}") },
	'HTTP/1.0' => sub { ('--proxy1.0', "127.0.0.1:$_[1]{port}") },
	https => sub { ('--proxy', "https://$_[0]:$_[1]{tls_port}", '--proxy-insecure',
		'--resolve', "$_[0]:$_[1]{tls_port}:127.0.0.1") },
);

for my $policy (sort keys %policy) { for my $kind (sort keys %proxy) { SKIP: {
	skip 'no curl', 6 unless $curl;
	skip NO_REWRITE, 6 unless holds($t, $policy);
	skip NO_TLS, 6 if $kind eq 'https' && !$has_sni;

	for my $server (sort keys %own) {
		my ($host, $other, $status) = ($own{$server}, $other{$server}, $policy{$policy}{$server});
		my $name = "$policy, curl, $kind, $host";
		log_mark($t, "$policy.log");

		my ($out, $err, $code) = run_program($t, [ $curl, '--disable', '--silent',
			'--show-error', '--max-time', 10, $proxy{$kind}->($other, $policy{$policy}),
			'--proxytunnel', '--proxy-header', "Host: $other", "http://$host:" . port(8091) . '/' ]);

		is($out, $status == 200 ? 'here' : '', "$name: the page");
		is($code, $status == 200 ? 0 : 56, "$name: the exit status") or diag($err);
		like(logged($t, "$policy.log", 1)->[0],
			qr/^CONNECT \Q$host:\E\d+ HTTP\S+\|\Q$host|$host|$status\E$/, "$name: the access log");
	}
}}}

# A server with one page.
sub page {
	my ($socket) = @_;
	$socket->read_header();
	$socket->send("HTTP/1.1 200 OK\x0d\x0aContent-Length: 4\x0d\x0aConnection: close\x0d\x0a\x0d\x0ahere");
}

###############################################################################
