#!/usr/bin/perl

# proxy_connect_prefer: which family of addresses is tried first, and which is not tried at all.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Servers;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http unix/);
plan(skip_all => 'no IPv6') unless has_ipv6($t) && asks_for_ipv6($t);

my %servers = (
	plain => '',
	ipv6 => 'proxy_connect_prefer ipv6;',
	ipv4 => 'proxy_connect_prefer ipv4;',
	ipv6_only => 'proxy_connect_prefer ipv6_only;',
	ipv4_only => 'proxy_connect_prefer ipv4_only;',
	off => 'proxy_connect_prefer off;',
	address => 'proxy_connect_prefer ipv4_only; proxy_connect_address $http_to;',
	socket => 'proxy_connect_prefer ipv6_only; proxy_connect_address unix:%%TESTDIR%%/upstream.sock;',
);

my $blocks = server_blocks(%servers);

my $conf = <<'EOC';

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    resolver          127.0.0.1:%%PORT_8981_UDP%%;
    resolver_timeout  1s;

    log_format  ends  "$status $proxy_connect_error $connect_addr";
    access_log  %%TESTDIR%%/ends.log ends;

    proxy_connect_connect_timeout  2s;
    proxy_connect_prefer           ipv4;

    SERVERS
}

EOC

$t->write_file_expand('nginx.conf', $conf =~ s/^ *SERVERS\n/$blocks/mr);

name_server($t, 8981,
	'both.example' => [ '127.0.0.1', '::1' ],
	'six.example' => [ '::1' ],
	'four.example' => [ '127.0.0.1' ],
	'many.example' => [ '127.0.0.2', '127.0.0.3', '127.0.0.4', '::1' ],
);

$t->plan(56);
$t->run();

my $port = port(8081);
my $tell = sub { $_[0]->send($_[0]->handle()->sockhost() . '.') };
upstream($t, $tell, $_) for $port, "[::1]:$port";
upstream($t, sub { $_[0]->send('unix.') }, 'unix:' . $t->testdir() . '/upstream.sock');

###############################################################################
# The order: each name more than once, because a resolver gives its addresses in any order

for (1 .. 4) {
	is(reached('ipv6', "both.example:$port"), '::1', 'ipv6: of a name with both');
	is(reached('ipv4', "both.example:$port"), '127.0.0.1', 'ipv4: of a name with both');
	is(reached('ipv6_only', "both.example:$port"), '::1', 'ipv6_only: of a name with both');
	is(reached('ipv4_only', "both.example:$port"), '127.0.0.1', 'ipv4_only: of a name with both');
	is(reached('plain', "both.example:$port"), '127.0.0.1', 'http says it for all');
	is(reached('ipv6', "many.example:$port"), '::1', 'ipv6: one of many');
}

like(reached('off', "both.example:$port"), qr/^(::1|127\.0\.0\.1)$/, 'off: either');

# The other family follows.
is(reached('ipv6', "four.example:$port"), '127.0.0.1', 'ipv6: a name with IPv4 alone');
is(reached('ipv4', "six.example:$port"), '::1', 'ipv4: a name with IPv6 alone');
is(reached('ipv4', "[::1]:$port"), '::1', 'ipv4: an address of IPv6');
is(reached('ipv6', "127.0.0.1:$port"), '127.0.0.1', 'ipv6: an address of IPv4');

{
	upstream($t, $tell, '127.0.0.1:' . port(8082));
	upstream($t, $tell, '[::1]:' . port(8083));
	is(reached('ipv6', 'both.example:' . port(8082)), '127.0.0.1', 'ipv6: where it refuses, IPv4');
	is(reached('ipv4', 'both.example:' . port(8083)), '::1', 'ipv4: where it refuses, IPv6');
}

{
	my $queue = full_backlog('[::1]:' . port(8084));
	upstream($t, $tell, '127.0.0.1:' . port(8084));
	is(reached('ipv6', 'both.example:' . port(8084)), '127.0.0.1', 'ipv6: where it shows nothing, IPv4');
	is(reached('ipv6_only', 'both.example:' . port(8084)), '504', 'ipv6_only: and nothing else');
}

is(reached('ipv6_only', 'both.example:' . port(8082)), '502', 'ipv6_only: where it refuses, nothing');
is(reached('ipv4_only', 'both.example:' . port(8083)), '502', 'ipv4_only: where it refuses, nothing');

###############################################################################
# Nothing is left

for (
	[ 'ipv6_only', "four.example:$port", 'four.example' ],
	[ 'ipv4_only', "six.example:$port", 'six.example' ],
	[ 'ipv6_only', "127.0.0.1:$port", "127.0.0.1:$port" ],
	[ 'ipv4_only', "[::1]:$port", "[::1]:$port" ],
) {
	my ($server, $authority, $shown) = @$_;

	log_mark($t);
	log_mark($t, 'ends.log');
	is(reached($server, $authority), '502', "$server: $authority");
	wait_for_line($t, qr/^502 destination_ip_unroutable -$/, 'ends.log');
	pass("$server: $authority: the reason");

	my @lines = log_lines($t, qr/proxy_connect: /);
	is(@lines, 1, "$server: $authority: one line");
	like($lines[0], qr/\[error\] .* proxy_connect: \Q$shown\E has no address that "proxy_connect_prefer $server" admits/,
		"$server: $authority: what it says");
}

###############################################################################
# What the operator names

is(reached('address', 'some.example:1', "To: 127.0.0.1:$port"), '127.0.0.1', 'an address of the operator');
is(reached('address', 'some.example:1', "To: both.example:$port"), '127.0.0.1', 'a name of the operator');
is(reached('address', 'some.example:1', "To: [::1]:$port"), '502', 'an address of the other family');
is(reached('socket', 'some.example:1'), 'unix', 'a unix socket has no family');

is(scalar(log_lines($t, qr/\[(?:alert|emerg)\]/)), 0, 'no alert');

###############################################################################

# Where a CONNECT came to, or its status.
sub reached {
	my ($server, $authority, @fields) = @_;
	my $client = client(port => server_port($server));

	$client->send(connect_request($authority, @fields));
	my $status = status_of($client->read_header());
	return $status unless $status eq 200;

	my $told = $client->read_to_end();
	$client->close();
	return $told =~ s/\.$//r;
}

###############################################################################
