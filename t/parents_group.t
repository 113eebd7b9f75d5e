#!/usr/bin/perl

# Tunnels through one of several parents: who is chosen, who is tried next, and what the balancers of nginx learn of it.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Parent;
use Test::ProxyConnect::Servers;
use Test::ProxyConnect::Tunnel;
use Test::ProxyConnect::Wait qw/ wait_until SLOWNESS SHARE /;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant CRLF => "\x0d\x0a";
use constant MANY => 1000 * SHARE;

# nginx tells of a connection that it doesn't have with an alert.
my $t = Test::Nginx->new()->has(qw/http rewrite upstream_least_conn/)
	->todo_alerts();

# The parents, and what each of them does. The ports are numbers of the harness.
my %number = (
	a => 8201, b => 8202, c => 8203, denied => 8204, bad => 8205, busy => 8206, late => 8207, asks => 8208,
	closes => 8209, garbage => 8210, mute => 8211, dead => 8212, victim => 8213, backup => 8214, raw => 8215, web => 8216,
);

my %does = (
	(map { ($_ => answers($t, OPEN)) } qw/ a b c backup victim /),
	denied  => answers($t, 'HTTP/1.1 403 No' . CRLF . CRLF),
	bad     => answers($t, 'HTTP/1.1 502 No' . CRLF . CRLF),
	busy    => answers($t, 'HTTP/1.1 503 No' . CRLF . CRLF),
	late    => answers($t, 'HTTP/1.1 504 No' . CRLF . CRLF),
	asks    => answers($t, 'HTTP/1.1 407 No' . CRLF . CRLF),
	closes  => answers($t, 'HTTP/1.1 20', closes => 1),
	garbage => answers($t, "garbage\x0d\x0a"),
	mute    => answers($t, '', then => sub { $_[0]->read_to_end() }),
	raw     => echo(),
	web     => \&answer_both,
);

# A server of both: requests on a connection that is kept, and a CONNECT.
sub answer_both {
	my ($socket) = @_;

	while (my $request = $socket->read_header()) {
		return $socket->send(OPEN), echo()->($socket) if $request =~ /^CONNECT/;
		$socket->send("HTTP/1.1 200 OK\x0d\x0aContent-Length: 2\x0d\x0a\x0d\x0aok");
	}
}

# Groups, each with its servers and what else stands in it.
my %group = (
	rr      => [ '', 'a', 'b', 'c' ],
	weights => [ '', 'a weight=3', 'b' ],
	least   => [ 'least_conn;', 'a', 'b' ],
	hash    => [ 'hash $connect_host;', 'a', 'b', 'c' ],
	full    => [ 'zone full 64k;', 'a max_conns=1', 'b max_conns=1' ],
	one     => [ 'zone one 64k;', 'a max_conns=1' ],
	spare   => [ '', 'dead', 'backup backup' ],
	off     => [ '', 'dead down', 'a' ],
	fails   => [ '', 'closes max_fails=1 fail_timeout=60s', 'a' ],
	refused => [ '', 'denied max_fails=1 fail_timeout=60s', 'a' ],
	dead    => [ '', 'dead', 'dead' ],
	killed  => [ '', 'a', 'b', 'victim max_fails=1000000' ],
	raw     => [ '', 'dead', 'raw' ],
	kept    => [ 'keepalive 8;', 'web' ],
	(map { ("then_$_" => [ '', "$_ max_fails=0", 'a' ]) } qw/ denied bad busy late asks closes garbage mute dead /),
	three   => [ '', 'closes max_fails=0', 'garbage max_fails=0', 'a' ],
);

# max_conns came with 1.11.5, the hash with 1.7.2.
my $counts = $t->has_version('1.11.5') && $t->has_module('upstream_zone');
my $hashes = $t->has_version('1.7.2') && $t->has_module('upstream_hash');

delete @group{qw/ full one /} unless $counts;
delete $group{hash} unless $hashes;

my %servers;

for my $name (keys %group) {
	$servers{$name} = $name eq 'raw' ? "proxy_connect_address group_$name;"
		: "proxy_connect_pass http://group_$name;";
}

my %condition = (denied => 'denied', bad => 'http_502', busy => 'http_503', late => 'http_504', asks => 'http_407',
	closes => 'error', garbage => 'error', dead => 'error', mute => 'timeout');

for my $name (keys %condition) {
	$servers{"on_$name"} = "proxy_connect_pass group_then_$name; proxy_connect_next_upstream $condition{$name};"
		. ' proxy_connect_connect_timeout 300ms;';
	$servers{"off_$name"} = "proxy_connect_pass group_then_$name; proxy_connect_next_upstream off;"
		. ' proxy_connect_connect_timeout 300ms;';
}

delete $servers{$_} for grep { /^then_/ } keys %servers;
$servers{refused} .= ' proxy_connect_next_upstream error denied;';
$servers{tries} = 'proxy_connect_pass group_three; proxy_connect_next_upstream_tries 2;';
$servers{time} = 'proxy_connect_pass group_then_mute; proxy_connect_connect_timeout 300ms;'
	. ' proxy_connect_next_upstream_timeout 200ms;';
$servers{variable} = 'proxy_connect_pass $http_parent;';
$servers{raw_variable} = 'proxy_connect_address $http_to;';
$servers{socks} = 'proxy_connect_pass socks5://group_raw;';

my $groups = join '', map {
	my ($name, ($options, @servers)) = ($_, @{$group{$_}});
	my $list = join ' ', map { my ($parent, $rest) = /^(\w+)(.*)/; "server 127.0.0.1:%%PORT_$number{$parent}%%$rest;" }
		@servers;
	"    upstream group_$name { $options $list }\n";
} sort keys %group;

my $conf = <<'EOF2';
%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  ends  "$server_name $status $proxy_connect_parent|$upstream_addr|$upstream_status|"
                      "$upstream_response_time|$upstream_bytes_received|$proxy_connect_error";
    access_log  %%TESTDIR%%/ends.log ends;

    GROUPS

    SERVERS

    server {
        listen       127.0.0.1:8080;
        server_name  loop;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_deny_address self;
        proxy_connect_pass http://127.0.0.1:8080;
    }

    server {
        listen       127.0.0.1:8081;
        server_name  tower;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_pass http://127.0.0.1:8081;
    }

    server {
        listen       127.0.0.1:8082;
        server_name  plain;

        location / {
            proxy_pass          http://group_kept;
            proxy_http_version  1.1;
            proxy_set_header    Connection "";
        }
    }
}
EOF2

my $blocks = server_blocks(%servers);
$conf =~ s/GROUPS/$groups/;
$conf =~ s/SERVERS/$blocks/;
$conf =~ s/events \{/events {\n    worker_connections 600;/;

my %port = map { ($_ => port($number{$_})) } keys %number;

$t->plan(4 * keys(%condition) + 43);
$t->write_file_expand('nginx.conf', told_of($t, $conf));
upstream($t, $does{$_}, $port{$_}) for grep { $_ ne 'victim' } keys %does;
$t->run();

my $worker = lone_worker($t);
my $before = steady_fds($worker);
my @tunnels;

# The parent that a tunnel goes through, which stands until it is closed.
sub opens {
	my ($server, $authority, @fields) = @_;
	my $client = start($server, undef, $authority // 'a.example:443', @fields);
	my $status = status_of($client->read_header());
	push @tunnels, $client;
	return $status;
}

sub close_tunnels {
	for my $client (splice @tunnels) {
		$client->half_close();
		$client->read_to_end();
		$client->close();
	}
}

sub counts {
	my ($t) = @_;
	return map { my $name = $_; scalar(my @asked = asked($t, $port{$name})) } @_[1 .. $#_];
}

# What tunnels through a server are asked of parents more than before.
sub grown {
	my ($t, $parents, $work) = @_;
	my @before = counts($t, @$parents);
	$work->();
	my @after = counts($t, @$parents);
	return [ map { $after[$_] - $before[$_] } keys @after ];
}

sub end_of {
	my ($t, $server) = @_;
	return wait_until("no line of $server", sub { (log_lines($t, qr/^$server /, 'ends.log'))[-1] });
}

###############################################################################
# Balancers

is_deeply(grown($t, [qw/ a b c /], sub { opens('rr') for 1 .. 9 }), [ 3, 3, 3 ], 'round robin');
close_tunnels();
is_deeply(grown($t, [qw/ a b /], sub { opens('weights') for 1 .. 8 }), [ 6, 2 ], 'weights');
close_tunnels();

SKIP: {
	skip 'no hash', 1 unless $hashes;
	is_deeply([ sort { $a <=> $b } @{grown($t, [qw/ a b c /], sub { opens('hash', 'one.example:443') for 1 .. 6 })} ],
		[ 0, 0, 6 ], 'hash by the host of the CONNECT');
	close_tunnels();
}

# Standing tunnels count.
is_deeply(grown($t, [qw/ a b /], sub { opens('least') for 1 .. 6 }), [ 3, 3 ], 'least_conn');
close_tunnels();
wait_until('the tunnels of least did not end', sub { log_lines($t, qr/^least /, 'ends.log') == 6 });

# One stands, the others go one after the other: all of them to the other server.
my $shares = grown($t, [qw/ a b /], sub {
	opens('least');

	for my $number (8 .. 11) {
		opens('least');
		my $client = pop @tunnels;
		$client->half_close();
		$client->read_to_end();
		wait_until('no end', sub { log_lines($t, qr/^least /, 'ends.log') == $number - 1 });
	}
});
is_deeply([ sort @$shares ], [ 1, 4 ], 'least_conn: a tunnel that stands counts');
close_tunnels();

SKIP: {
	skip 'no max_conns', 7 unless $counts;

	is(opens('full'), 200, 'max_conns: one');
	is(opens('full'), 200, 'max_conns: the other');
	is(status_of(answer('full', 'a.example:443')), 502, 'max_conns: none is left');
	is(() = log_lines($t, qr/\[error\] .*proxy_connect: no live upstreams while .*upstream: "http:\/\/group_full"/), 1,
		'max_conns: the log');
	like(end_of($t, 'full'), qr!^full 502 http://group_full\|group_full\|502\|.*\|destination_unavailable$!,
		'max_conns: variables');
	close_tunnels();
	wait_until('the tunnels of full did not end', sub { log_lines($t, qr/^full 200 /, 'ends.log') == 2 });
	is(opens('full'), 200, 'max_conns: tunnels that ended do not count');
	close_tunnels();

	# However a tunnel ends, its server is given back.
	opens('one');
	$tunnels[0]->reset();
	@tunnels = ();
	wait_until('no end', sub { log_lines($t, qr/^one /, 'ends.log') == 1 });
	is(opens('one'), 200, 'a server is given back by a tunnel that was reset');
	close_tunnels();
}

###############################################################################
# Servers that are down, spares, and those that failed

is(opens('spare'), 200, 'backup');
is(opens('off'), 200, 'down');
close_tunnels();
like(end_of($t, 'spare'),
	qr!^spare 200 \S+\|127\.0\.0\.1:$port{dead}, 127\.0\.0\.1:$port{backup}\|502, 200\|[\d.]+, [\d.]+\|(0, \d+|-)\|$!,
	'backup: variables of nginx');

is_deeply(grown($t, [qw/ closes a /], sub { opens('fails') for 1 .. 6 }), [ 1, 6 ],
	'max_fails: one that failed is left alone');
is_deeply(grown($t, [qw/ denied a /], sub { opens('refused') for 1 .. 6 })->[1], 6, 'max_fails: the others go on');
cmp_ok(scalar(() = asked($t, $port{denied})), '>', 1, 'max_fails: one that denies has not failed');
close_tunnels();

is(status_of(answer('dead', 'a.example:443')), 502, 'all are dead: status');
like(end_of($t, 'dead'), qr!\|127\.0\.0\.1:$port{dead}, 127\.0\.0\.1:$port{dead}\|502, 502\|!, 'all are dead: both tried');
is(status_of(answer('dead', 'a.example:443')), 502, 'all are dead: status again');

###############################################################################
# What has the next one be tried

my %failure = (denied => 403, mute => 504);

for my $name (sort keys %condition) {
	# Round robin has them take turns.
	my @on = map { opens("on_$name") } 1, 2;
	my @off = sort map { status_of(header("off_$name", 'a.example:443')) } 1, 2;

	is_deeply(\@on, [ 200, 200 ], "$name: another one is tried");
	is_deeply(\@off, [ 200, $failure{$name} // 502 ], "$name: none is tried");
	close_tunnels();
	ok((grep { /\|127\.0\.0\.1:$port{$name}, 127\.0\.0\.1:$port{a}\|/ } log_lines($t, qr/^on_$name /, 'ends.log')) == 1,
		"$name: both addresses are told");
	ok(log_lines($t, qr/\[error\] .*127\.0\.0\.1:$port{$name}/), "$name: the log");
}

is(join(' ', sort map { status_of(header('tries', 'a.example:443')) } 1 .. 3), '200 200 502',
	'proxy_connect_next_upstream_tries');
is(join(' ', sort map { status_of(header('time', 'a.example:443')) } 1 .. 2), '200 504',
	'proxy_connect_next_upstream_timeout');

###############################################################################
# Groups by variables, and without a parent

is(opens('variable', 'a:1', 'Parent: group_rr'), 200, 'a variable names a group');
is(opens('variable', 'a:1', 'Parent: http://GROUP_rr'), 200, 'in whatever case, with a scheme');
is(status_of(answer('variable', 'a:1', 'Parent: group_none')), 500, 'a variable names none');
close_tunnels();

is(opens('raw', 'a.example:443'), 200, 'proxy_connect_address names a group');
$tunnels[0]->send('ping');
is($tunnels[0]->read_bytes(4), 'ping', 'its server is spoken to as the destination');
close_tunnels();
like(end_of($t, 'raw'), qr!^raw 200 direct\|(127\.0\.0\.1:$port{dead}, )?127\.0\.0\.1:$port{raw}\|(502, )?-\|!,
	'proxy_connect_address names a group: variables');
is(opens('raw_variable', 'a.example:443', 'To: group_raw'), 200, 'by a variable');
close_tunnels();

###############################################################################
# A group that proxy_pass uses, too: a cached connection is no tunnel

my $get = exchange("GET / HTTP/1.0\x0d\x0aHost: x\x0d\x0a\x0d\x0a", port => port(8082));
is(status_of($get), 200, 'a request through a group');
is(opens('kept', 'a:1'), 200, 'then a tunnel');
close_tunnels();
is(status_of(exchange("GET / HTTP/1.0\x0d\x0aHost: x\x0d\x0a\x0d\x0a", port => port(8082))), 200,
	'and a request again');

###############################################################################
# A parent that is this server

my $loop = client(port => port(8080))->send(connect_request('a.example:443'))->read_to_end();
is(status_of($loop), 502, 'a loop ends at "self": status');
like(end_of($t, 'loop'), qr/\|proxy_loop_detected$/, 'a loop ends at "self": variables');
is(() = log_lines($t, qr/the parent 127\.0\.0\.1:\d+ is this nginx, and its addresses are denied by "proxy_connect_deny_address self"/),
	1, 'a loop ends at "self": the log');

my $tower = client(port => port(8081))->send(connect_request('a.example:443'))->read_to_end();
like(status_of($tower), qr/^50[02]$/, 'another loop ends at worker_connections: status');
ok(log_lines($t, qr/no connection is left, raise "worker_connections"|worker_connections are not enough/),
	'another loop ends at worker_connections: the log');
is(opens('rr'), 200, 'and the worker lives');
close_tunnels();
is(worker_pid($t), $worker, 'the same');

###############################################################################
# One of three is killed while many are at it

upstream($t, answers($t, OPEN), $port{victim});
my (@clients, $failed);

# Not more than the worker has connections for.
for my $number (1 .. MANY) {
	push @clients, start('killed', undef, "n$number.example:443");
	kill_victim($t) if $number == int(MANY / 2);

	if (@clients == 100 || $number == MANY) {
		$failed += grep { status_of($_->read_header()) ne 200 } @clients;
		$_->close() for splice @clients;
	}
}

sub kill_victim {
	my ($t) = @_;
	# nginx's own library has another name for them.
	my $pid = pop @{$t->{daemons} // $t->{_daemons}};
	kill 'TERM', $pid;
	waitpid $pid, 0;
}

is($failed, 0, 'a parent killed among ' . MANY . ' CONNECTs: none fails');

###############################################################################

close_tunnels();
# proxy_pass keeps one.
is(settled_fds($worker, $before + 1), $before + 1, 'nothing is left open');
is_deeply([ grep { !/worker_connections are not enough/ } log_lines($t, qr/\[(alert|emerg|crit)\]/) ], [],
	'no other alerts');

###############################################################################
