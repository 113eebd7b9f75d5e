#!/usr/bin/perl

# A thousand tunnels in all phases, and a worker that is told to go at once or gracefully, or is
# killed: all of them end, and so does the worker.

use warnings;
use strict;

use Test::More;
use Time::HiRes qw/ time /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Kernel;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# How many in each of the five phases. Over HTTP/2 each has a process that stands before nginx.
use constant EACH => OVER_HTTP2 || SLOWNESS > 1 ? 20 : 200;

# Buffers of the system: small enough that many are full soon, and with room for some segments of
# the loopback interface.
use constant ROOM => 131072;

# Descriptors of the test and of the worker.
use constant FILES => 4096;

eval { limit($$, 'nofile', FILES) };
plan(skip_all => 'too few descriptors') if `sh -c 'ulimit -n'` < FILES;

# Only Linux has splice(2), and no stream a pipe.
my $splice = $^O eq 'linux' && !OVER_HTTP2 ? 'on' : 'auto';

# The one that is killed has an alert.
my $t = Test::Nginx->new()->has(qw/http/)->todo_alerts();

# Before, a graceful shutdown waits for the tunnels.
my $bound = $t->has_version('1.11.11') ? 'worker_shutdown_timeout 500ms;' : '';

my @how = ([ 'TERM', 'a fast shutdown' ], [ 'KILL', 'killed' ]);
splice @how, 1, 0, [ 'QUIT', 'a graceful shutdown' ] if $bound;

$t->plan(8 + ($bound ? 6 : 0) + ($splice eq 'on' ? @how : 0))
	->write_file_expand('nginx.conf', quietly($t, ipv4_only($t, <<'EOC'), 'info'));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;
%%BOUND%%

events {
    worker_connections  4096;
}

http {
    %%TEST_GLOBALS_HTTP%%

    resolver          127.0.0.1:%%PORT_8980_UDP%% ipv6=off;
    resolver_timeout  300s;

    log_format  ends  "$status $proxy_connect_close_reason";
    access_log  %%TESTDIR%%/ends.log ends;

    server {
        listen       127.0.0.1:8080 backlog=1024 sndbuf=128k rcvbuf=128k;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_connect_timeout  300s;
        proxy_connect_splice  %%SPLICE%%;
    }
}

EOC

$t->write_file('nginx.conf',
	$t->read_file('nginx.conf') =~ s/%%SPLICE%%/$splice/r =~ s/%%BOUND%%/$bound/r);

name_server($t, 8980, 'silent.example' => 'drop');
my $listener = listener(port(8081));
my $queue = full_backlog(port(8082));

###############################################################################

for my $how (@how) {
	my ($signal, $name) = @$how;

	$t->run();
	log_mark($t, $_) for 'error.log', 'ends.log';
	my $worker = lone_worker($t);
	my %tunnels = tunnels($t, $worker, $listener);
	cmp_ok(pipes($worker), '>', 10, "$name: bytes are in pipes") if $splice eq 'on';

	my $begin = time();
	kill $signal, $signal eq 'KILL' ? $worker : master_pid($t);
	is_deeply({ map { $_ => scalar grep { ends(@$_) } @{$tunnels{$_}} } keys %tunnels },
		{ map { $_ => EACH } keys %tunnels }, "$name: all end");
	note(sprintf '%s: %.1f s', $name, time() - $begin);
	wait_until('The worker did not exit', sub { !kill 0, $worker });

	if ($signal eq 'KILL') {
		isnt(lone_worker($t), $worker, 'a new worker');
		is_deeply([ cross((pair($listener))[0, 1], 'up', 'down') ], [ 'up', 'down' ],
			'it serves');
		$t->stop();
		next;
	}

	wait_for_exit($t);
	gracefully_logged($t) if $signal eq 'QUIT';
	is_deeply([ log_lines($t, qr/\[(alert|emerg|crit)\]/) ], [], "$name: nothing else is wrong");
}

is_deeply([ grep { !/exited on signal 9/ } log_lines($t, qr/\[(alert|emerg|crit)\]/) ], [],
	'killed: nothing else is wrong');

###############################################################################

# EACH tunnels in each phase: a list of [ client, upstream ], without an upstream where there is
# none.
sub tunnels {
	my ($t, $worker, $listener) = @_;
	my %tunnels;

	log_mark($t, 'dns.log');
	$tunnels{$_} = [ map { [ small(pair($listener)) ] } 1 .. EACH ]
		for 'standing', 'half-closed', 'in flight';

	$_->[1]->half_close() for @{$tunnels{'half-closed'}};
	is(scalar(grep { $_->[0]->ending() eq 'eof' } @{$tunnels{'half-closed'}}), EACH,
		'closed on one side');

	$tunnels{connecting} = knocks_at($listener, '127.0.0.1:' . port(8082));
	wait_until('Not all are being connected',
		sub { held($worker, port(8082), 'connecting') == EACH });

	# nginx asks once for all of them; a later one means that the earlier are read.
	$tunnels{resolving} = knocks_at($listener, 'silent.example:443');
	wait_until('Not all are accepted', sub { sockets($worker) >= 9 * EACH });
	wait_until('No query yet', sub { queries($t, qr/silent/) });

	# What their readers leave is held by sockets, pipes and memory.
	fill_now($_->[1]) for (@{$tunnels{'in flight'}}) x 5;
	return %tunnels;
}

sub small {
	my ($client, $upstream) = @_;
	$_->shrink_buffers(ROOM) for $client, $upstream;
	return ($client, $upstream);
}

sub knocks_at {
	my ($listener, $authority) = @_;
	return [ map { [ knock($listener, authority => $authority) ] } 1 .. EACH ];
}

# Whether all ends of a tunnel see their end.
sub ends {
	my (@ends) = @_;
	return !grep { !eval { $_->ending() } } @ends;
}

# A line for each tunnel: those that stood were closed by the shutdown.
sub gracefully_logged {
	my ($t) = @_;
	is(scalar(access_lines($t, 5 * EACH, 'ends.log')), 5 * EACH, 'a line in the access log for each');
	is(scalar(log_lines($t, qr/^200 shutdown$/, 'ends.log')), 3 * EACH,
		'which tells that they were closed by the shutdown, if they stood');
	is(scalar(log_lines($t, qr/^200 (?!shutdown$)/, 'ends.log')), 0, 'and nothing else');
}
