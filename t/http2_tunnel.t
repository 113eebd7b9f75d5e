#!/usr/bin/perl

# What the tests of HTTP/1 ask of a tunnel, of one over HTTP/2: who ends first, and when; resets at any point; timeouts;
# early bytes of any size; and that nothing is left open.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::HTTP2 qw/ END_STREAM END_HEADERS block as_frame http2_on /;
use Test::ProxyConnect::Tunnel;

use Time::HiRes qw/ time /;

use constant { DATA => 0, HEADERS => 1, RST_STREAM => 3, CANCEL => 8, CONNECT_ERROR => 10, MB => 2 ** 20 };

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl http_v2 socket_ssl/);

plan(skip_all => 'CONNECT over HTTP/2 needs nginx 1.22 or newer') unless $t->has_version('1.22.0');

my $on = http2_on($t);

my $conf = <<'EOF' =~ s/%%HTTP2%%/$on/gr;

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

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    log_format  ends  "$status $proxy_connect_close_reason $proxy_connect_bytes_sent $proxy_connect_bytes_received";
    access_log  %%TESTDIR%%/ends.log ends;

    keepalive_requests  100000;

    server {
        listen       127.0.0.1:8443 ssl%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
    }

    server {
        listen       127.0.0.1:8080%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
    }

    server {
        listen       127.0.0.1:8082%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow         all;
        proxy_connect_data_timeout  700ms;
    }
}

EOF

$t->plan(59)->write_file_expand('nginx.conf', $conf);

certificate($t, 'localhost');
$t->run();

my $worker = lone_worker($t);
my $listener = listener(port(8081));
my $to = '127.0.0.1:' . port(8081);
my $before = steady_fds($worker);
my ($id, $upstream);

for my $way ([ 'cleartext', cleartext => 1, port => port(8080) ], [ 'TLS', port => port(8443) ]) {
	my ($name, @options) = @$way;
	my $h2 = Test::ProxyConnect::HTTP2->new(@options);

	# The client has said all it has to say.
	($id, $upstream) = pair_of($h2);
	$h2->data($id, 'question', END_STREAM);
	is($upstream->read_to_end(), 'question', "$name: client ends, what it said");
	is($upstream->ending(), 'eof', "$name: client ends, the upstream hears of it");
	send_all($h2, $id, $upstream, noise(4 * MB));
	$upstream->close();
	same($h2->read_to_end($id), noise(4 * MB), "$name: client ends, much of an answer");
	is($h2->ending($id), 'end', "$name: client ends, then the upstream");

	# The upstream has.
	($id, $upstream) = pair_of($h2);
	$upstream->send('goodbye');
	$upstream->half_close();
	is($h2->read_to_end($id), 'goodbye', "$name: upstream ends, what it said");
	is($h2->ending($id), 'end', "$name: upstream ends, the client hears of it");
	same(take_all($h2, $id, $upstream, noise(4 * MB)), noise(4 * MB), "$name: upstream ends, the client sends much");
	is($upstream->ending(), 'eof', "$name: upstream ends, then the client");
	ok(!defined $h2->ping()->stream($id)->{code}, "$name: and nobody is reset");

	# Both at the same time.
	is_deeply([ grep { !eval { both_end($h2, $_) } } 1 .. 50 ], [], "$name: both end at once");

	# Bytes together with the CONNECT, of any size, with an end and without.
	is_deeply([ grep { !eval { early_arrives($h2, $_, 0) } } 0, 1, 100, 16384, 65535 ], [], "$name: early bytes");
	is_deeply([ grep { !eval { early_arrives($h2, $_, 1) } } 0, 1, 100, 16384, 65535 ], [],
		"$name: early bytes and an end");

	# Resets: of the upstream behind all that it sent, of the client at once.
	is_deeply([ grep { !eval { upstream_resets($h2, $_) } } 0, 1, 1000, 100_000 ], [], "$name: the upstream resets");
	is_deeply([ grep { !eval { client_resets($h2, $_) } } 0, 1, 1000, 60_000 ], [], "$name: the client resets");

	# A client that leaves is a reset for all upstreams; with an end of its connection, too.
	for my $how (qw/ reset close /) {
		my $other = Test::ProxyConnect::HTTP2->new(@options);
		my @pairs = map { [ pair_of($other) ] } 1 .. 5;
		$other->end($pairs[0][0]);
		$other->{socket}->$how();
		# One has heard of the end before.
		like(join(' ', map { $_->[1]->ending() } @pairs), qr/^(?:eof|reset)(?: reset){4}$/, "$name: the client leaves by $how");
	}

	# Of a stream that both have ended it takes nothing back.
	for my $how (qw/ reset close /) {
		my $other = Test::ProxyConnect::HTTP2->new(@options);
		($id, $upstream) = pair_of($other);
		$upstream->half_close();
		$other->ending($id);
		my $sent = $other->fill_window($id);
		$other->end($id)->ping();
		$other->{socket}->$how();
		is(length $upstream->read_to_end(), $sent, "$name: both have ended, the client leaves by $how: all arrives");
		is($upstream->ending(), 'eof', "$name: both have ended, the client leaves by $how: the end does, too");
	}

	# At every point, with a window that bytes wait for.
	my $narrow = Test::ProxyConnect::HTTP2->new(@options, window => 1000);
	is_deeply([ grep { !eval { resets_behind($narrow, $_) } } 0 .. 6 ], [], "$name: the client resets at every point");
	is(settled_fds($worker, $before + 2), $before + 2, "$name: which closes the upstreams");

	$_->{socket}->close() for $h2, $narrow;
	is(settled_fds($worker, $before), $before, "$name: nothing is left open");
}

###############################################################################
# Timeouts

my $h2 = Test::ProxyConnect::HTTP2->new(cleartext => 1, port => port(8082));

for my $end ('nobody', 'client', 'upstream') {
	($id, $upstream) = pair_of($h2);
	$h2->end($id) if $end eq 'client';
	$upstream->half_close() if $end eq 'upstream';
	$end eq 'client' ? $upstream->read_to_end() : $h2->ping();

	my $begin = time();
	# It begins anew with each byte, whoever sends it.
	for (1 .. 3) {
		select undef, undef, undef, 0.3;
		$end eq 'client' ? $upstream->send('x') : $h2->data($id, 'x');
	}

	is($end eq 'upstream' ? $h2->code($id) : $h2->ending($id) =~ s/^rst //r, CONNECT_ERROR,
		"a timeout, $end has ended: the client");
	my $took = time() - $begin;
	ok($took > 1.4 && $took < 4, "a timeout, $end has ended") or diag("after $took s");
	like($upstream->ending(), qr/^(?:eof|reset)/, "a timeout, $end has ended: the upstream");
	log_mark($t, 'ends.log') unless is_logged($t, qr/^200 timeout /, "a timeout, $end has ended: the log");
}

$h2->{socket}->close();
is(settled_fds($worker, $before), $before, 'nothing is left open');

###############################################################################

# A stream whose tunnel stands, and the upstream's end.
sub pair_of {
	my ($h2) = @_;
	my $id = $h2->connect($to);
	my $upstream = accept_end($listener);
	$h2->status($id) eq 200 or die "No tunnel\n";
	return ($id, $upstream);
}

# Has the upstream send what the client reads meanwhile: the system need not have room for it.
sub send_all {
	my ($h2, $id, $upstream, $bytes) = @_;
	my $sent = length $h2->data_of($id);

	for my $piece (unpack '(a262144)*', $bytes) {
		$upstream->send($piece);
		$sent += length $piece;
		$h2->wait_for('bytes', sub { length $h2->data_of($id) >= $sent });
	}

	return;
}

# The same the other way, up to the client's end. What the upstream has read.
sub take_all {
	my ($h2, $id, $upstream, $bytes) = @_;
	my $read = '';

	for my $piece (unpack '(a262144)*', $bytes) {
		$h2->upload($id, $piece);
		$read .= $upstream->read_bytes(length $piece);
	}

	$h2->end($id);
	return $read . $upstream->read_to_end();
}

sub both_end {
	my ($h2, $round) = @_;
	my ($id, $upstream) = pair_of($h2);
	my ($up, $down) = (noise(10 * $round), noise(20 * $round));

	my @ends = (sub { $h2->data($id, $up, END_STREAM) }, sub { $upstream->send($down); $upstream->half_close() });
	$_->() for $round % 2 ? @ends : reverse @ends;

	return $upstream->read_to_end() eq $up && $h2->read_to_end($id) eq $down
		&& $upstream->ending() eq 'eof' && $h2->ending($id) eq 'end';
}

sub early_arrives {
	my ($h2, $size, $ends) = @_;
	my $id = $h2->new_stream();
	my @pieces = unpack '(a16000)*', noise($size);
	my $last = pop @pieces // '';

	$h2->{socket}->send(join '', as_frame(HEADERS, END_HEADERS, $id, block(':method' => 'CONNECT', ':authority' => $to)),
		(map { as_frame(DATA, 0, $id, $_) } @pieces), as_frame(DATA, $ends ? END_STREAM : 0, $id, $last));
	$h2->{streams}{$id}{window} -= $size;

	my $upstream = accept_end($listener);
	my $got = $ends ? $upstream->read_to_end() : $upstream->read_bytes($size);
	$upstream->send('answer');
	$upstream->close();
	$h2->end($id) unless $ends;

	return $got eq noise($size) && $h2->read_to_end($id) eq 'answer';
}

sub upstream_resets {
	my ($h2, $size) = @_;
	my ($id, $upstream) = pair_of($h2);

	# What the system has not acknowledged a reset takes along.
	$upstream->send(noise($size));
	$h2->wait_for('bytes', sub { length $h2->data_of($id) == $size });
	$upstream->reset();

	return $h2->ending($id) eq 'rst ' . CONNECT_ERROR && $h2->read_to_end($id) eq noise($size);
}

# So many steps, and then a reset.
sub resets_behind {
	my ($h2, $count) = @_;
	my $id = $h2->connect($to);
	my $upstream;

	my @steps = (
		sub { $h2->data($id, 'early') },
		sub { $upstream = accept_end($listener); $h2->status($id) },
		sub { $h2->upload($id, noise(1000)) },
		sub { $upstream->send(noise(100_000)); $h2->read_bytes($id, 1000) },
		sub { $h2->end($id); $upstream->read_to_end() },
		sub { $upstream->half_close() },
	);

	$_->() for @steps[0 .. $count - 1];
	$h2->rst($id, CANCEL)->ping();
	unaccepted($listener) unless $upstream;

	# One that has heard of the end learns no more.
	return !$h2->{ending} && (!$upstream || $upstream->ending() eq ($count < 5 ? 'reset' : 'eof'));
}

sub client_resets {
	my ($h2, $size) = @_;
	my ($id, $upstream) = pair_of($h2);

	$h2->upload($id, noise($size));
	$h2->rst($id, CANCEL);
	return $upstream->ending() eq 'reset';
}

###############################################################################
