#!/usr/bin/perl

# The bytes of tunnels over HTTP/2: many at once, those that stall beside others, ends and resets behind
# much data, windows of all kinds, and what they cost.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::HTTP2 qw/ END_STREAM /;
use Test::ProxyConnect::Kernel qw/ memory_of unacknowledged /;

use Digest::SHA qw/ sha256_hex /;

use constant { CANCEL => 8, CONNECT_ERROR => 10 };
use constant { LARGE => 1_000_000, HUGE => 8_000_000 };

# More than a window, and no more than the system takes of it.
use constant BEHIND => 100_000;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl http_v2 rewrite socket_ssl/);

plan(skip_all => 'CONNECT over HTTP/2 needs nginx 1.22 or newer') unless $t->has_version('1.22.0');

my $on = $t->has_version('1.25.1') ? '; http2 on' : ' http2';

$t->plan(42)->write_file_expand('nginx.conf', <<'EOF' =~ s/%%HTTP2%%/$on/gr);

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;
error_log %%TESTDIR%%/error.log info;

events {
    worker_connections  4096;
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    http2_max_concurrent_streams  256;
    keepalive_requests            100000;

    log_format  tunnels  "$request|$status|$bytes_sent|$body_bytes_sent|$proxy_connect_bytes_sent|"
                         "$proxy_connect_bytes_received|$proxy_connect_close_reason|$server_port";
    access_log  %%TESTDIR%%/tunnels.log tunnels;

    proxy_connect_http2_window  1m;

    server {
        listen       127.0.0.1:8443 ssl%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        location /large {
            alias  %%TESTDIR%%/large;
        }
    }

    # Records of TLS that frames don't fit in, and those that more than one fits in.
    server {
        listen       127.0.0.1:8444 ssl%%HTTP2%%;
        server_name  localhost;

        ssl_buffer_size  4k;
        send_timeout     1s;

        proxy_connect;
        proxy_connect_allow  all;
    }

    server {
        listen       127.0.0.1:8445 ssl%%HTTP2%%;
        server_name  localhost;

        ssl_buffer_size  64k;

        proxy_connect;
        proxy_connect_allow  all;

        location /large {
            alias  %%TESTDIR%%/large;
        }
    }

    server {
        listen       127.0.0.1:8446 ssl%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow          all;
        proxy_connect_download_rate  500k;
        proxy_connect_upload_rate    500k;
    }
}

EOF

$t->write_file('large', pattern(LARGE));
$t->write_file('deaf', '');
certificate($t, 'localhost');

upstream($t, echo(), port(8081));
upstream($t, answer_at_eof(), port(8082));
upstream($t, half_close_after(pattern(LARGE)), port(8083));
upstream($t, sub { reset_when_all_is_there($_[0], LARGE) }, port(8084));
upstream($t, source(LARGE), port(8085));
upstream($t, sub { wait_until('The file stays', sub { !-e $t->testdir() . '/deaf' }, 60) }, port(8086));
my $huge = pattern(HUGE);
upstream($t, half_close_after($huge), port(8087));
upstream($t, half_close_after(pattern(65535)), port(8088));
upstream($t, sub { reset_when_all_is_there($_[0], BEHIND) }, port(8090));

$t->run();

sub h2 { return Test::ProxyConnect::HTTP2->new(port => port(8443), @_) }
sub to { return '127.0.0.1:' . port($_[0]) }
sub is_same { is(sha256_hex($_[0]), sha256_hex($_[1]), $_[2]) }

# Resets the connection once the system has delivered what it was given.
sub reset_when_all_is_there {
	my ($socket, $size) = @_;
	$socket->read_bytes(5);
	$socket->send(pattern($size));
	wait_until('Bytes are not acknowledged', sub { !unacknowledged($socket) });
	$socket->reset();
}

# Sends each stream's bytes in pieces of random lengths, one stream after the other, and then its end.
sub upload_all {
	my ($h2, %left) = @_;

	while (%left) {
		for my $id (keys %left) {
			my $piece = substr $left{$id}, 0, 1 + int rand 40_000, '';
			my $is_last = $left{$id} eq '';
			delete $left{$id} if $is_last;
			$h2->upload($id, $piece, $is_last ? END_STREAM : 0);
		}
	}

	return;
}

###############################################################################
# Both ways at once

for my $port (8443, 8444, 8445) {
	my $h2 = h2(port => port($port));
	my %bytes = map { $h2->tunnel(to(8081)) => substr pattern(LARGE), $_ * 1000 } 1 .. 8;

	upload_all($h2, %bytes);
	my @bad = grep { sha256_hex($h2->read_to_end($_)) ne sha256_hex($bytes{$_}) } keys %bytes;
	is("@bad", '', "8 tunnels both ways, server " . ($port - 8442));
}

# Requests beside them.
for my $port (8443, 8445) {
	my $h2 = h2(port => port($port));
	my @tunnels = map { $h2->tunnel(to(8085)) } 1 .. 3;
	my @gets = map { $h2->get('/large', 'localhost') } 1 .. 3;
	my @bad = grep { sha256_hex($h2->read_to_end($_)) ne sha256_hex(pattern(LARGE)) } @tunnels, @gets;
	is("@bad", '', 'requests with large answers beside tunnels');
	is($h2->status($gets[0]), 200, 'their status');
}

###############################################################################
# Ends

my $h2 = h2();
my $id = $h2->tunnel(to(8082));
$h2->upload($id, pattern(LARGE), END_STREAM);
is_same($h2->read_to_end($id), pattern(LARGE), 'much behind the end of the client');
is($h2->ending($id), 'end', 'and then its end');

$id = $h2->tunnel(to(8083));
is_same($h2->read_to_end($id), pattern(LARGE), 'much before the end of the upstream');
$h2->upload($id, pattern(LARGE), END_STREAM);
like(wait_for_upstream($t, qr/^\S*:${\port(8083)} closed after ${\LARGE} bytes/), qr/eof/,
	'and much behind it');

my $line = wait_for_line($t, qr/\|${\LARGE}\|${\LARGE}\|upstream_eof/, 'tunnels.log');
my ($bytes, $body) = $line =~ /\|200\|(\d+)\|(\d+)\|/;
my $frames = ($bytes - $body) / 9;
cmp_ok($body, '==', LARGE, '$body_bytes_sent');
cmp_ok($frames, '>=', LARGE / 16375, '$bytes_sent has the frames\' headers');
cmp_ok($h2->stream($id)->{frames}, '<=', LARGE / 1000, 'frames are not small');

$id = $h2->tunnel(to(8084));
$h2->data($id, 'reset');
is($h2->ending($id), 'rst ' . CONNECT_ERROR, 'a reset of the upstream');
is_same($h2->data_of($id), pattern(LARGE), 'behind all that it sent');

# A window that is used up to its last byte takes an end all the same.
my $narrow = h2(window => 65535);
$id = $narrow->tunnel(to(8088));
is_same($narrow->read_to_end($id), pattern(65535), 'a window is used up');
is($narrow->ending($id), 'end', 'and an end comes without one');

# A reset waits for the window, as the bytes before it do.
$id = $narrow->tunnel(to(8090));
$narrow->data($id, 'reset');
wait_for_upstream($t, qr/^\S*:${\port(8090)} closed /);
is($narrow->read_bytes($id, 65535), pattern(65535), 'a reset behind more than a window: what that has room for');
is($narrow->ping()->stream($id)->{code}, undef, 'and no reset');
$narrow->open_window($id, LARGE);
is($narrow->ending($id), 'rst ' . CONNECT_ERROR, 'but with the window');
is_same(pattern(65535) . $narrow->data_of($id), pattern(BEHIND), 'behind all');

###############################################################################
# Windows that stay closed

my $closed = h2(window => 0);
my @stalled = map { $closed->tunnel(to(8087)) } 1 .. 5;
$id = $closed->tunnel(to(8085));
$closed->open_window($id, 0x7fffff00);
is_same($closed->read_to_end($id), pattern(LARGE), 'a tunnel beside others that may not send');
is(join('', map { $closed->data_of($_) } @stalled), '', 'which send nothing');

# Windows that are opened by little, of several at once.
my %got = map { $_ => 0 } @stalled;

for (1 .. 100) {
	for my $id (@stalled) {
		my $more = 1 + int rand 3000;
		$closed->open_window($id, $more);
		$got{$id} += $more;
	}

	$closed->wait_for('what windows have room for',
		sub { !grep { length $closed->data_of($_) < $got{$_} } @stalled });
}

my @bad = grep { $closed->data_of($_) ne substr $huge, 0, $got{$_} } @stalled;
is("@bad", '', 'what windows of random sizes let through');
undef $closed;

# The window of the connection is used up, and streams wait for it; one of them is gone when it is opened.
my $shared = h2(connection => 65535);
my @waiting = map { $shared->tunnel(to(8087)) } 1 .. 4;
my $total = sub { my $sum = 0; $sum += length $shared->data_of($_) for @waiting; return $sum };
$shared->wait_for('all that a window has room for', sub { $total->() >= 65535 });
is($shared->ping() && $total->(), 65535, 'the window of the connection is used up');

$shared->rst(shift @waiting, CANCEL)->ping();
my $had = $total->();
$shared->open_window(0, 3_000_000);
$shared->wait_for('what the window has room for', sub { $total->() >= $had + 3_000_000 });
@bad = grep { index($huge, $shared->data_of($_)) != 0 } @waiting;
is("@bad", '', 'it is opened, and others go on');

# Those whose upstream was late, too.
for (1 .. 100) {
	last unless grep { !length $shared->data_of($_) } @waiting;
	$shared->open_window(0, 50_000)->ping();
}

is(scalar(grep { !length $shared->data_of($_) } @waiting), 0, 'all of them');
undef $shared;

# Upstreams that read nothing: the client is told when their windows are used up, and others go on.
my $deaf = h2();
@stalled = map { $deaf->tunnel(to(8086)) } 1 .. 3;

for my $id (@stalled) {
	for (1 .. 2000) {
		my $window = $deaf->ping()->stream($id)->{window};
		last if $window <= 0;
		$deaf->data($id, 'x' x ($window > 16384 ? 16384 : $window));
	}
}

is(scalar(grep { $deaf->stream($_)->{window} <= 0 } @stalled), 3, 'upstreams that read nothing');
$id = $deaf->tunnel(to(8081));
upload_all($deaf, $id => pattern(LARGE));
is_same($deaf->read_to_end($id), pattern(LARGE), 'a tunnel beside them');
unlink $t->testdir() . '/deaf';
undef $deaf;

###############################################################################
# A client that reads nothing

my $slow = h2(port => port(8444));
my @slow = map { $slow->tunnel(to(8087)) } 1 .. 4;
$id = $slow->tunnel(to(8081));

# Longer than nginx gives its own answers.
wait_until('Nothing stands in the socket', sub { -s $t->testdir() . '/error.log' });
select undef, undef, undef, 2.5;

my $other = h2(port => port(8444));
my $beside = $other->tunnel(to(8085));
is_same($other->read_to_end($beside), pattern(LARGE), 'another connection goes on');

$slow->data($id, 'late', END_STREAM);
is($slow->read_to_end($id), 'late', 'it goes on when the client reads again');
$slow->wait_for('a part of each', sub { !grep { length $slow->data_of($_) < LARGE } @slow });
my @lengths = sort { $a <=> $b } map { length $slow->data_of($_) } @slow;
cmp_ok($lengths[-1], '<', 8 * $lengths[0], 'all get their share');
@bad = grep { index($huge, substr $slow->data_of($_), 0, LARGE) != 0 } @slow;
is("@bad", '', 'of the right bytes');
undef $slow;

###############################################################################
# Rates

my $rated = h2(port => port(8446));
my $begin = time;
$id = $rated->tunnel(to(8085));
is_same($rated->read_to_end($id), pattern(LARGE), 'a rate down');
$id = $rated->tunnel(to(8082));
$rated->upload($id, pattern(LARGE), END_STREAM);
$rated->read_to_end($id);
cmp_ok(time - $begin, '>=', 3, 'it is kept, and so is that up');

###############################################################################
# Many, and what they cost

my $worker = worker_pid($t);
my @connections = map { h2() } 1 .. 10;
my @tunnels;

for my $connection (@connections) {
	push @tunnels, map { [ $connection, $_ ] } map { $connection->connect(to(8081)) } 1 .. 100;
}

is(scalar(grep { $_->[0]->status($_->[1]) ne 200 } @tunnels), 0, '1,000 tunnels on 10 connections');

my $before = memory_of($worker);
my $text = pattern(32_768);
$_->[0]->upload($_->[1], $text) for @tunnels;
@bad = grep { $_->[0]->read_bytes($_->[1], 32_768) ne $text } @tunnels;
is(scalar @bad, 0, 'all move 32 KiB');

my $after = memory_of($worker);
cmp_ok(($after - $before) / @tunnels, '<', 4 * 1024, 'and keep no memory for it');

$_->[0]->end($_->[1]) for @tunnels;
is(scalar(grep { $_->[0]->ending($_->[1]) ne 'end' } @tunnels), 0, 'all come to their end');

wait_until('Connections to the upstream are left', sub { sockets($worker) < 50 });
pass('none of them is left');

$h2 = h2();
$id = $h2->tunnel(to(8081));
$h2->data($id, 'fine', END_STREAM);
is($h2->read_to_end($id), 'fine', 'nginx goes on');

###############################################################################
