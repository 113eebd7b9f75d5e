#!/usr/bin/perl

# "self" and "special" of proxy_connect_deny_address in a network that the test has for itself: addresses that come and
# go while nginx runs, and others that are somewhere else.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Network;

select STDERR; $| = 1;
select STDOUT; $| = 1;

own_network();

my $t = Test::Nginx->new()->has(qw/http/);
plan(skip_all => 'no IPv6') unless has_ipv6($t);
$t->plan(37);

my $port = port(8081);

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    resolver 127.0.0.1:%%PORT_8981_UDP%% ipv6=off;

    server {
        listen       %%PORT_8080%%;
        listen       [::]:%%PORT_8080%% ipv6only=on;
        server_name  special;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_deny_address special;
    }

    server {
        listen       127.0.0.1:8082;
        server_name  self;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_deny_address self;
    }

    # one's own network, and all that is not special
    server {
        listen       127.0.0.1:8083;
        server_name  own;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_allow_address 10.0.0.0/8;
        proxy_connect_deny_address special;
    }

    server {
        listen       127.0.0.1:8084;
        server_name  none;

        proxy_connect;
        proxy_connect_allow all;
    }
}

EOF

$t->write_file_expand('nginx.conf', ipv4_only($t, $conf));

name_server($t, 8981,
	'metadata.example' => '169.254.169.254',
	'mixed.example' => [ '169.254.169.254', '10.0.0.1', '8.8.8.8' ],
	'self.example' => [ '9.9.9.9', '8.8.8.8' ],
);

$t->run();

# Outside there is a world, a private network, and what a cloud has for its machines.
my @outside = ('8.8.8.8', '8.8.4.4', '10.0.0.1', '169.254.169.254', '100.100.100.200', '2606:4700::1',
	'64:ff9b::808:808', '64:ff9b::a00:1', '2002:a00:1::1', 'fd00:ec2::254');

my $outside = neighbour($t, map { $_ . (/:/ ? '/128' : '/32') } @outside);

in_network($outside, sub {
	upstream($t, greet('far'), /:/ ? "[$_]:$port" : "$_:$port") for @outside;
});

# What listens at any of this host's own addresses, whichever they will be.
upstream($t, greet('own'), "0.0.0.0:$port");

###############################################################################
# Somewhere else

is(outcome("8.8.8.8:$port"), '200 far', 'special: an address of the world');
is(outcome("[2606:4700::1]:$port"), '200 far', 'special: one of IPv6');
is(outcome("[64:ff9b::8.8.8.8]:$port"), '200 far', 'special: one of NAT64');
is(outcome("[::ffff:8.8.8.8]:$port"), '200 far', 'special: a mapped one');

is(outcome("169.254.169.254:$port"), '403', 'special: the metadata of a cloud');
is(outcome("100.100.100.200:$port"), '403', 'special: that of another');
is(outcome("[fd00:ec2::254]:$port"), '403', 'special: that of another with IPv6');
is(outcome("metadata.example:$port"), '403', 'special: by a name');
is(outcome("[::ffff:169.254.169.254]:$port"), '403', 'special: mapped');
is(outcome("10.0.0.1:$port"), '403', 'special: private');
is(outcome("[64:ff9b::10.0.0.1]:$port"), '403', 'special: private, by NAT64');
is(outcome("[2002:a00:1::1]:$port"), '403', 'special: private, by 6to4');
is(outcome("mixed.example:$port"), '200 far', 'special: the good address of a mixed answer');

is(outcome("10.0.0.1:$port", 8083), '200 far', 'own network: allowed');
is(outcome("169.254.169.254:$port", 8083), '403', 'own network: what is special is not');
is(outcome("8.8.8.8:$port", 8083), '200 far', 'own network: the world');

is(outcome("169.254.169.254:$port", 8084), '200 far', 'none: the metadata can be reached');
is(outcome("10.0.0.1:$port", 8082), '200 far', 'self: a private address elsewhere');
is(scalar(upstream_lines($t, qr/^169\.254\.169\.254:$port accepted/)), 1, 'nobody else reached the metadata');

###############################################################################
# Addresses that come and go

for my $server (8080, 8082) {
	is(outcome("9.9.9.9:$port", $server), '502', "$server: an address that nobody has");
}

add_address('9.9.9.9/32');

for my $server (8080, 8082) {
	is(outcome("9.9.9.9:$port", $server), '403', "$server: an address that came");
	is(outcome("[::ffff:9.9.9.9]:$port", $server), '403', "$server: mapped");
	is(outcome("[64:ff9b::9.9.9.9]:$port", $server), '403', "$server: by NAT64");
}

is(outcome('9.9.9.9:' . port(8080), 8080), '403', 'the proxy itself, by its new address');
is(outcome("self.example:$port", 8082), '200 far', 'a name with it, and another address');
is(outcome("9.9.9.9:$port", 8084), '200 own', 'none: it can be reached');

remove_address('9.9.9.9/32');
is(outcome("9.9.9.9:$port", 8082), '502', 'an address that went');

# A whole network that this host takes for its own.
ip_route('add', 'local', '9.9.8.0/24', 'dev', 'lo');
is(outcome("9.9.8.7:$port", 8084), '200 own', 'none: an address by a route can be reached');
is(outcome("9.9.8.7:$port", 8082), '403', 'an address by a route');
ip_route('del', 'local', '9.9.8.0/24', 'dev', 'lo');

add_address('2606:4700::9/128');
is(outcome("[2606:4700::9]:$port", 8082), '403', 'an address of IPv6 that came');

# What is private here is this host's, too.
is(outcome("198.51.100.1:$port", 8082), '403', 'the address of an interface');
is(outcome("198.51.100.2:$port", 8082), '502', 'its neighbour has none that listens');

log_mark($t);
outcome("198.51.100.1:$port", 8082);
like((log_lines($t, qr/proxy_connect: /))[0],
	qr/the address 198\.51\.100\.1:$port is denied by "proxy_connect_deny_address self"/, 'in the log');

###############################################################################

sub ip_route {
	system('ip', 'route', @_) == 0 or die "ip route @_ failed\n";
}

# The status, and what the upstream says.
sub outcome {
	my ($authority, $number) = @_;
	my $socket = client(port => port($number // 8080));

	my $status = status_of($socket->send(connect_request($authority))->read_header());
	$status .= ' ' . $socket->read_bytes(3) if $status eq 200;
	$socket->close();

	return $status;
}

###############################################################################
