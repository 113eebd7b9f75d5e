#!/usr/bin/perl

# A rate that all tunnels of a key share, over all workers: what each gets, who else is slowed down, what outlives
# a reload and a worker that is killed, and a zone that is full.

use warnings;
use strict;

use Test::More;
use Time::HiRes qw/ time /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Status;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant { KB => 1024, MB => 2 ** 20 };

# How late anything may be on a machine that has other things to do, in seconds, and what tunnels may be ahead of
# their rate.
use constant { LATE => 1.5 * SLOWNESS, AHEAD => 0.1 };

my $t = Test::Nginx->new()->has(qw/http/)->todo_alerts();

$t->plan(33)->write_file_expand('nginx.conf', quietly($t, <<'EOF', 'info'));

%%TEST_GLOBALS%%

daemon off;
worker_processes 2;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  ends  "$pid $proxy_connect_close_reason $proxy_connect_bytes_sent $proxy_connect_bytes_received";
    access_log  %%TESTDIR%%/ends.log ends;

    proxy_connect_rate_zone  $http_user  zone=users:1m  download=1m upload=1m;

    server {
        # Each worker has a queue of its own, so that none gets all.
        listen       127.0.0.1:8080 reuseport;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
    }

    # the same zone, and one more
    server {
        listen       127.0.0.1:8081;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        proxy_connect_rate_zone  $http_user   zone=users   download=1m upload=1m;
        proxy_connect_rate_zone  $http_group  zone=groups  download=500k;
    }

    # as small as they come
    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        proxy_connect_rate_zone  $http_group  zone=groups:32k upload=1;

        proxy_connect_status_zone  main;

        # At a byte a second one that both sides have left is still read for long.
        proxy_connect_tunnel_time  10s;

        location = /status { proxy_connect_status; }
    }
}

EOF

$t->run();
wait_for_workers($t, 2);

my $listener = listener(port(8090));

my ($client, $upstream, $begin);

###############################################################################
# Shares

# Tunnels of one key, over both workers.
log_mark($t, 'ends.log');
my @tunnels = map { [ (pair($listener, fields => [ 'User: one' ]))[0, 1] ] } 1 .. 20;
my @got = share(2, @tunnels);
my $total = sum(@got);
cmp_ok($total, '>', 1.5 * MB, 'a key: in two seconds it gets so much');
cmp_ok($total, '<', (2 + AHEAD + LATE) * MB, 'a key: and no more');
cmp_ok($_, '>', 0.6 * $total / @got, 'a key: each its share') for (sort { $a <=> $b } @got)[0];
cmp_ok($_, '<', 1.6 * $total / @got, 'a key: and no more') for (sort { $b <=> $a } @got)[0];
$_->close() for map { @$_ } @tunnels;
my %workers = map { (split ' ')[0] => 1 } access_lines($t, 20, 'ends.log');
is(scalar keys %workers, 2, 'a key: over all workers');

# One tunnel alone has it all, and is not slowed down by those of other keys, or by those without one.
@tunnels = map { [ (pair($listener, fields => [ "User: $_" ]))[0, 1] ] } qw/ two three /;
push @tunnels, [ (pair($listener, fields => [ 'User: three' ]))[0, 1] ];
@got = share(1, @tunnels);
cmp_ok($_, '>', 0.7 * MB, 'a tunnel alone') for $got[0];
cmp_ok($_, '>', 0.3 * MB, 'and two that share') for @got[1, 2];
cmp_ok($_, '<', (1 + AHEAD + LATE) * MB, 'and no more') for $got[0], $got[1] + $got[2];
$_->close() for map { @$_ } @tunnels;

for my $fields ([ ], [ 'User:' ]) {
	($client, $upstream) = pair($listener, fields => $fields);
	$begin = time();
	is_deeply([ map { length } cross($client, $upstream, noise(4 * MB), noise(4 * MB)) ], [ 4 * MB, 4 * MB ],
		"no key: @$fields");
	cmp_ok(time() - $begin, '<', 1 + LATE, "no key: @$fields: as fast as can be");
	$_->close() for $client, $upstream;
}

# Up is not down.
my ($up, $down) = map { [ (pair($listener, fields => [ 'User: four' ]))[0, 1] ] } 1, 2;
$begin = time();
is_deeply([ map { length } cross(@$up, noise(MB), ''), cross(@$down, '', noise(MB)) ], [ MB, 0, 0, MB ],
	'one up, one down');
cmp_ok(time() - $begin, '>', 2 * (1 - AHEAD) - 0.05, 'at its rate');
$_->close() for @$up, @$down;

# The lower one of two rates holds.
($client, $upstream) = pair($listener, port => port(8081), fields => [ 'User: five', 'Group: all' ]);
$begin = time();
is(length((cross($client, $upstream, '', noise(500 * KB)))[1]), 500 * KB, 'two zones');
cmp_ok(time() - $begin, '>', 1 - AHEAD - 0.05, 'two zones: the lower rate');
$_->close() for $client, $upstream;

# Several messages to and fro are not slowed down.
($client, $upstream) = pair($listener, fields => [ 'User: six' ]);
$begin = time();
for (1 .. 300) {
	$client->send('x' x 100);
	$upstream->read_bytes(100);
	$upstream->send('y' x 100);
	$client->read_bytes(100);
}
cmp_ok(time() - $begin, '<', 1 + LATE, 'small messages');
$_->close() for $client, $upstream;

###############################################################################
# What outlives what

# What a key has taken too much is not forgotten when its tunnel ends, nor by a reload.
for my $what ('a tunnel that ends', 'a reload') {
	my $user = $what =~ s/ /-/gr;
	# The bytes behind the CONNECT are read at once, and count.
	($client, $upstream) = pair($listener, port => port(8082), fields => [ "Group: $user" ], early => '123');
	is($upstream->read_bytes(3), '123', "$what: too much");
	$_->reset() for $client, $upstream;
	renew($t) if $what eq 'a reload';

	$begin = time();
	($client, $upstream) = pair($listener, port => port(8082), fields => [ "Group: $user" ]);
	$client->send('4');
	is($upstream->read_bytes(1), '4', "$what: the next byte");
	cmp_ok(time() - $begin, '>', 0.3, "$what: has to wait") if $what eq 'a tunnel that ends';
	$_->reset() for $client, $upstream;
}

# A worker that is killed takes its tunnels along, and nothing from the others.
wait_for_workers($t, 2);
@tunnels = map { [ (pair($listener, fields => [ 'User: seven' ]))[0, 1] ] } 1 .. 8;
share(0.5, @tunnels);
my @before = worker_pids($t);
kill 'KILL', @before;
wait_until('no new workers', sub {
	my %now = map { $_ => 1 } worker_pids($t);
	return keys %now == 2 && !grep { $now{$_} } @before;
});
$_->close() for map { @$_ } @tunnels;
($client, $upstream) = pair($listener, fields => [ 'User: seven' ]);
$begin = time();
is(length((cross($client, $upstream, '', noise(MB)))[1]), MB, 'after workers were killed');
cmp_ok(time() - $begin, '>', 1 - AHEAD - 0.05, 'after workers were killed: at its rate');
cmp_ok(time() - $begin, '<', 1 + LATE, 'after workers were killed: and no less');
$_->reset() for $client, $upstream;

###############################################################################
# A zone that is full

# Each key has taken more than it may for a while, until one finds no place: there are less than 32k / 24.
my $key = 0;
until (log_lines($t, qr/no place for a key/) || $key == 32 * KB / 24) {
	$key++;
	my $client = knock($listener, port => port(8082), fields => [ "Group: $key" ], early => 'x' x 300);
	my $upstream = accept_end($listener);
	$upstream->read_bytes(300);
	$_->reset() for $client, $upstream;
}

cmp_ok($key, '>', 500, 'a zone that is full');
($client, $upstream) = pair($listener, port => port(8082), fields => [ "Group: $key" ], early => 'x' x 300);
is(length((cross($client, $upstream, noise(10 * KB), 'back'))[1]), 4, 'a zone that is full: the tunnel stands');
$_->reset() for $client, $upstream;
cmp_ok(counts('main', undef, port => port(8082))->{rate_zone_full}, '>', 0, 'a zone that is full: counted');
my $full = () = log_lines($t, qr/no place for a key/);
cmp_ok($full, '<=', 2, 'a zone that is full: a line a minute, from each worker');
like((log_lines($t, qr/no place for a key/))[0],
	qr/\[error\] \S+ \*\d+ proxy_connect: no place for a key in a zone of "proxy_connect_rate_zone", its tunnel goes without that rate for now: make the zone larger while /,
	'a zone that is full: the log');

is_deeply([ grep { !/exited on signal 9/ } log_lines($t, qr/\[(alert|emerg|crit)\]/) ], [],
	'no alerts but of those that were killed');

###############################################################################

sub sum {
	my $sum = 0;
	$sum += $_ for @_;
	return $sum;
}

# Lets the upstreams of tunnels send as much as is taken, for so many seconds from now. How much each client got.
sub share {
	my ($seconds, @tunnels) = @_;
	my $end = time() + $seconds;
	my $bytes = noise(256 * KB);
	my @got = (0) x @tunnels;

	while ((my $left = $end - time()) > 0) {
		my $bits = '';

		for my $tunnel (@tunnels) {
			my ($client, $upstream) = @$tunnel;
			$upstream->handle()->syswrite($bytes);
			vec($bits, fileno $client->handle(), 1) = 1;
		}

		select $bits, undef, undef, $left < 0.05 ? $left : 0.05;
		$got[$_] += $tunnels[$_][0]->handle()->sysread(my $read, MB) // 0 for 0 .. $#tunnels;
	}

	return @got;
}

###############################################################################
