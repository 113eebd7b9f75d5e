#!/usr/bin/perl

# The timeouts: of data, counted from the last byte either way; of the connect; of the resolver.

use warnings;
use strict;

use Test::More;
use Time::HiRes qw/ sleep time /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Kernel;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant MB => 2 ** 20;

# What the configuration has for a data timeout, in seconds, and how often something is said to
# keep a tunnel.
use constant TIMEOUT => 0.6;
use constant STEP => 0.2;

# How late anything may be on a machine that has other things to do.
use constant LATE => 1.5 * SLOWNESS;

# How a client hears that it is let go: over HTTP/2 the end of a stream would tell of the upstream's.
use constant LET_GO => OVER_HTTP2 ? 'reset' : 'eof';

# The whole seconds of what took longer than one.
my $late = SLOWNESS > 1 ? qr/[1-9]\d?/ : qr/[12]/;

my $t = Test::Nginx->new()->has(qw/http rewrite/);

$t->plan(57)->write_file_expand('nginx.conf', ipv4_only($t, with_tls($t, <<'EOF')));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
    worker_connections  1024;
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    resolver          127.0.0.1:%%PORT_8980_UDP%% ipv6=off;
    resolver_timeout  600ms;

    log_format  ends  "$server_port $status $request_time $request_completion";
    access_log  %%TESTDIR%%/ends.log ends;

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_data_timeout  600ms;
    }

    server {
        listen       127.0.0.1:8081;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_read_timeout  600ms;
    }

    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_data_timeout  60s;

        set $proxy_connect_data_timeout  600ms;
    }

    server {
        listen       127.0.0.1:8083;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_connect_timeout  600ms;
        proxy_connect_data_timeout     100ms;
    }

    server {
        listen       127.0.0.1:8084;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        set $proxy_connect_connect_timeout  600ms;
    }

    # with little room between nginx and the client
    server {
        listen       127.0.0.1:8086 sndbuf=64k;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_data_timeout  600ms;
    }

    server {
        listen       127.0.0.1:8085;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_data_timeout  100ms;
    }
}

EOF

certificate($t, 'localhost');
name_server($t, 8980,
	'silent.example' => 'drop',
	'slow.example' => { addrs => '127.0.0.1', delay => 0.4 },
	'stuck.example' => '127.0.0.1',
	'two.example' => [ '127.0.0.1', '127.0.0.2' ],
);
$t->run();

my $worker = lone_worker($t);
my $listener = listener(port(8090));

my ($client, $upstream, $begin, $answer);

###############################################################################
# No data

for my $way ([ 'plain' ], [ 'TLS', port => port(8443), tls => plain_tls() ],
	[ 'read_timeout', port => port(8081) ], [ 'variable', port => port(8082) ])
{
	my ($name, %options) = @$way;

	SKIP: {
		skip NO_TLS, 5 if $options{tls} && !has_tls($t);
		skip NO_REWRITE, 5 if $name eq 'variable' && !runs_rewrite($t);

		log_mark($t, $_) for 'error.log', 'ends.log';

		$begin = time();
		($client, $upstream) = pair($listener, %options);
		is($client->ending(), LET_GO, "$name: nothing was said, the client is let go");
		is_in_time($begin, TIMEOUT, "$name: in time");
		is($upstream->ending(), 'eof', "$name: so is the upstream");

		like(wait_for_line($t, qr/proxy_connect: connection timed out/),
			qr/\[info\] \S+ \*\d+ proxy_connect: connection timed out \(110: [^)]+\) while proxying connection, client: /,
			"$name: the log");
		is_logged($t, qr/^\d+ 200 (0\.(?:59|[6-9])|$late\.)\d* $/,
			"$name: the access log");
	}
}

my @ends = qw/ client upstream /;

for my $side (@ends) {
	my %end;
	@end{@ends} = pair($listener);
	my ($other) = grep { $_ ne $side } @ends;

	$begin = speak($end{$side}, 5);
	is($end{$other}->read_bytes(5), '.....', "the $side speaks: the tunnel lives on");
	is($end{$other}->ending(), $other eq 'client' ? LET_GO : 'eof', "the $side falls silent: the tunnel ends");
	is_in_time($begin, TIMEOUT, "the $side falls silent: in time");
}

# The two take turns, neither would be enough.
($client, $upstream) = pair($listener);
$begin = speak($_, 1) for $client, $upstream, $client, $upstream, $client, $upstream;
is($client->read_to_end(), '...', 'they take turns: the client');
is($upstream->read_to_end(), '...', 'they take turns: the upstream');
is_in_time($begin, TIMEOUT, 'they take turns: in time');

# A tunnel with one open end left is as good as any.
for my $side (@ends) {
	my %end;
	@end{@ends} = pair($listener);
	my ($other) = grep { $_ ne $side } @ends;

	$end{$other}->half_close();
	$begin = speak($end{$side}, 5);
	is($end{$other}->read_to_end(), '.....', "only the $side may speak");
	is_in_time($begin, TIMEOUT, "only the $side may speak: in time");
}

# Bytes that are stuck are not moved. The system takes some of the upstream's after the last that
# nginx moved, so that only the time before the first and that after the last are bounds.
my $bytes = noise(128 * MB);
($client, $upstream) = pair($listener);
$client->shrink_buffers(65536);
$begin = time();
# Where what lies between takes long to be full, it ends meanwhile.
my $ended = !eval { fill($upstream, $bytes, STEP); 1 };
die $@ if $ended && $@ !~ /^The connection broke/;
my $filled = time();
ok($ended || breaks($upstream), 'nobody reads: the tunnel ends');
cmp_ok(time() - $begin, '>', TIMEOUT - 0.05, 'nobody reads: not too early');
cmp_ok(time() - $filled, '<', TIMEOUT + LATE, 'nobody reads: in time');

# A reader that is slow, but reads: what the system holds for it lasts longer than the timeout. Where that
# is much, it would have to read much before nginx can move a byte.
($client, $upstream) = pair($listener, port => port(8086));
$client->shrink_buffers(MB);
my $sent = fill($upstream, $bytes, STEP);
my $got = '';
for (1 .. 10) {
	sleep STEP / 2;
	$got .= eval { $client->read_bytes(int($sent / 10)) } // last;
}
is(length $got, 10 * int($sent / 10), 'somebody reads slowly: the tunnel lives on');
$_->close() for $client, $upstream;

# The time that the way to the upstream takes does not count.
($client, $upstream) = pair($listener, port => port(8085),
	authority => 'slow.example:' . port(8090), early => 'early');
is($upstream->read_bytes(5), 'early', 'no data while resolving');

###############################################################################
# No connection

my $queue = full_backlog(port(8091));
my $stuck = '127.0.0.1:' . port(8091);

SKIP: for my $way ([ 'connect_timeout', port => port(8083) ], [ 'variable', port => port(8084) ]) {
	my ($name, %options) = @$way;
	skip NO_REWRITE, 5 if $name eq 'variable' && !runs_rewrite($t);

	log_mark($t, $_) for 'error.log', 'ends.log';

	$begin = time();
	$answer = exchange(connect_request($stuck), %options);
	is(status_of($answer), 504, "$name: no connection");
	is_in_time($begin, TIMEOUT, "$name: in time");

	my ($line) = wait_for_line($t, qr/proxy_connect: /) =~ /\[error\] \S+ \*\d+ (.*)/;
	is($line, 'proxy_connect: ' . (THROUGH ? 'the parent 127.0.0.1:' . port(8998) . ' did not answer in time'
			. ' (110: Connection timed out) while asking a parent for a tunnel'
		: "upstream connect timed out (peer:$stuck) while connecting to upstream")
		. ", client: 127.0.0.1, server: localhost, request: \"CONNECT $stuck " . PROTOCOL . '",'
		. " host: \"$stuck\"", "$name: the log");
	is_logged($t, qr/^\d+ 504 (0\.[6-9]|$late\.)\d* OK$/,
		"$name: the access log");

	# A parent of the same worker hears of it later.
	wait_until('The parent tries on', sub { !held($worker, port(8091), 'connecting') }) if THROUGH;
	is(held($worker, port(8091), 'connecting'), 0, "$name: nothing tries on");
}

# All addresses of a name share the time.
my $second_queue = full_backlog('127.0.0.2:' . port(8091));
$begin = time();
$answer = exchange(connect_request('two.example:' . port(8091)), port => port(8083));
is(status_of($answer), 504, 'two addresses: no connection');
is_in_time($begin, TIMEOUT, 'two addresses: in time');

# Once the tunnel stands, it is the data timeout's.
$begin = time();
($client, $upstream) = pair($listener, port => port(8084), early => 'early');
sleep TIMEOUT + STEP;
$client->send(' and late');
is($upstream->read_bytes(14), 'early and late',
	'the tunnel outlives the connect timeout');
$_->close() for $client, $upstream;

# Without a directive it is a minute, for which nobody has to wait: nginx tells how long it would sleep.
SKIP: {
	log_mark($t);
	$client = knock($listener, authority => $stuck);
	ok($client->is_quiet(1.5), 'no directive: no answer yet');

	skip 'nginx was built without --with-debug', 1 unless $t->has_module('--with-debug');
	skip "the resolver's own timer is shorter", 1 unless $t->has_version('1.9.11');

	# OpenResty has a timer of its own, of a second.
	skip 'the core has a shorter timer', 1 if debug_lines($t, qr/#\d+: event timer add: \S+ 1000:/);

	# Another client wakes it, whose own timers begin now.
	exchange("GET / HTTP/1.0\x0d\x0a\x0d\x0a");
	my @left = map { / timer: (\d+)$/ ? 60000 - $1 : () } debug_lines($t, qr/ timer: /);
	ok((grep { $_ >= 1400 && $_ < 1500 + 1000 * LATE } @left), 'no directive: 60 s') or diag("@left");
}

$client->close();
wait_for_line($t, qr/proxy_connect: client prematurely closed connection/);

###############################################################################
# No address

log_mark($t, $_) for 'error.log', 'ends.log';
$begin = time();
$answer = exchange(connect_request('silent.example:443'), port => port(8083));
is(status_of($answer), 504, 'no address');
is_in_time($begin, TIMEOUT, 'no address: in time');
like(wait_for_line($t, qr/proxy_connect: /),
	THROUGH ? qr/\[error\] .*the parent \S+ did not answer in time/
		: qr/\[error\] .*silent\.example could not be resolved \(110: .*\).*, client: 127\.0\.0\.1, /,
	'no address: the log');
is_logged($t, qr/^\d+ 504 (0\.[6-9]|$late\.)\d* OK$/,
	'no address: the access log');

###############################################################################

# Says so many single bytes, one each step, and returns when the last was about to be said.
sub speak {
	my ($end, $times) = @_;
	my $last;

	for (1 .. $times) {
		sleep STEP;
		$last = time();
		$end->send('.');
	}

	return $last;
}

# Whether it is now so many seconds after the beginning, and not much later.
sub is_in_time {
	my ($begin, $seconds, $name) = @_;
	my $took = time() - $begin;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	# nginx's clock goes in milliseconds.
	ok($took > $seconds - 0.05 && $took < $seconds + LATE, $name)
		or diag("after $took s in place of $seconds s");
}

# Whether the connection is taken away within the time that anything may take.
sub breaks {
	my ($end) = @_;
	my $broken = 0;
	eval {
		wait_until('The connection did not break', sub {
			local $SIG{PIPE} = 'IGNORE';
			$broken = !defined $end->handle()->syswrite('x') && !$end->may_go_on();
		});
	};
	return $broken;
}

###############################################################################
