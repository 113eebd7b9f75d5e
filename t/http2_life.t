#!/usr/bin/perl

# What ends the connection of tunnels over HTTP/2 while they stand: limits of a connection, a reload, a graceful
# shutdown and its timeout, a binary upgrade, a worker that is killed. Open tunnels go on as long as they may.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::HTTP2 qw/ END_STREAM END_HEADERS as_frame block http2_on /;
use Test::ProxyConnect::Tunnel;

use Time::HiRes qw/ time /;

use constant { DATA => 0, HEADERS => 1, REFUSED_STREAM => 7 };

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_v2/);

plan(skip_all => 'CONNECT over HTTP/2 needs nginx 1.22 or newer') unless $t->has_version('1.22.0');

my $on = http2_on($t);

# An nginx that does not run in the background takes no signal for an upgrade.
my $conf = <<'EOF' =~ s/%%HTTP2%%/$on/gr;

%%TEST_GLOBALS%%

worker_processes 1;
%%MAIN%%

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  ends  "$request|$status|$proxy_connect_close_reason|$proxy_connect_bytes_received";
    access_log  %%TESTDIR%%/ends.log ends;

    proxy_connect_response  "HTTP/1.1 200 OK\r\nX-Conf: %%CONF%%\r\nX-Worker: $pid\r\n\r\n";

    server {
        listen       127.0.0.1:8080%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        http2_max_concurrent_streams  3;
    }

    server {
        listen       127.0.0.1:8082%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        keepalive_requests  3;
        keepalive_timeout   1s;
    }
}

EOF

$t->todo_alerts()->plan(45);

my $listener = listener(port(8081));
my $to = '127.0.0.1:' . port(8081);
my ($h2, $id, $upstream, $begin);

###############################################################################
# Limits of a connection

start($t, $conf, 'first');
my $worker = lone_worker($t);

$h2 = h2();
my @open = map { [ pair_of($h2) ] } 1 .. 3;
$id = $h2->connect($to);
is($h2->ending($id), 'rst ' . REFUSED_STREAM, 'http2_max_concurrent_streams');
$h2->data($id, 'ignored');
is_crossed($h2, @{$open[0]}, 'the others go on');
$_->[1]->close() for $open[1];
is($h2->ending($open[1][0]), 'end', 'one ends');
# In one piece: what ends the stream is seen before what begins another.
$id = $h2->new_stream();
$h2->{socket}->send(as_frame(DATA, END_STREAM, $open[1][0], '')
	. as_frame(HEADERS, END_HEADERS, $id, block(':method' => 'CONNECT', ':authority' => $to)));
$upstream = accept_end($listener);
is($h2->status($id), 200, 'another takes its place');
push @open, [ $id, $upstream ];
is_crossed($h2, @{$open[3]}, 'it goes on, too');
finish($h2, @$_) for @open[0, 2, 3];

$h2 = h2(port => port(8082));
@open = map { [ pair_of($h2) ] } 1 .. 3;
$h2->ping();
is($h2->{goaway}, 0, 'keepalive_requests: GOAWAY');
$id = $h2->connect($to);
$h2->ping();
is($h2->stream($id)->{status}, undef, 'keepalive_requests: no tunnel more');
is_crossed($h2, @{$_}, 'keepalive_requests: open tunnels go on') for @open;
finish($h2, @$_) for @open;
is($h2->closing(), 'eof 0', 'keepalive_requests: the end of the last one is that of the connection');

# Longer than the connection would be kept without a request.
$h2 = h2(port => port(8082));
@open = ([ pair_of($h2) ]);
select undef, undef, undef, 1.5;
is_crossed($h2, @{$open[0]}, 'keepalive_timeout: not while a tunnel stands');
finish($h2, @{$open[0]});
is($h2->closing(), 'eof 0', 'keepalive_timeout: then it is');

###############################################################################
# A reload

$h2 = h2();
@open = map { [ pair_of($h2) ] } 1 .. 2;
write_conf($t, $conf, 'second');
kill 'HUP', master_pid($t);
wait_for_line($t, qr/ gracefully shutting down/);

my $new;
wait_until('Nobody knows the new configuration', sub {
	$new = h2();
	my ($other, $end) = pair_of($new);
	my $is_new = $new->field($other, 'x-conf') eq 'second';
	finish($new, $other, $end);
	return $is_new;
});

$h2->ping();
is($h2->{goaway}, 0, 'reload: GOAWAY');
is_crossed($h2, @$_, 'reload: open tunnels go on') for @open;
my @got = ($h2->upload($open[0][0], noise(1_000_000)) && $open[0][1]->read_bytes(1_000_000));
same($got[0], noise(1_000_000), 'reload: much up');
$open[0][1]->send(noise(1_000_000));
same($h2->read_bytes($open[0][0], 1_000_000), noise(1_000_000), 'reload: much down');
ok(kill(0, $worker), 'reload: the old worker waits');
finish($h2, @$_) for @open;
like($h2->closing(), qr/^eof/, 'reload: the connection ends with them');
$_->{socket}->close() for $h2, $new;
wait_until('The old worker did not exit', sub { !kill 0, $worker });
pass('reload: the old worker exits');

###############################################################################
# A binary upgrade

my $old = master_pid($t);
$worker = lone_worker($t);
my $pid_file = $t->testdir() . '/nginx.pid';
$h2 = h2();
@open = ([ pair_of($h2) ]);
kill 'USR2', $old;
wait_until('There is no new nginx', sub { -e "$pid_file.oldbin" && -s $pid_file });
isnt(lone_worker($t), $worker, 'upgrade: a new worker');
kill 'QUIT', $old;
wait_for_line($t, qr/ \Q$worker\E#\d+: gracefully shutting down/);
$new = h2();
my ($other, $end) = pair_of($new);
is($new->field($other, 'x-worker'), lone_worker($t), 'upgrade: a new tunnel is its');
is_crossed($new, $other, $end, 'upgrade: the new tunnel');
finish($new, $other, $end);
is_crossed($h2, @{$open[0]}, 'upgrade: the old tunnel');
finish($h2, @{$open[0]});
$h2->{socket}->close();
wait_until('The old nginx did not exit', sub { !-e "$pid_file.oldbin" });
pass('upgrade: the old nginx exits');

###############################################################################
# A worker that is killed

$worker = lone_worker($t);
$h2 = h2();
@open = map { [ pair_of($h2) ] } 1 .. 2;
kill 'KILL', $worker;
like($h2->ending($open[0][0]), qr/^(?:eof|reset)/, 'killed: the client');
is(scalar(grep { $_->[1]->ending() } @open), 2, 'killed: the upstreams');
wait_until('There is no new worker', sub { my @pids = worker_pids($t); @pids == 1 && $pids[0] != $worker });
$h2 = h2();
@open = ([ pair_of($h2) ]);
is_crossed($h2, @{$open[0]}, 'killed: a new worker has tunnels');

###############################################################################
# A graceful shutdown, which waits for the tunnel

kill 'QUIT', master_pid($t);
wait_until('No GOAWAY came', sub { defined $h2->ping()->{goaway} });
is_crossed($h2, @{$open[0]}, 'a graceful shutdown: a tunnel goes on');
ok(-e $pid_file, 'a graceful shutdown: nginx waits');
finish($h2, @{$open[0]});
$_->{socket}->close() for $h2, $new;
wait_for_exit($t);
pass('a graceful shutdown: then it exits');

###############################################################################
# Its timeout

for my $how ('a reload', 'a graceful shutdown') {
	log_mark($t, $_) for qw/ error.log ends.log /;
	start($t, $conf, 'third', 'worker_shutdown_timeout 500ms;');
	$worker = lone_worker($t);

	$h2 = h2();
	@open = map { [ pair_of($h2) ] } 1 .. 3;
	$h2->end($open[1][0]);
	is($open[1][1]->read_to_end(), '', "$how: one is half-closed");
	$open[2][1]->half_close();
	is($h2->ending($open[2][0]), 'end', "$how: one on the other side");

	$begin = time();
	kill $how eq 'a reload' ? 'HUP' : 'QUIT', master_pid($t);
	like($h2->ending($open[0][0]), qr/^(?:eof|reset|rst)/, "$how: then the client is let go");
	my $took = time() - $begin;
	ok($took > 0.45 && $took < 3, "$how: in time") or diag("after $took s");
	is(scalar(grep { $_->[1]->ending() } @open), 3, "$how: and the upstreams");

	$h2->{socket}->close();
	wait_until('The worker did not exit', sub { !kill 0, $worker });
	is(scalar(grep { /\|200\|shutdown\|/ } wait_for_lines($t, 3, qr/./, 'ends.log')), 3, "$how: the reason is logged") or diag(join "\n", log_lines($t, qr/./, q{ends.log}));

	kill 'QUIT', master_pid($t) if $how eq 'a reload';
	wait_for_exit($t);
}

is_deeply([ grep { !/exited on signal 9/ } log_lines($t, qr/\[(alert|emerg|crit)\]/) ], [], 'the log');

###############################################################################

sub write_conf {
	my ($t, $conf, $name, $main) = @_;
	$main //= '';
	$t->write_file_expand('nginx.conf', $conf =~ s/%%CONF%%/$name/r =~ s/%%MAIN%%/$main/r);
}

sub start {
	my ($t, @conf) = @_;
	write_conf($t, @conf);
	$t->run();
	lone_worker($t);
}

sub h2 { return Test::ProxyConnect::HTTP2->new(cleartext => 1, port => port(8080), @_) }

# A stream whose tunnel stands, and the upstream's end.
sub pair_of {
	my ($h2) = @_;
	my $id = $h2->connect($to);
	my $upstream = accept_end($listener);
	$h2->status($id) eq 200 or die "No tunnel\n";
	return ($id, $upstream);
}

sub is_crossed {
	my ($h2, $id, $upstream, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$h2->data($id, 'up');
	$upstream->send('down');
	is($upstream->read_bytes(2) . $h2->read_bytes($id, 4), 'updown', $name);
	return;
}

sub finish {
	my ($h2, $id, $upstream) = @_;
	$h2->end($id);
	$upstream->ending();
	$upstream->close();
	$h2->ending($id);
	return;
}

###############################################################################
