#!/usr/bin/perl

# A client_header_buffer_size so small that a CONNECT ends in it anywhere: it works as it does for GET.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my @sizes = (1, 5, 6, 7, 8, 9, 10, 24, 48, 64);

my $t = Test::Nginx->new()->has(qw/http rewrite/)->plan(4 * @sizes);

my $servers = join '', map { <<EOF } 0 .. $#sizes;

    server {
        listen       127.0.0.1:%%PORT_@{[ 8080 + $_ ]}%%;
        server_name  localhost;

        client_header_buffer_size  $sizes[$_];

        proxy_connect;
        proxy_connect_allow    all;

        location / {
            return 200 "GET";
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
$servers
}

EOF

my $echo = upstream($t, echo(), port(8090));
$t->run();

my $get = "GET / HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a";
my $connect = connect_request($echo, 'X-Field: value');

for my $number (0 .. $#sizes) {
	my $size = $sizes[$number];
	my $port = port(8080 + $number);

	is(wrong($port, sub { "\x0a" x $_[0] . $connect }), '', "$size: empty lines in front");
	is(wrong($port, sub { $connect =~ s/ /' ' x ($_[0] + 1)/re }), '', "$size: spaces behind the method");
	is(wrong($port, sub { "\x0a" x $_[0] . $connect }, 1), '', "$size: in single bytes");
	is(wrong($port, sub { "\x0a" x $_[0] . $get . $connect }), '', "$size: behind a GET");
}

###############################################################################

# How often something has to stand in a request to keep it from becoming a tunnel.
sub wrong {
	my ($port, $request, $piece) = @_;
	return join ' ', grep { !passes($port, $request->($_), $piece) } 0 .. 12;
}

sub passes {
	my ($port, $bytes, $piece) = @_;
	my $client = client(port => $port);

	$piece ? $client->send_in_pieces($bytes, $piece) : $client->send($bytes);
	$client->send('early');

	if ($bytes =~ /GET/) {
		my $length = header_of($client->read_header(), 'Content-Length');
		$client->read_bytes($length) eq 'GET' or return 0;
	}

	my $passes = status_of($client->read_header()) eq '200' && $client->read_bytes(5) eq 'early';
	$client->close();

	return $passes;
}

###############################################################################
