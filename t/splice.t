#!/usr/bin/perl

# Bytes that go through pipes: which tunnels use them, that they come back empty, and what happens
# where the system has none to give.

use warnings;
use strict;

use Socket qw/ MSG_OOB /;
use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Kernel;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant MB => 2 ** 20;

# What a worker keeps of pipes that nobody needs, and what it opens at most.
use constant { IDLE => 16, MOST => 64 };

plan(skip_all => 'splice(2) is Linux only') unless $^O eq 'linux';

my $t = Test::Nginx->new()->has(qw/http/);

$t->plan(37)->write_file_expand('nginx.conf', quietly($t, with_tls($t, <<'EOF'), 'info'));

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

    log_format  ends  "$status $proxy_connect_close_reason";
    access_log  %%TESTDIR%%/ends.log ends;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
    }

    server {
        listen       127.0.0.1:8082;
        listen       127.0.0.1:8443 ssl;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_splice  on;
    }

    server {
        listen       127.0.0.1:8083;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_splice  off;
    }
}

EOF

certificate($t, 'localhost');
$t->run();

my $worker = lone_worker($t);
my $listener = listener(port(8081));

# nginx itself may have been given some.
my $others = pipes($worker);
my ($client, $upstream, $header);

my %port = (auto => port(8080), on => port(8082), off => port(8083));

###############################################################################
# Which tunnels use pipes

is(used('off', 4 * MB), 0, 'off: no pipe');

SKIP: {
	skip NO_TLS, 1 unless has_tls($t);

	is(used('TLS', 4 * MB), 0, 'TLS: no pipe, also where they are on');
}

is(used('auto', 1000), 0, 'auto: no pipe for a small message');
is(used('auto', 32768), 0, 'auto: nor for one that fills the buffer once');
cmp_ok(used('on', 1), '>', 0, 'on: a pipe for a byte');

my @slow = map { [ (pair($listener))[0, 1] ] } 1 .. 20;
ok(eval { wait_until('no more pipes', sub { fill_now($_->[1]) for @slow; own_pipes() > 1 }) },
	'auto: pipes for much');
$_->reset() for map { @$_ } @slow;

###############################################################################
# What goes through them

# Pieces of any size, with pauses between them in which the source is drained.
for my $mode (qw/ auto on off /) {
	($client, $upstream) = pair($listener, port => $port{$mode});

	is_deeply([ grep { !whole($client, $upstream, $_) }
		1, 100, 32767, 32768, 32769, 65536, 65537, 100_000, 262_144, 262_145, MB, 3 * MB + 1 ],
		[], "$mode: bursts of many sizes");

	# Segments that are small fill a pipe's slots, not its bytes.
	ok(in_segments($client, $upstream, 3000, 100), "$mode: 3000 segments of 100 bytes");

	# Urgent data stands in the way of splice(2), but not of the next read; the byte itself is not
	# passed on. As everywhere in nginx, what comes behind it needs an event of its own.
	$client->send(noise(40_000));
	send $client->handle(), '!', MSG_OOB();
	same($upstream->read_bytes(40_000), noise(40_000), "$mode: before urgent data");
	$client->send(noise(100_000));
	same($upstream->read_bytes(100_000), noise(100_000), "$mode: after urgent data");

	$_->close() for $client, $upstream;
}

###############################################################################
# They come back, and come back empty

# Readers that take nothing: each tunnel holds one pipe.
my @stuck = map { [ (pair($listener, port => $port{on}))[0, 1] ] } 1 .. 3 * MOST;
eval { wait_until('all pipes', sub { fill_now($_->[1]) for @stuck; own_pipes() >= MOST }) };
is(own_pipes(), MOST, 'as many pipes as a worker may open');

# Without a pipe to be had.
ok(whole(pair($listener, port => $port{on}), 3 * MB), 'a tunnel without a pipe');

log_mark($t, 'ends.log');
$_->[0]->reset() for @stuck;
$_->[1]->read_to_end() for @stuck;
is(scalar(grep { $_->[1]->ending() eq 'reset' } @stuck), scalar @stuck, 'the readers reset: passed on');
wait_for_lines($t, scalar @stuck, qr/^200 client_reset$/, 'ends.log');
$_->[1]->close() for @stuck;

cmp_ok(own_pipes(), '<=', IDLE, 'what was in their pipes went with the pipes');

# A byte of theirs would come out here.
is_deeply([ grep { !whole(pair($listener, port => $port{on}), $_) } (1 .. 20, MB) ], [],
	'no byte of one tunnel gets into another');

###############################################################################
# The upstream resets in the middle of much

for my $mode (qw/ auto on off /) {
	log_mark($t, 'ends.log');
	($client, $upstream) = pair($listener, port => $port{$mode});
	my ($bytes, $sent, $got) = (noise(33 * MB), 0, '');

	# What the client reads is behind what the upstream sends by what the buffers hold, which may be less than this.
	while ($sent < 32 * MB) {
		my $n = $upstream->handle()->syswrite($bytes, 65536, $sent);
		last unless defined $n || $!{EAGAIN};

		$sent += $n // 0;
		$got .= $client->read_some() // '' if !defined $n;
		$got .= $client->read_some() // '' while length $got < $sent - 4 * MB;
	}

	$upstream->reset();
	$got .= $client->read_to_end();

	is($client->ending(), 'reset', "$mode: a reset in the middle of much");
	ok($got eq substr($bytes, 0, length $got), "$mode: what came is what was sent");
	is_logged($t, qr/^200 upstream_reset$/, "$mode: the access log");
	$client->close();
}

###############################################################################
# No descriptors are left

SKIP: {
	skip 'no prlimit', 5 unless eval { limit($$, 'nofile') };

	# A worker without pipes.
	kill 'HUP', master_pid($t);
	$worker = new_worker($t, $worker);

	my @pair = (pair($listener))[0, 1];
	my $limit = limit($worker, 'nofile', 1);

	log_mark($t);
	ok(flooded(@pair), 'without descriptors: bytes are copied');
	like(join("\n", log_lines($t, qr/proxy_connect: pipe2/)),
		qr/\[error\] \d+#\d+: \*\d+ proxy_connect: pipe2\(\) failed, bytes are copied instead \(24: [^)]+\) while proxying connection, client: /,
		'and the error log tells');
	cmp_ok(scalar log_lines($t, qr/proxy_connect: pipe2/), '<=', 3, 'but not for each byte');

	limit($worker, 'nofile', $limit);
	ok(flooded(@pair), 'with descriptors again: bytes arrive');
	ok(eval { wait_until('no pipe', sub { flooded(@pair); pipes($worker) > $others }) },
		'and after a while, through a pipe');
	$_->close() for @pair;
}

###############################################################################

# How many pipes the worker has more, after so many bytes down a tunnel.
sub used {
	my ($mode, $size) = @_;
	my %options = $mode eq 'TLS' ? (port => port(8443), tls => plain_tls()) : (port => $port{$mode});
	my $before = pipes($worker);
	my ($client, $upstream) = pair($listener, %options);
	my (undef, $down) = cross($client, $upstream, '', noise($size));

	$down eq noise($size) or return 'not the bytes that were sent';
	my $more = pipes($worker) - $before;

	$upstream->close();
	$client->read_to_end();
	$client->close();
	return $more;
}

# Whether a burst arrives whole, both ways at once.
sub whole {
	my ($client, $upstream, $size) = @_[0, 1, -1];
	my ($up, $down) = cross($client, $upstream, noise($size), reverse(noise($size)) . '');
	return $up eq noise($size) && $down eq reverse(noise($size));
}

# Whether bytes in segments of a size arrive.
sub in_segments {
	my ($client, $upstream, $count, $size) = @_;
	my $bytes = noise($count * $size);

	for my $i (0 .. $count - 1) {
		my $n = $client->handle()->syswrite($bytes, $size, $i * $size);
		return 0 unless ($n // 0) == $size;
	}

	return $upstream->read_bytes($count * $size) eq $bytes;
}

# The worker that took over from one.
sub new_worker {
	my ($t, $old) = @_;
	my @new;

	wait_until('nginx did not reload', sub {
		@new = worker_pids($t);
		return @new == 1 && $new[0] != $old;
	});

	return $new[0];
}

sub own_pipes {
	return pipes($worker) - $others;
}
