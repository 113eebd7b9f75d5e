#!/usr/bin/perl

# However a CONNECT is shown to the core, logs of every level show what the client sent, whoever answers and
# whenever: on plain and TLS listeners, behind a PROXY header, on a connection that was kept alive, in
# pieces.

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

my @levels = qw/ debug info crit /;

my $servers = join '', map { <<EOF } 0 .. $#levels;

    server {
        listen       127.0.0.1:%%PORT_808$_%%;
        listen       127.0.0.1:%%PORT_844$_%% ssl;
        listen       127.0.0.1:%%PORT_809$_%% proxy_protocol;
        server_name  level$_;

        error_log   %%TESTDIR%%/level$_.log $levels[$_];
        access_log  %%TESTDIR%%/all.log all;

        client_header_timeout  2s;

        proxy_connect;

        location / {
            return 200 "here";
        }
    }
EOF

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    log_format  all  "\$status \$request_method|\$request|\$uri|\$request_uri";
$servers
}

EOF

certificate($t, 'localhost');
$t->plan(8 * @levels + 2)->run();

my $get = "GET / HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a";

# What is refused, early and late, by the core and by the module; and what never ends.
my @refused = (
	"CONNECT a_b.example:1 HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a",
	"CONNECT a..b:443 HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a",
	"CONNECT a:443 HTTP/1.1\x0d\x0a\x0d\x0a",
	"CONNECT a:443 HTTP/1.1\x0d\x0aHost: a/b\x0d\x0a\x0d\x0a",
	"CONNECT a:443 HTTP/7.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a",
	"CONNECT a:443 HTTX/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a",
	"CONNECT a\x01b:443 HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a",
	"CONNECT   /a/../..:443 HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a",
	"CONNECT %zz:443 HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a",
	"CONNECT a:443\x0d\x0a\x0d\x0a",
	"CONNECT a:443 HTTP/1.1\x0d\x0aX: " . 'x' x 40000 . "\x0d\x0a\x0d\x0a",
	'CONNECT ' . 'a' x 40000 . " HTTP/1.1\x0d\x0a\x0d\x0a",
);

my @endless = ('CONNECT', 'CONNECT ', 'CONNECT   ', 'CONNECT a', 'CONNECT a:443 HTTP/1.1',
	"CONNECT a:443 HTTP/1.1\x0d\x0aHost");

for my $number (0 .. $#levels) {
	my $level = $levels[$number];

	my %listener = (
		'plain' => { port => port(8080 + $number) },
		'TLS' => { port => port(8440 + $number), tls => 1 },
		'PROXY' => { port => port(8090 + $number), proxy => "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\x0d\x0a" },
	);

	for my $name (sort keys %listener) {
		my @options = %{$listener{$name}};

		is(join(' ', grep { !is_refused($refused[$_], @options) } 0 .. $#refused), '',
			"$level, $name: refused");
		is(join(' ', grep { !is_refused($get . $refused[$_], @options) } 0 .. $#refused), '',
			"$level, $name: refused behind a GET");
	}

	# What is sent is waited for until nginx loses its patience, all at once.
	my @clients = map { client(port => port(8080 + $number))->send($_) } @endless;
	push @clients, client(port => port(8440 + $number), tls => 1)->send($_) for @endless;
	$_->read_to_end() for @clients;
	pass("$level: what never ends");

	# No PROXY header in front.
	is(exchange("CONNECT a:443 HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a", port => port(8090 + $number)), '',
		"$level: no PROXY header");
}

$t->stop();

my @shown = grep { m!CONNEC[ /]|CONNEC$|CON a:! } map { split /\n/, $t->read_file($_) }
	'all.log', 'error.log', map { "level$_.log" } 0 .. $#levels;
is_deeply(\@shown, [], 'nobody sees another request than the client sent');

my @lines = grep { /CONNECT/ } split /\n/, $t->read_file('all.log');
is_deeply([ grep { !/^\d+ (?:CONNECT|-)\|CONNECT/ } @lines ], [], 'each line has its method');

###############################################################################

sub is_refused {
	my ($bytes, @options) = @_;
	my $client = client(@options);

	# It may be answered, and closed, before all is sent.
	eval { $client->send($bytes) };
	my $answer = $client->read_to_end();
	$client->close();

	my ($status) = reverse $answer =~ m!HTTP/1\.1 (\d+) !g;
	return ($status // '') =~ /^(?:40[03]|414|50[125])$/;
}

###############################################################################
