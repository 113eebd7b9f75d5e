#!/usr/bin/perl

# proxy_connect_allow: which ports a CONNECT may name.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# For each server the ports that it allows, and those that it does not.
my %ports = (
	'default' => [ [ 443, 563 ], [ 1, 80, 442, 444, 562, 564, 4430, 65535 ] ],
	'all' => [ [ 1, 22, 80, 443, 65535 ], [] ],
	'listed' => [ [ 80, 8443 ], [ 79, 81, 443, 563, 8442, 8444, 65535 ] ],
	'range' => [ [ 1000, 1001, 1999, 2000, 3000, 3500, 4000 ],
		[ 1, 443, 999, 2001, 2999, 4001, 10000 ] ],
	'mixed' => [ [ 22, 8000, 8999, 65535 ], [ 21, 23, 443, 7999, 9000, 65534 ] ],
	'whole' => [ [ 1, 443, 65535 ], [] ],
	'one' => [ [ 443 ], [ 442, 444, 563 ] ],
);

my $count = 0;
$count += map { @$_ } @$_ for values %ports;

my $t = Test::Nginx->new()->has(qw/http/)->plan($count + 10)
	->write_file_expand('nginx.conf', <<'EOF')->run();

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    server {
        listen       127.0.0.1:8080;
        server_name  default;

        proxy_connect;
        proxy_connect_address 127.0.0.1:%%PORT_8081%%;
    }

    server {
        listen       127.0.0.1:8080;
        server_name  all;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_address 127.0.0.1:%%PORT_8081%%;
    }

    server {
        listen       127.0.0.1:8080;
        server_name  listed;

        proxy_connect;
        proxy_connect_allow 80 8443;
        proxy_connect_address 127.0.0.1:%%PORT_8081%%;
    }

    server {
        listen       127.0.0.1:8080;
        server_name  range;

        proxy_connect;
        proxy_connect_allow 1000-2000 3000-4000;
        proxy_connect_address 127.0.0.1:%%PORT_8081%%;
    }

    server {
        listen       127.0.0.1:8080;
        server_name  mixed;

        proxy_connect;
        proxy_connect_allow 65535 8000-8999 22 8100-8200;
        proxy_connect_address 127.0.0.1:%%PORT_8081%%;
    }

    server {
        listen       127.0.0.1:8080;
        server_name  whole;

        proxy_connect;
        proxy_connect_allow 1-65535;
        proxy_connect_address 127.0.0.1:%%PORT_8081%%;
    }

    server {
        listen       127.0.0.1:8080;
        server_name  one;

        proxy_connect;
        proxy_connect_allow 443-443;
        proxy_connect_address 127.0.0.1:%%PORT_8081%%;
    }

    server {
        listen       127.0.0.1:8080;
        server_name  away;

        # where the tunnel leads does not matter, what the client names does
        proxy_connect;
        proxy_connect_allow 8443;
        proxy_connect_address 127.0.0.1:%%PORT_8081%%;
    }
}

EOF

my $upstream = upstream($t, greet('hello'), port(8081));

###############################################################################

for my $server (sort keys %ports) {
	my ($allowed, $refused) = @{$ports{$server}};

	is(outcome("$server:$_"), '200 hello', "$server allows $_") for @$allowed;
	is(outcome("$server:$_"), '403', "$server refuses $_") for @$refused;
}

###############################################################################
# A refusal

log_mark($t);
my $accepted = upstream_lines($t, qr/accepted/);
my $answer = exchange(connect_request('one:444', 'Host: other:1')
	. "GET / HTTP/1.1\x0d\x0aHost: one\x0d\x0a\x0d\x0a");

is(status_of($answer), '403', 'a refusal');
is(header_of($answer, 'Connection'), 'close', 'it closes the connection');
is(() = $answer =~ m!HTTP/1\.1 \d!g, 1, 'what follows is not answered');
is(upstream_lines($t, qr/accepted/), $accepted, 'no upstream sees it');

my @lines = log_lines($t, qr/proxy_connect: /);
is(@lines, 1, 'it has one line in the log');
like($lines[0], qr/\[error\] \d+#\d+: \*\d+ proxy_connect: port 444 is not allowed\b/,
	'the line names the port');
like($lines[0], qr/, client: 127\.0\.0\.1, server: one, request: "CONNECT one:444 HTTP\/1\.1", host: "other:1"$/,
	'the line names the request');

# Leading zeros are no way around it, nor a limit to it.
is(outcome('one:00443'), '200 hello', 'leading zeros of a port that is allowed');
is(outcome('one:00444'), '403', 'leading zeros of a port that is not allowed');
is(outcome('away:' . port(8081)), '403', "the upstream's port is not the client's");

###############################################################################

# The status, and what the upstream says.
sub outcome {
	my ($authority) = @_;
	my $socket = client();

	my $status = status_of($socket->send(connect_request($authority))->read_header());
	$status .= ' ' . $socket->read_bytes(5) if $status eq 200;
	$socket->close();

	return $status;
}

###############################################################################
