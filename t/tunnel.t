#!/usr/bin/perl

# What goes through a tunnel: every byte, in its order, both ways, also those that come right
# behind the request; and what a slow reader holds up, and what not.

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

use constant MB => 2 ** 20;

my $t = Test::Nginx->new()->has(qw/http/)->plan(45)
	->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
    worker_connections  1024;
}

http {
    %%TEST_GLOBALS_HTTP%%

    # Every byte moved would be a line.
    error_log  %%TESTDIR%%/error.log info;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        location / {
            root   %%TESTDIR%%;
            index  here;
        }
    }
}

EOF

$t->write_file('here', 'here');
$t->run();

my $worker = lone_worker($t);
my $listener = listener(port(8081));
my $before = steady_fds($worker);

my ($client, $upstream, $header, @got);

###############################################################################
# The answer, and single bytes

($client, $upstream, $header) = pair($listener);

is($header, "HTTP/1.1 200 Connection Established\x0d\x0aProxy-agent: nginx\x0d\x0a\x0d\x0a",
	'the answer');
ok($client->is_quiet(0.1), 'nothing behind it');
ok($upstream->is_quiet(0), 'nothing of the request for the upstream');

my $octets = join '', map { chr } 0 .. 255;

is_deeply([ cross($client, $upstream, $octets, scalar reverse $octets) ],
	[ $octets, scalar reverse $octets ], 'all 256 values');

$client->send_in_pieces($octets, 1, 0);
is($upstream->read_bytes(256), $octets, 'single bytes up');
$upstream->send_in_pieces($octets, 1, 0);
is($client->read_bytes(256), $octets, 'single bytes down');

# More HTTP is nothing to nginx now.
my $get = "GET / HTTP/1.1\x0d\x0aHost: localhost\x0d\x0a\x0d\x0a";
$client->send($get);
is($upstream->read_bytes(length $get), $get, 'a request goes through');
ok($client->is_quiet(0.1), 'and is not answered');

###############################################################################
# Sizes around those of buffers, in the same tunnel

my @sizes = map { ($_ - 1, $_, $_ + 1) } 1024, 4096, 16384, 32768, 65536, MB;

is_deeply([ grep { !crosses_whole($client, $upstream, $_, $_) } @sizes ], [],
	'the same size both ways');
is_deeply([ grep { !crosses_whole($client, $upstream, $_, 1) } @sizes ], [],
	'much up, little down');
is_deeply([ grep { !crosses_whole($client, $upstream, 1, $_) } @sizes ], [],
	'little up, much down');

sub crosses_whole {
	my ($client, $upstream, $up, $down) = @_;
	my ($at_upstream, $at_client)
		= cross($client, $upstream, noise($up), noise($down));
	return $at_upstream eq noise($up) && $at_client eq noise($down);
}

@got = cross($client, $upstream, noise(64 * MB), noise(64 * MB + 1), 60);
same($got[0], noise(64 * MB), '64 MiB up at once');
same($got[1], noise(64 * MB + 1), '64 MiB down at once');

$_->close() for $client, $upstream;

###############################################################################
# Who speaks first

$client = knock($listener);
$upstream = accept_end($listener);
$upstream->send("220 hello\x0d\x0a");
like($client->read_header(), qr/ 200 /, 'an upstream that speaks first: the answer');
is($client->read_bytes(11), "220 hello\x0d\x0a", 'then its greeting');

###############################################################################
# Bytes right behind the request

my @edges = (1, 10, 100, 900 .. 1100, 2000 .. 2100, 16384, 40000);
is_deeply([ grep { !early_arrives($listener, $_) } @edges ], [],
	'early bytes of any size');

# The header itself fills its buffer, and what is behind it does not fit.
is_deeply([ grep { !early_arrives($listener, 100, filler($_)) } 850 .. 1050 ], [],
	'early bytes behind headers of any size');
is_deeply([ grep { !early_arrives($listener, 20000, filler($_)) } 4000, 8000 .. 8100 ],
	[], 'early bytes behind large headers');

($client, $upstream) = pair($listener, early => noise(MB));
same($upstream->read_bytes(MB), noise(MB), '1 MiB of early bytes');

($client, $upstream) = pair($listener, early => $get);
is($upstream->read_bytes(length $get), $get, 'an early request goes through');
ok($client->is_quiet(0.1), 'and is not answered');

# Sent before the answer came, but behind the header in time.
$client = knock($listener, early => 'one ');
$client->send_in_pieces('two three ', 1);
$upstream = accept_end($listener);
$client->send('four');
is($upstream->read_bytes(18), 'one two three four', 'early and later bytes in order');
like($client->read_header(), qr/ 200 /, 'the answer meanwhile');

sub early_arrives {
	my ($listener, $size, @fields) = @_;
	my ($client, $upstream) = pair($listener, early => noise($size), fields => \@fields);
	my $arrives = $upstream->read_bytes($size) eq noise($size);
	return $arrives && crosses_whole($client, $upstream, 10, 10);
}

sub filler {
	my ($size) = @_;
	return map { "X-Filler: $_" } unpack '(a1000)*', 'x' x $size;
}

# Behind other requests of the same connection.
$client = client();
$client->send($get);
like($client->read_header(), qr/ 200 /, 'a request before the CONNECT');
is($client->read_bytes(4), 'here', 'its body');
$client->send(connect_request('127.0.0.1:' . port(8081)) . 'early');
$upstream = accept_end($listener);
is($upstream->read_bytes(5), 'early', 'early bytes after another request');
is($client->read_header(), $header, 'the answer after another request');
is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ],
	'a tunnel after another request');

# All in one segment.
$client = client();
$client->send($get x 3 . connect_request('127.0.0.1:' . port(8081)) . 'early');
$upstream = accept_end($listener);
is($upstream->read_bytes(5), 'early', 'early bytes behind pipelined requests');
my @answers = map { $client->read_header(), $client->read_bytes(4) } 1 .. 3;
is(scalar(grep { $_ eq 'here' } @answers), 3, 'pipelined requests are answered');
is($client->read_header(), $header, 'then the CONNECT');

###############################################################################
# Many at once: no byte ends up in a tunnel that it was not meant for

my @mixed;
my @pairs = map { [ pair($listener) ] } 1 .. 100;

for my $round (1 .. 3) {
	$pairs[$_][0]->send("up $round $_ " . noise(40000 + $_)) for keys @pairs;
	$pairs[$_][1]->send("down $round $_ " . noise(20000 + $_)) for keys @pairs;
	push @mixed, grep { !gets_its_own($pairs[$_], $round, $_) } keys @pairs;
}

is_deeply(\@mixed, [], '100 tunnels at once');
undef @pairs;

sub gets_its_own {
	my ($pair, $round, $number) = @_;
	my ($up, $down) = ("up $round $number " . noise(40000 + $number),
		"down $round $number " . noise(20000 + $number));
	return $pair->[1]->read_bytes(length $up) eq $up
		&& $pair->[0]->read_bytes(length $down) eq $down;
}

###############################################################################
# Readers that don't

for my $slow (qw/ client upstream /) {
	my %end;
	@end{qw/ client upstream /} = pair($listener);
	my ($reader, $writer) = @end{$slow, $slow eq 'client' ? 'upstream' : 'client'};

	$reader->shrink_buffers(65536);
	my $memory = memory_of($worker);
	my $bytes = noise(128 * MB);
	my $sent = fill($writer, $bytes);

	cmp_ok($sent, '<', length $bytes, "$slow does not read: its peer is held up");
	cmp_ok(memory_of($worker) - $memory, '<', 1024, "$slow does not read: nginx's memory");

	my ($other, $far) = pair($listener);
	is_deeply([ cross($other, $far, 'up', 'down') ], [ 'up', 'down' ],
		"$slow does not read: another tunnel goes on");

	$reader->send('still there');
	is($writer->read_bytes(11), 'still there',
		"$slow does not read: the other direction goes on");

	same($reader->read_bytes($sent), substr($bytes, 0, $sent), "$slow reads on");
}

###############################################################################
# Questions and answers wait for no timer of TCP's

($client, $upstream) = pair($listener);

cmp_ok(ping_pong($client, $upstream, 32 * 1024, 100), '<', 2 * SLOWNESS,
	'32 KiB there and back, 100 times');
cmp_ok(ping_pong($client, $upstream, 1, 1000), '<', 2 * SLOWNESS, 'one byte, 1000 times');

sub ping_pong {
	my ($client, $upstream, $size, $times) = @_;
	my ($begin, $bytes) = (time(), noise($size));

	for (1 .. $times) {
		$client->send($bytes);
		$upstream->read_bytes($size);
		$upstream->send($bytes);
		$client->read_bytes($size);
	}

	return time() - $begin;
}

$_->close() for $client, $upstream;
undef $_ for $client, $upstream;

is(settled_fds($worker, $before), $before, 'nothing is left open');

###############################################################################
