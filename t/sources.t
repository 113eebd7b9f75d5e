#!/usr/bin/perl

# proxy_connect_bind with several addresses: which of them an upstream sees, in a network that the test has for itself.

use warnings;
use strict;

use List::Util qw/ uniq /;
use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Check;
use Test::ProxyConnect::Network;
use Test::ProxyConnect::Servers;

select STDERR; $| = 1;
select STDOUT; $| = 1;

own_network();

my $t = Test::Nginx->new()->has(qw/http/);
plan(skip_all => 'no IPv6') unless has_ipv6($t);

my %servers = (
	turn => 'proxy_connect_bind 127.0.1.1 127.0.1.2 127.0.1.3;',
	network => 'proxy_connect_bind 127.0.2.0/30 127.0.2.9 round_robin;',
	pair => 'proxy_connect_bind 127.0.3.4/31;',
	any => 'proxy_connect_bind 127.0.4.0/28 random;',
	key => 'proxy_connect_bind 127.0.5.0/24 2001:db8:1::/64 hash=$http_key freebind;',
	few => 'proxy_connect_bind 127.0.6.1 127.0.6.2 127.0.6.3 hash=$http_key;',
	both => 'proxy_connect_bind 127.0.7.1 2001:db8::1 127.0.7.2 2001:db8::2;',
	four => 'proxy_connect_bind 127.0.8.1 127.0.8.2;',
	six => 'proxy_connect_bind 2001:db8::1 2001:db8::2;',
	asked => 'proxy_connect_bind $http_a $http_b;',
	gone => 'proxy_connect_bind 192.0.2.1 127.0.9.1;',
	lost => 'proxy_connect_bind 192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4 192.0.2.5;',
	fixed => 'proxy_connect_bind 192.0.2.1 192.0.2.2 hash=a;',
	stuck => 'proxy_connect_bind 127.0.10.1 127.0.10.2; proxy_connect_connect_timeout 1s;',
	ports => 'proxy_connect_bind 127.0.11.1:%%PORT_8201%% 127.0.11.2:%%PORT_8201%%;',
	bound => 'proxy_connect_bind 2001:db8:1::/64;',
	free => 'proxy_connect_bind 2001:db8:1::/64 random freebind;',
	unfree => 'proxy_connect_bind 192.0.2.1 freebind;',
	clear => 'proxy_connect_bind 127.0.12.1 127.0.12.2 freebind transparent;',
	http => '',
	off => 'proxy_connect_bind off;',
);

my $transparent = $t->has_version('1.11.0') && $> == 0;
delete $servers{clear} unless $transparent;

my $blocks = server_blocks(%servers);

my $conf = <<'EOC';

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
    METHOD
}

http {
    %%TEST_GLOBALS_HTTP%%

    resolver          127.0.0.1:%%PORT_8981_UDP%%;
    resolver_timeout  1s;

    proxy_connect_bind  127.0.13.1 127.0.13.2;

    SERVERS
}

EOC

$conf =~ s/^ *SERVERS\n/$blocks/m;
$t->write_file_expand('nginx.conf', $conf =~ s/METHOD//r);

add_address($_) for '2001:db8::1/128', '2001:db8::2/128';
system('ip', '-6', 'route', 'add', 'local', '2001:db8:1::/64', 'dev', 'lo') == 0 or die "no route\n";

name_server($t, 8981, 'stuck.example' => [ '127.0.0.1', '127.0.0.3' ]);

# Where nginx logs unless told.
mkdir $t->testdir() . '/logs';

$t->plan(76);
$t->run();

my $tell = sub { $_[0]->send($_[0]->peer() . '.') };
my $upstream = upstream($t, $tell, port(8081));
my $upstream6 = upstream($t, $tell, '[::1]:' . port(8081));

###############################################################################
# In turn

is_deeply([ row('turn', 7) ], [ map { "127.0.1.$_" } 1, 2, 3, 1, 2, 3, 1 ], 'addresses in turn');
is_deeply([ row('network', 4) ], [ map { "127.0.2.$_" } 1, 2, 9, 1 ], 'a network is its hosts');
is_deeply([ row('pair', 3) ], [ map { "127.0.3.$_" } 4, 5, 4 ], 'a network of two');

# The servers that have it from http share its turns.
is_deeply([ row('http', 3) ], [ map { "127.0.13.$_" } 1, 2, 1 ], 'of http');
is_deeply([ row('off', 1) ], [ '127.0.0.1' ], 'off');

is(whole('ports'), '127.0.11.1:' . port(8201), 'addresses with a port: the first');
is(whole('ports'), '127.0.11.2:' . port(8201), 'addresses with a port: the second');

###############################################################################
# At random

my @seen = row('any', 60);
is_deeply([ grep { !/^127\.0\.4\.([1-9]|1[0-4])$/ } @seen ], [], 'random: only hosts');
cmp_ok(uniq(@seen), '>', 7, 'random: many of them');
isnt(join(' ', @seen[0 .. 29]), join(' ', @seen[30 .. 59]), 'random: no turns');

###############################################################################
# By a key

my %of = map { $_ => seen('key', key($_)) } qw/ alice bob carol dave eve /;
like($_, qr/^127\.0\.5\.\d+$/, 'a key: of the network') for values %of;
cmp_ok(uniq(values %of), '>', 2, 'keys have addresses of their own');
is(seen('key', key($_)), $of{$_}, "the key $_ keeps its address") for sort keys %of;
like(seen('key'), qr/^127\.0\.5\.\d+$/, 'an empty key');

my %of6 = map { $_ => seen6('key', key($_)) } qw/ alice bob /;
like($of6{$_}, qr/^2001:db8:1:0?:/, "$_: an address of IPv6") for sort keys %of6;
isnt($of6{alice}, $of6{bob}, 'keys have addresses of IPv6 of their own');

# So it does in another worker.
is(uniq(map { seen('few', key($_)) } 1 .. 30), 3, 'few addresses: each is somebody\'s');
my $few = seen('few', key('alice'));

renew($t);
is(seen('few', key('alice')), $few, 'few addresses: the same in another worker');
is(seen('key', key('alice')), $of{alice}, 'a network: the same in another worker');
is(seen6('key', key('alice')), $of6{alice}, 'a network of IPv6: the same in another worker');

###############################################################################
# Two families

is(seen('both'), '127.0.7.1', 'both: IPv4');
is(seen6('both'), '2001:db8::1', 'both: IPv6');
is(seen6('both'), '2001:db8::2', 'both: IPv6 has its own turns');
is(seen('both'), '127.0.7.2', 'both: and so has IPv4');

for ([ 'four', $upstream6 ], [ 'six', $upstream ], [ 'bound', $upstream ]) {
	my ($server, $to) = @$_;
	log_mark($t);
	is(asked($server, $to), '502', "$server: nothing of the other family");
	is_logged($t, "upstream connect failed (peer:$to), it can't be reached from any address of \"proxy_connect_bind\"");
}

###############################################################################
# Variables

is(seen('asked', 'A: 127.0.14.1'), '127.0.14.1', 'variables: one');
is(seen('asked', 'B: 127.0.14.2'), '127.0.14.2', 'variables: the other');
is_deeply([ sort map { seen('asked', 'A: 127.0.14.1', 'B: 127.0.14.2') } 1, 2 ], [ '127.0.14.1', '127.0.14.2' ],
	'variables: both');
like(seen('asked', 'A: 127.0.15.0/30'), qr/^127\.0\.15\.[12]$/, 'variables: a network');
is(seen('asked', 'A: 127.0.15.7/32', 'B: 2001:db8::1'), '127.0.15.7', 'variables: one of each family, IPv4');
is(seen6('asked', 'A: 127.0.15.7/32', 'B: 2001:db8::1'), '2001:db8::1', 'variables: one of each family, IPv6');
is(seen('asked'), '127.0.0.1', 'variables: none');

for my $garbage ('127.0.0.0/33', '127.0.0.0/', 'random', '127.0.0.1 127.0.0.2', 'off') {
	log_mark($t);
	is(asked('asked', $upstream, 'A: 127.0.14.1', "B: $garbage"), '502', "variables: $garbage");
	is_logged($t, "invalid address \"$garbage\" in \"proxy_connect_bind\"");
}

###############################################################################
# Addresses that can't be had

log_mark($t);
is(seen('gone'), '127.0.9.1', 'an address that is not there is left out');
like((log_lines($t, qr/proxy_connect: /))[0], qr/\[warn\] .* proxy_connect: \Q$upstream\E can't be reached from 192\.0\.2\.1:0, another address is tried \(99: /,
	'and the log is told');

log_mark($t);
is(asked('lost', $upstream), '502', 'addresses that are not there');
is(log_lines($t, qr/another address is tried/), 3, 'not all of them are tried');
is(log_lines($t, qr/\[error\] .*upstream connect failed .*\(99: /), 1, 'one line tells of the failure');

log_mark($t);
is(asked('fixed', $upstream), '502', 'the address of a key that is not there');
is(log_lines($t, qr/another address is tried/), 0, 'no key gets another address');

# Each attempt has its turn.
{
	my @queues = map { full_backlog("$_:" . port(8089)) } '127.0.0.1', '127.0.0.3';
	my $client = client(port => server_port('stuck'));
	$client->send(connect_request('stuck.example:' . port(8089)));
	wait_until('Both addresses are not seen', sub { knocking(port(8089)) == 2 });
	pass('side by side from different addresses');
	is(status_of($client->read_header()), '504', 'and no connection');
}

###############################################################################
# Addresses that are not there yet

log_mark($t);
is(asked('bound', $upstream6), '502', 'a network that is only routed here');
like((log_lines($t, qr/\[error\].* proxy_connect: /))[0], qr/\(99: /, 'can\'t be bound to');

@seen = row('free', 4, $upstream6);
is_deeply([ grep { !/^2001:db8:1:/ } @seen ], [], 'freebind: of the network');
is(uniq(@seen), 4, 'freebind: any address');
is(asked('unfree', $upstream), '502', 'freebind: IPv4 can be bound to, but nobody gets there');

SKIP: {
	skip 'no "transparent" before nginx 1.11.0, or not as another user', 1 unless $transparent;
	is_deeply([ row('clear', 2) ], [ '127.0.12.1', '127.0.12.2' ], 'freebind and transparent');
}

###############################################################################
# Left to the warnings of a start

like((check($t, 'proxy_connect_bind 127.0.0.7/24'))[0],
	qr!\[warn\] .*"127\.0\.0\.7/24" in the "proxy_connect_bind" directive has low bits set, it is read as 127\.0\.0\.0/24 in!,
	'low bits');
is_fine((check($t, 'proxy_connect_bind 127.0.0.0/24 ::/0 random'))[0], 'no low bits');

my $worker = worker_pid($t);
my $fds = steady_fds($worker);
asked($_, $upstream) for ('lost', 'gone', 'fixed', 'unfree') x 5;
cmp_ok(settled_fds($worker, $fds), '<=', $fds, 'failures leave nothing open');

# A method that takes no whole connections, as epoll does.
SKIP: {
	skip 'no poll', 2 unless $t->has_module('poll_module');

	$t->stop();
	$t->write_file_expand('nginx.conf', $conf =~ s/METHOD/use poll;/r);
	$t->run();

	@seen = row('free', 4, $upstream6);
	is(uniq(grep { /^2001:db8:1:/ } @seen), 4, 'poll: freebind');
	is(asked('unfree', $upstream), '502', 'poll: a connect that fails');
}

###############################################################################

# Whom the upstream sees, with its port, or the status.
sub asked {
	my ($server, $authority, @fields) = @_;
	my $socket = client(port => server_port($server));

	$socket->send(connect_request($authority, @fields));
	my $status = status_of($socket->read_header());
	return $status unless $status eq 200;

	my $peer = $socket->read_to_end();
	$socket->close();
	return $peer =~ s/\.$//r =~ s/^\[?(.*?)\]?:\d+$/$1/r;
}

sub whole {
	my ($server) = @_;
	my $socket = tunnel($upstream, port => server_port($server));
	return $socket->read_to_end() =~ s/\.$//r;
}

sub seen {
	my ($server, @fields) = @_;
	return asked($server, $upstream, @fields);
}

sub seen6 {
	my ($server, @fields) = @_;
	return asked($server, $upstream6, @fields);
}

sub row {
	my ($server, $count, $to) = @_;
	return map { asked($server, $to // $upstream) } 1 .. $count;
}

sub key {
	my ($key) = @_;
	return "Key: $key";
}

# From how many addresses of 127.0.10.0/24 a port is knocked at just now.
sub knocking {
	my ($port) = @_;
	my $remote = sprintf '%04X', $port;

	open my $tcp, '<', '/proc/net/tcp' or die "Can't read /proc/net/tcp: $!\n";
	return scalar uniq(map { /^\s*\d+: (\w\w0A007F):\w+ \w+:$remote 02 / ? $1 : () } <$tcp>);
}

# A line of ours with these words.
sub is_logged {
	my ($t, $words) = @_;
	my @lines = log_lines($t, qr/\[error\].* proxy_connect: /);

	return ok(@lines == 1 && index($lines[0], "proxy_connect: $words") > 0, "in the log: $words")
		|| diag(join "\n", @lines);
}

###############################################################################
