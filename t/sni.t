#!/usr/bin/perl

# What a client sends first is held until it is known whether TLS goes where the CONNECT said
# (proxy_connect_verify_sni), or what it says of itself (proxy_connect_ssl_preread).

use warnings;
use strict;

use Test::More;
use Time::HiRes qw/ time /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Hello;
use Test::ProxyConnect::Kernel;
use Test::ProxyConnect::Program;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant { KB => 2 ** 10, MB => 2 ** 20 };

# The time that a hello may take where that is short, in seconds, and longer than that.
use constant { SOON => 0.5, LATER => 0.8 };

my $t = Test::Nginx->new()->has(qw/http/);

my $conf = with_tls($t, <<'EOC');

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;
%%MAIN%%

events {
    worker_connections  2048;
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    log_format  ends  "$status $proxy_connect_close_reason $proxy_connect_verdict "
                      "[$proxy_connect_error] $proxy_connect_bytes_sent "
                      "sni=$proxy_connect_sni alpn=$proxy_connect_alpn "
                      "protocol=$proxy_connect_ssl_protocol";
    access_log  %%TESTDIR%%/ends.log ends;

    # Wherever a CONNECT goes, the test is there.
    proxy_connect_address  127.0.0.1:%%PORT_8081%%;

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow       all;
        proxy_connect_verify_sni  on;
    }

    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow       all;
        proxy_connect_verify_sni  strict;
    }

    server {
        listen       127.0.0.1:8083;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow        all;
        proxy_connect_ssl_preread  on;
    }

    server {
        listen       127.0.0.1:8084;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
    }

    server {
        listen       127.0.0.1:8085;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow        all;
        proxy_connect_verify_sni   strict;
        proxy_connect_report_only  on;

        proxy_connect_preread_timeout  500ms;
    }

    server {
        listen       127.0.0.1:8086;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow            all;
        proxy_connect_verify_sni       on;
        proxy_connect_preread_timeout  500ms;
    }

    server {
        listen       127.0.0.1:8087;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow            all;
        proxy_connect_ssl_preread      on;
        proxy_connect_preread_timeout  500ms;
    }

    server {
        listen       127.0.0.1:8088;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow         all;
        proxy_connect_verify_sni    on;
        proxy_connect_data_timeout  500ms;
    }

    server {
        listen       127.0.0.1:8091;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow          all;
        proxy_connect_verify_sni     on;
        proxy_connect_allow_host     .example;
        proxy_connect_deny_host      evil.example;
        proxy_connect_allow_address  192.0.2.1 2001:db8::1;
    }

%%TLS%%
    server {
        listen       127.0.0.1:8089;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow       all;
        proxy_connect_verify_sni  strict;
        proxy_connect_address     127.0.0.1:%%PORT_8090%%;
    }
}

EOC

# A server that speaks TLS, and says which name it was asked for.
my $tls = !has_tls($t) || !$t->has_module('rewrite') ? '' : <<'EOC';
    server {
        listen       127.0.0.1:8090 ssl;
        server_name  good.example;

        ssl_ecdh_curve  prime256v1;

        return 200 "$ssl_server_name";
    }
EOC

# The workers of before a reload have that long.
my $main = $t->has_version('1.11.11') ? 'worker_shutdown_timeout ' . 2 * SLOWNESS . 's;' : '';

$t->plan($t->has_version('1.23.4') ? 322 : 321)->write_file_expand('nginx.conf', quietly($t, $conf =~ s/%%MAIN%%/$main/r =~ s/%%TLS%%/$tls/r, 'info'));
certificate($t, 'localhost');
$t->run();

my $worker = lone_worker($t);
my $listener = listener(port(8081));

my %port = (on => port(8080), strict => port(8082), preread => port(8083), off => port(8084),
	report => port(8085), soon => port(8086), preread_soon => port(8087), idle => port(8088),
	lists => port(8091));
my $good = 'good.example:443';

# What the access log says of a client that was refused.
my $refused = qr/^200 sni_mismatch denied:sni \[http_request_denied\] 0 /;

my ($client, $upstream, $begin, @held);
my $hello = hello(name => 'good.example');

###############################################################################
# What follows a hello, before any pipe is open

SKIP: {
	skip 'splice(2) is Linux only', 2 unless $^O eq 'linux';

	my $before = pipes($worker);
	($client, $upstream) = pair($listener, port => $port{strict}, authority => $good);
	$client->send($hello);
	same($upstream->read_bytes(length $hello), $hello, 'a hello');
	cross($client, $upstream, noise(4 * MB), '');
	cmp_ok(pipes($worker), '>', $before, 'much behind it goes through a pipe');
	$_->close() for $client, $upstream;
}

($client, $upstream) = pair($listener, port => $port{strict}, authority => $good, early => $hello);
same($upstream->read_bytes(length $hello), $hello, 'a hello behind the header');
my @got = cross($client, $upstream, noise(33 * MB + 1), noise(33 * MB + 2), 60);
same($got[0], noise(33 * MB + 1), 'what is behind it arrives whole, up');
same($got[1], noise(33 * MB + 2), 'and down');
$_->close() for $client, $upstream;

###############################################################################
# The name

for my $mode (qw/ on strict /) {
	for my $name (qw/ good.example GOOD.eXample good.example. Good.Example. /) {
		ok(passes($mode, hello(name => $name)), "$mode: $name");
	}

	for my $authority ('GOOD.Example:443', 'good.example.:443', 'Good.Example.:8443') {
		ok(passes($mode, hello(name => 'good.example'), authority => $authority),
			"$mode: a CONNECT to $authority");
	}

	for my $name (qw/ evil.example example x.good.example good.example.evil.example good.exampl /) {
		ok(is_refused($t, $mode, hello(name => $name)), "$mode: $name is another");
	}

	# What servers may read in ways of their own.
	for my $odd ([ 'an empty name', name => '' ], [ 'a zero in the name', name => "good.example\0.evil.example" ],
		[ 'a space in the name', name => 'good.example ' ], [ 'two dots', name => 'good.example..' ],
		[ 'two names', name => [ 'good.example', 'evil.example' ] ],
		[ 'the name twice', name => 'good.example', more => sni('evil.example') ])
	{
		my ($what, @options) = @$odd;
		ok(is_refused($t, $mode, hello(@options)), "$mode: $what");
	}
}

log_mark($t);
log_mark($t, 'ends.log');
is_refused($t, 'on', hello(name => 'Evil.example'));
my @lines = log_lines($t, qr/proxy_connect: /);
is(scalar @lines, 1, 'one line in the error log');
like($lines[0], qr/\[warn\] .* proxy_connect: the client sent SNI "evil\.example" to the host "good\.example", which "proxy_connect_verify_sni on" does not allow while proxying connection, client: 127\.0\.0\.1, .*request: "CONNECT good\.example:443 HTTP\/1\.1"/,
	'which has both names, the directive and its value');
is_logged($t, qr/^200 sni_mismatch denied:sni \[http_request_denied\] 0 sni=evil\.example alpn=- protocol=TLSv1\.3$/,
	'and one in the access log');

# An address has no name.
for my $authority ('192.0.2.1:443', '[2001:db8::1]:443') {
	ok(passes('on', hello(name => 'any.example'), authority => $authority), "a CONNECT to $authority, with SNI");
	ok(passes('strict', hello(name => 'any.example'), authority => $authority), 'strict: with SNI');
	ok(passes('on', hello(), authority => $authority), 'and without');
	ok(is_refused($t, 'strict', hello(), authority => $authority), 'strict: without');
}

# Lists of hosts judge it then.
for my $authority ('192.0.2.1:443', '[2001:db8::1]:443') {
	my $to = "lists: a CONNECT to $authority,";
	ok(passes('lists', hello(name => 'Any.example.'), authority => $authority), "$to a name of the list");
	ok(passes('lists', hello(), authority => $authority), "$to no name");

	for my $case ([ 'Evil.example', 'is denied by "proxy_connect_deny_host evil\.example"' ],
		[ 'any.test', 'is not allowed by "proxy_connect_allow_host"' ])
	{
		my ($name, $reason) = @$case;
		log_mark($t);
		ok(is_refused($t, 'lists', hello(name => $name), authority => $authority), "$to $name");
		like(join("\n", log_lines($t, qr/proxy_connect: /)),
			qr/\[warn\] .* proxy_connect: the client sent SNI "\L$name\E" to an address, .*"proxy_connect_verify_sni on".* $reason/,
			'the error log');
	}
}

ok(is_refused($t, 'lists', hello(name => 'other.example')), 'lists: a name of the list is not that of the CONNECT');

ok(is_refused($t, 'on', hello(name => 'any.example'), authority => '0x7f.1:443'), 'a CONNECT to 0x7f.1 is one to a name');

###############################################################################
# TLS without a name, and no TLS

ok(passes('on', hello()), 'on: no SNI');
ok(is_refused($t, 'strict', hello()), 'strict: no SNI');

for my $bytes ("GET / HTTP/1.1\x0d\x0aHost: evil.example\x0d\x0a\x0d\x0a", "SSH-2.0-OpenSSH_9.2\x0d\x0a", "\0",
	"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10")
{
	my $name = join ' ', map { sprintf '%02x', ord } split //, substr $bytes, 0, 4;
	ok(passes('on', $bytes), "on: no TLS, $name");
	ok(is_refused($t, 'strict', $bytes, told => ''), "strict: no TLS, $name");
}

# What could become TLS for a server that passes over some of it.
for my $first ([ 'an alert', "\x15\x03\x01\x00\x02\x01\x00" ], [ 'a ChangeCipherSpec', "\x14\x03\x01\x00\x01\x01" ],
	[ 'an empty record', "\x16\x03\x01\x00\x00" ], [ 'a long record', "\x16\x03\x01\x40\x01" ],
	[ 'a ServerHello', records("\2\0\0\0") ], [ 'application data', "\x17\x03\x03\x00\x01x" ])
{
	my ($what, $bytes) = @$first;
	ok(is_refused($t, 'on', $bytes . hello(name => 'evil.example')), "on: $what before a ClientHello");
	ok(is_refused($t, 'strict', $bytes . hello(name => 'good.example')), "strict: $what before a ClientHello");
}

ok(passes('on', "\x16\xff\xff" . substr hello(name => 'good.example'), 3), 'a version that no record has');
ok(is_refused($t, 'on', "\x16\x02\x00" . substr hello(name => 'evil.example'), 3), 'and another name behind it');

###############################################################################
# How it comes

for my $mode (qw/ on strict /) {
	($client, $upstream) = pair($listener, port => $port{$mode}, authority => $good);
	$client->send_in_pieces(substr($hello, 0, -1), 1);
	ok($upstream->is_quiet(0.2), "$mode: byte by byte, nothing goes on");
	$client->send(substr $hello, -1);
	same($upstream->read_bytes(length $hello), $hello, "$mode: until the last one");
	$_->close() for $client, $upstream;
}

for my $options ([ record => 1 ], [ record => 7 ], [ size => 16 * KB ], [ size => 16 * KB, record => 1 ],
	[ size => 64 * KB, record => 1000 ], [ grease => 1 ], [ ech => 1 ], [ grease => 1, ech => 1, size => 16 * KB ])
{
	my $name = "@$options";
	my $right = hello(name => 'good.example', @$options);

	ok(passes('strict', $right), "$name: the name");
	ok(passes('strict', $right, pieces => 1 + int(length($right) / 10)), "$name: in pieces");
	ok(passes('strict', '', early => $right), "$name: behind the header");
	ok(is_refused($t, 'on', hello(name => 'evil.example', @$options)), "$name: another");
}

ok(passes('strict', substr($hello, 100), early => substr $hello, 0, 100), 'a part of it behind the header');
ok(is_refused($t, 'on', '', early => hello(name => 'evil.example')), 'another name behind the header');
ok(passes('strict', $hello . noise(100 * KB)), 'much behind it');
ok(is_refused($t, 'on', hello(name => 'evil.example') . noise(100 * KB)), 'much behind another name');
ok(is_refused($t, 'on', hello(name => 'good.example', size => 64 * KB + 1)), 'a hello that is too long');
ok(is_refused($t, 'on', substr hello(name => 'good.example', size => 40 * KB, record => 1), 0, 128 * KB + 1),
	'one that goes on and on');

for my $real (qw/ chromium curl node openssl-fragments python /) {
	ok(passes('strict', recorded($real), authority => 'localhost:443'), "$real: the name");
	ok(is_refused($t, 'on', recorded($real)), "$real: another");
}

###############################################################################
# A second ClientHello, which a server of TLS 1.3 may ask for

my ($change, $alert, $data, $more) = ("\x14\x03\x03\x00\x01\x01", "\x15\x03\x03\x00\x02\x01\x5a",
	"\x17\x03\x03\x04\x00" . 'd' x 1024, 'and more');
my ($second, $evil) = map { hello(name => $_) } qw/ good.example evil.example /;

for my $mode (qw/ on strict /) {
	for my $case ([ 'at once', '' ], [ 'behind a ChangeCipherSpec', $change ], [ 'behind an alert', $alert ],
		[ 'behind early data', $data x 5 . $change, early => 1 ])
	{
		my ($what, $between, @options) = @$case;
		my $first = hello(name => 'good.example', @options);

		ok(passes($mode, $first . $between . $second . $more), "$mode: a second hello $what");
		ok(passes($mode, $first . $between . $second . $more, pieces => 99), "$mode: in pieces");
		ok(is_cut($t, $mode, $first . $between, $evil), "$mode: another name in it");
		ok(is_cut($t, $mode, $first . $between, hello(name => 'evil.example', record => 1)), "$mode: in many records");
	}
}

ok(is_refused($t, 'on', records("\1" . substr($hello, 6) . "\1" . substr($evil, 6))), 'two hellos in a record');
ok(is_cut($t, 'on', hello(), $evil), 'a name that only the second has');
ok(is_cut($t, 'strict', $hello, hello()), 'strict: and one that only the first has');
ok(is_cut($t, 'on', $hello, "\x16\x03\x03\x00\x00"), 'an empty record');

log_mark($t);
is_cut($t, 'on', $hello, $evil);
like(join("\n", log_lines($t, qr/proxy_connect: /)),
	qr/the client sent SNI "evil\.example" in a second ClientHello to the host "good\.example"/, 'the error log');

# What can't be one is not held up.
for my $case ([ 'the keys of TLS 1.2', records("\x10\0\0\1k") ], [ 'data', $data ], [ 'no TLS', 'GET / HTTP/1.1' ]) {
	my ($what, $bytes) = @$case;
	ok(passes('on', $hello . $bytes . $evil), "behind $what a hello is another's");
}

ok(passes('on', hello(name => 'good.example', old => 1) . $evil), 'TLS 1.2 has no second hello in the clear');
ok(passes('preread', $hello . $evil), 'without a check none is looked for');
ok(passes('on', hello(name => 'good.example', early => 1) . noise(MB)), 'much that is no TLS');
ok(passes('on', hello(name => 'good.example', early => 1) . $data x 1000), 'much that is like early data');
ok(passes('on', $hello . $second . $evil), 'a server asks once');

log_mark($t, 'ends.log');
ok(passes('report', $hello . $evil), 'report only: it passes');
is_logged($t, qr/ reported:sni /, 'and is told');

# A hello goes on while the second is awaited, and so does each end.
($client, $upstream) = ends('strict');
$client->send($hello);
same($upstream->read_bytes(length $hello), $hello, 'the first hello goes on');
$client->send(substr $evil, 0, 5);
ok($upstream->is_quiet(0.2), 'the beginning of a record does not');
$client->send(substr $data, 5, 1);
$client->half_close();
is($upstream->read_to_end(), substr($evil, 0, 5) . 'd', 'but when it is no hello');
$_->close() for $client, $upstream;

($client, $upstream) = ends('strict');
$client->send($hello);
$upstream->read_bytes(length $hello);
$client->half_close();
is($upstream->read_to_end() . $upstream->ending(), 'eof', 'an end behind the first hello');
$upstream->send('answer');
is($client->read_bytes(6), 'answer', 'and an answer');
$_->close() for $client, $upstream;

($client, $upstream) = ends('strict');
$client->send($hello . $change);
$upstream->read_bytes(length $hello . $change);
$client->reset();
is($upstream->read_to_end() . $upstream->ending(), 'reset', 'a reset behind the first hello');
$upstream->close();

log_mark($t, 'ends.log');
($client, $upstream) = ends('soon');
$client->send($hello);
$upstream->read_bytes(length $hello);
ok($client->is_quiet(LATER), 'who waits behind a first hello has time');
$client->send(substr $evil, 0, 50);
is($client->read_to_end(), ALERT, 'and for a second no more than for the first');
is($upstream->read_to_end(), '', 'of which nothing goes on');
is_logged($t, qr/^200 preread_timeout denied:sni /, 'the access log');
$_->close() for $client, $upstream;

# An upstream that does not read: what is held waits for it.
($client, $upstream) = ends('strict');
my $early = hello(name => 'good.example', early => 1);
my $sent = fill($client, $early . $data x 100_000);
same($upstream->read_bytes($sent), substr($early . $data x 100_000, 0, $sent), 'early data that nobody reads');
$_->close() for $client, $upstream;

###############################################################################
# What the upstream says

($client, $upstream) = pair($listener, port => $port{on}, authority => $good);
$upstream->send("220 good.example ESMTP\x0d\x0a");
is($client->read_bytes(24), "220 good.example ESMTP\x0d\x0a", 'a server that speaks first');
$client->send("EHLO client\x0d\x0a");
is($upstream->read_bytes(13), "EHLO client\x0d\x0a", 'and its client');
$_->close() for $client, $upstream;

($client, $upstream) = pair($listener, port => $port{on}, authority => $good);
$client->send(substr $hello, 0, 50);
$upstream->send(noise(4 * MB));
same($client->read_bytes(4 * MB), noise(4 * MB), 'much from the upstream while the client is held');
$client->send(substr $hello, 50);
same($upstream->read_bytes(length $hello), $hello, 'and then the client');
$_->close() for $client, $upstream;

###############################################################################
# Time

for my $mode (qw/ soon preread_soon /) {
	($client, $upstream) = pair($listener, port => $port{$mode}, authority => $good);
	ok($client->is_quiet(LATER), "$mode: a client that says nothing has time");
	$client->send(hello(name => 'good.example'));
	same($upstream->read_bytes(length $hello), $hello, "$mode: and speaks then");
	$_->close() for $client, $upstream;
}

($client, $upstream) = pair($listener, port => $port{soon}, authority => $good);
ok($client->is_quiet(LATER), 'who waits');
$client->send(hello(name => 'evil.example'));
is($client->read_to_end(), ALERT, 'is judged all the same');
is($upstream->read_to_end(), '', 'before any byte goes on');
$_->close() for $client, $upstream;

log_mark($t);
log_mark($t, 'ends.log');
$begin = time();
($client, $upstream) = pair($listener, port => $port{soon}, authority => $good);
$client->send(substr $hello, 0, 50);
is($client->read_to_end(), ALERT, 'half a hello: the client is told when its time is over');
cmp_ok(time() - $begin, '>', SOON - 0.05, 'not earlier');
is($upstream->read_to_end() . $upstream->ending(), 'eof', 'the upstream got nothing');
is_logged($t, qr/^200 preread_timeout denied:sni \[http_request_denied\] 0 sni=- alpn=- protocol=-$/, 'the access log');
ok(wait_for_line($t, qr/\[warn\] .*the client sent an unfinished ClientHello within "proxy_connect_preread_timeout" to the host "good\.example", which "proxy_connect_verify_sni on" does not allow/),
	'the error log');
$_->close() for $client, $upstream;

log_mark($t, 'ends.log');
($client, $upstream) = pair($listener, port => $port{preread_soon}, authority => $good);
$client->send(substr $hello, 0, 50);
is($upstream->read_bytes(50), substr($hello, 0, 50), 'half a hello without a check: it goes on');
is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ], 'and so does the tunnel');
$_->close() for $client, $upstream;
is_logged($t, qr/^200 \S+ allowed \[\] 52 sni=- alpn=- protocol=-$/, 'its name is not known');

# The time runs once.
($client, $upstream) = pair($listener, port => $port{soon}, authority => $good);
$client->send($hello);
$upstream->read_bytes(length $hello);
ok($client->is_quiet(LATER), 'a tunnel that stands outlives the time');
is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ], 'and goes on');
$_->close() for $client, $upstream;

log_mark($t, 'ends.log');
($client, $upstream) = pair($listener, port => $port{idle}, authority => $good);
$client->send(substr $hello, 0, 50);
is($client->read_to_end() . $upstream->read_to_end(), '', 'the data timeout holds while the client is held');
is_logged($t, qr/^200 timeout /, 'and is told');
$_->close() for $client, $upstream;

###############################################################################
# Ends

for my $mode (qw/ on strict preread /) {
	($client, $upstream) = pair($listener, port => $port{$mode}, authority => $good);
	$client->half_close();
	is($upstream->read_to_end() . $upstream->ending(), 'eof', "$mode: a client that says nothing may end");
	$upstream->send('answer');
	is($client->read_bytes(6), 'answer', "$mode: and still be answered");
	$_->close() for $client, $upstream;

	($client, $upstream) = pair($listener, port => $port{$mode}, authority => $good);
	$client->send($hello)->half_close();
	same($upstream->read_to_end(), $hello, "$mode: a hello and an end");
	$upstream->send('answer');
	is($client->read_bytes(6), 'answer', "$mode: and an answer");
	$_->close() for $client, $upstream;

	# The end is there before anything is read.
	is(ended_early($mode, $hello), "$hello answer", "$mode: a hello behind the header, and an end");

	log_mark($t, 'ends.log');
	($client, $upstream) = pair($listener, port => $port{$mode}, authority => $good);
	$client->send(substr $hello, 0, 50);
	$client->reset();
	is($upstream->read_to_end() . $upstream->ending(), 'reset', "$mode: a reset while half a hello is held");
	is_logged($t, qr/^200 client_reset allowed \[\] 0 sni=- /, "$mode: is told");
	$upstream->close();

	log_mark($t, 'ends.log');
	($client, $upstream) = pair($listener, port => $port{$mode}, authority => $good);
	$client->send(substr $hello, 0, 50);
	$upstream->send('last words');
	$client->read_bytes(10);
	$upstream->reset();
	is($client->read_to_end() . $client->ending(), 'reset', "$mode: a reset of the upstream meanwhile");
	is_logged($t, qr/^200 upstream_reset allowed \[connection_terminated\] 0 sni=- /, "$mode: is told");
	$client->close();

	($client, $upstream) = pair($listener, port => $port{$mode}, authority => $good);
	$client->send(substr $hello, 0, 50);
	$upstream->send('all');
	$upstream->half_close();
	is($client->read_to_end(), 'all', "$mode: an end of the upstream meanwhile");
	$client->send(substr $hello, 50);
	same($upstream->read_bytes(length $hello), $hello, "$mode: and the hello goes on");
	$_->close() for $client, $upstream;
}

for my $mode (qw/ on strict /) {
	log_mark($t, 'ends.log');
	($client, $upstream) = pair($listener, port => $port{$mode}, authority => $good);
	$client->send(substr $hello, 0, 50)->half_close();
	is($client->read_to_end(), ALERT, "$mode: half a hello and an end");
	is($upstream->read_to_end() . $upstream->ending(), 'eof', "$mode: the upstream got nothing");
	is_logged($t, $refused, "$mode: is told");
	$_->close() for $client, $upstream;
}

($client, $upstream) = pair($listener, port => $port{preread}, authority => $good);
$client->send(substr $hello, 0, 50)->half_close();
is($upstream->read_to_end(), substr($hello, 0, 50), 'without a check half a hello goes on');
$_->close() for $client, $upstream;

# The client has heard the end already, and is in the middle of nothing.
($client, $upstream) = pair($listener, port => $port{on}, authority => $good);
$upstream->send('all')->half_close();
is($client->read_to_end(), 'all', 'an upstream that has ended');
$client->send(hello(name => 'evil.example'));
is($upstream->read_to_end() . $upstream->ending(), 'eof', 'gets nothing of a client that is refused then');
$_->close() for $client, $upstream;

###############################################################################
# What is told of it

for my $case ([ recorded('chromium'), 'sni=localhost alpn=h2,http/1.1 protocol=TLSv1.3' ],
	[ recorded('curl'), 'sni=localhost alpn=h2,http/1.1 protocol=TLSv1.3' ],
	[ recorded('openssl-tls10'), 'sni=localhost alpn=- protocol=TLSv1' ],
	[ recorded('openssl-no-sni'), 'sni=- alpn=acme-tls/1 protocol=TLSv1.3' ],
	[ hello(name => 'Any.Example.', alpn => [ "\x1a\x1a", 'h2', 'a"b', "a\nb", 'h3' ]),
		'sni=any.example alpn=h2,h3 protocol=TLSv1.3' ],
	[ hello(name => "a\"b\n200"), 'sni=- alpn=- protocol=-' ],
	[ "\x16\x03\x01\x00\x05\x01\x00\x00\x01x", 'sni=- alpn=- protocol=-' ],
	[ "\x15\x03\x01\x00\x02\x01\x00", 'sni=- alpn=- protocol=-' ],
	[ 'no TLS', 'sni=- alpn=- protocol=-' ])
{
	my ($bytes, $told) = @$case;
	log_mark($t, 'ends.log');
	ok(passes('preread', $bytes), "preread: $told");
	is_logged($t, qr/^200 \S+ allowed \[\] \d+ \Q$told\E$/, 'the access log');
}

log_mark($t, 'ends.log');
ok(passes('off', recorded('chromium')), 'off');
is_logged($t, qr/ sni=- alpn=- protocol=-$/, 'nothing is told');

log_mark($t, 'ends.log');
ok(passes('on', hello(name => 'good.example', alpn => [ 'h2' ])), 'with a check');
is_logged($t, qr/ allowed \[\] \d+ sni=good\.example alpn=h2 protocol=TLSv1\.3$/, 'all is told, too');

# Only told.
for my $case ([ 'another name', hello(name => 'evil.example'), 'SNI "evil\.example"' ],
	[ 'no TLS', 'hello', 'the client did not send TLS' ], [ 'a ServerHello', records("\2\0\0\0"), 'another TLS message' ],
	[ 'half a hello', substr($hello, 0, 50), 'an unfinished ClientHello within "proxy_connect_preread_timeout"' ])
{
	my ($what, $bytes, $reason) = @$case;
	log_mark($t);
	log_mark($t, 'ends.log');
	ok(passes('report', $bytes), "report only: $what passes");
	is_logged($t, qr/^200 \S+ reported:sni \[\] /, "$what: the access log");
	like(join("\n", log_lines($t, qr/proxy_connect: /)),
		qr/\[warn\] .*$reason.* "good\.example", which "proxy_connect_verify_sni strict" does not allow, let pass by "proxy_connect_report_only"/,
		"$what: the error log");
}

###############################################################################
# Over TLS

SKIP: {
	skip NO_TLS, 5 unless has_tls($t);
	my %tls = (port => port(8443), tls => plain_tls());

	ok(passes('on', $hello, %tls), 'TLS: the name');
	ok(passes('on', hello(name => 'good.example', size => 16 * KB, record => 3), %tls), 'TLS: in many records');
	ok(is_refused($t, 'on', hello(name => 'evil.example'), %tls), 'TLS: another');
	ok(is_refused($t, 'on', hello(name => 'evil.example') . noise(100 * KB), %tls), 'TLS: another, and much behind it');

	($client, $upstream) = pair($listener, %tls, authority => $good);
	send_close_notify($client);
	is($upstream->read_to_end() . $upstream->ending(), 'eof', 'TLS: an end before a hello');
	$_->close() for $client, $upstream;
}

###############################################################################
# Clients, and a server that speaks TLS

SKIP: {
	skip NO_TLS, ($t->has_version('1.23.4') ? 10 : 9) unless has_tls($t) && $t->has_module('rewrite');

	for my $case ([ 'good.example', qr/^HTTP\/1\.1 200 .*\x0d\x0agood\.example$/s ], [ 'evil.example', qr/access denied/ ]) {
		my ($name, $answer) = @$case;

		like(by_perl($name), $answer, "IO::Socket::SSL: $name");

		# Servers before 1.23.4 have no TLS 1.3 unless told.
		for my $version ('-tls1_2', $t->has_version('1.23.4') || $name ne 'good.example' ? '-tls1_3' : ()) {
			my ($out, $err) = run_program($t, ['openssl', 's_client', '-proxy', '127.0.0.1:' . port(8089), '-connect', $good,
				'-servername', $name, $version, '-ign_eof'], input => input($t));
			like("$out$err", $name =~ /^good/ ? qr/\x0d\x0agood\.example/ : qr/alert access denied/, "openssl $version: $name");
		}
	}

	my ($out) = run_program($t, ['curl', '-sk', '-x', 'http://127.0.0.1:' . port(8089), "https://$good/"]);
	is($out, 'good.example', 'curl');

	my @not = ('curl', '-sk', '-x', 'http://127.0.0.1:' . port(8089), '-H', 'Host: good.example',
		'--connect-to', "evil.example:443:$good", 'https://evil.example/');
	is((run_program($t, \@not))[2], 35, 'curl, elsewhere than the CONNECT');

	# The client's first key is of a group that the server doesn't have.
	skip 'no TLS 1.3', 2 unless $t->has_version('1.23.4');
	like(retried('good.example', 'good.example'), qr/good\.example$/, 'a server that asks for a second hello');
	is(retried('good.example', 'evil.example'), 'alert access denied', 'in which there is another name');
}

###############################################################################
# Many that are held

my $memory = memory_of($worker);
my $half = substr hello(name => 'good.example', size => 40 * KB, record => 1), 0, 120 * KB;

for (1 .. 100) {
	my ($client, $upstream) = pair($listener, port => $port{on}, authority => $good);
	$client->send($half);
	push @held, [ $client, $upstream ];
}

# A tunnel behind them has its turn when theirs is over.
ok(passes('on', $hello), 'beside a hundred that are held: another');
cmp_ok(memory_of($worker) - $memory, '<', 100 * 400, 'they take what has a bound');
is(scalar(grep { !$_->[1]->is_quiet(0) } @held), 0, 'nothing of them goes on');
$_->close() for map { @$_ } @held;
ok(passes('on', $hello), 'and after them');

###############################################################################
# A reload

@held = map { [ (pair($listener, port => $port{on}, authority => $good))[0, 1] ] } 1 .. 3;
$_->[0]->send(substr $hello, 0, 50) for @held;

kill 'HUP', master_pid($t);
wait_until('no new worker', sub { my @new = worker_pids($t); @new == 1 && $new[0] != $worker });

($client, $upstream) = @{shift @held};
$client->send(substr $hello, 50);
same($upstream->read_bytes(length $hello), $hello, 'a reload: who is held goes on');
$_->close() for $client, $upstream;

($client, $upstream) = @{shift @held};
$client->send('x' x length $hello);
is($client->read_to_end(), ALERT, 'a reload: or is refused');
$_->close() for $client, $upstream;

SKIP: {
	skip 'no worker_shutdown_timeout', 2 unless $t->has_version('1.11.11');

	log_mark($t, 'ends.log');
	($client, $upstream) = @{shift @held};
	is($client->read_to_end() . $upstream->read_to_end(), '', 'a shutdown: or is closed');
	is_logged($t, qr/^200 shutdown allowed \[\] 0 sni=- /, 'and told so');
	$_->close() for $client, $upstream;
}

###############################################################################

# Both ends of a tunnel of that server.
sub ends {
	my ($mode, %options) = @_;
	return pair($listener, port => $port{$mode}, authority => $good, %options);
}

# Whether a client is closed with an alert where it sends something, and the upstream gets what is before
# that and no more.
sub is_cut {
	my ($t, $mode, $bytes, $last) = @_;
	my ($client, $upstream) = ends($mode);

	eval { $client->send($bytes . $last) };
	my $got = eval { $client->read_to_end() } // $@;
	my $passed = eval { $upstream->read_to_end() } // $@;
	my $ending = $upstream->ending();
	$_->close() for $client, $upstream;

	return $got eq ALERT && $passed eq $bytes && $ending eq 'eof'
		|| !diag('got "' . $got =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger . '", the upstream '
			. length($passed) . ' bytes of ' . length($bytes) . ", then $ending");
}

# Whether the upstream gets what a client sends, early bytes included, and is heard then.
sub passes {
	my ($mode, $bytes, %options) = @_;
	my $size = delete $options{pieces};
	my $all = ($options{early} // '') . $bytes;
	my ($client, $upstream) = ends($mode, %options);

	$size ? $client->send_in_pieces($bytes, $size) : $client->send($bytes);
	my $got = eval { $upstream->read_bytes(length $all) } // $@;
	my $answer = eval { $upstream->send('answer'); $client->read_bytes(6) } // $@;
	$_->close() for $client, $upstream;

	return $got eq $all && $answer eq 'answer' || !diag("got " . length($got) . " bytes, and: $answer");
}

# Whether a client is closed with an alert, or what is "told" in its place, and the upstream gets nothing.
sub is_refused {
	my ($t, $mode, $bytes, %options) = @_;
	my $told = delete $options{told} // ALERT;
	log_mark($t, 'ends.log');
	my ($client, $upstream) = ends($mode, %options);

	# It is closed while it still sends.
	eval { $client->send($bytes) };
	my $got = eval { $client->read_to_end() } // $@;
	my $leaked = eval { $upstream->read_to_end() . $upstream->ending() } // $@;
	$_->close() for $client, $upstream;

	return $got eq $told && $leaked eq 'eof' && eval { wait_for_line($t, $refused, 'ends.log') }
		|| !diag('got "' . $got =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ger
			. "\", the upstream \"$leaked\", the log:\n", join "\n", log_lines($t, qr/^/, 'ends.log'));
}

# What arrives of bytes behind the header with an end of file behind them, and of the answer.
sub ended_early {
	my ($mode, $bytes) = @_;
	my $client = knock($listener, port => $port{$mode}, authority => $good, early => $bytes);
	$client->half_close();

	my $upstream = accept_end($listener);
	my $got = $upstream->read_to_end();
	$client->read_header();
	$upstream->send(' answer');
	$got .= $client->read_bytes(7);
	$_->close() for $client, $upstream;

	return $got;
}

# An extension with a name, behind others.
sub sni {
	my ($name) = @_;
	return pack 'n n n C n/a*', 0, 5 + length $name, 3 + length $name, 0, $name;
}

# What a client of TLS gets in a tunnel to the server that speaks it, or why it gets nothing.
sub by_perl {
	my ($name) = @_;
	my $client = tunnel($good, port => port(8089));

	eval { $client->start_tls(SSL_hostname => $name) } or return $@;
	$client->send("GET / HTTP/1.1\x0d\x0aHost: good.example\x0d\x0aConnection: close\x0d\x0a\x0d\x0a");
	my $answer = $client->read_to_end();
	$client->close();
	return $answer;
}

# What a client gets that names one host in its first hello, and another in the second.
sub retried {
	my ($first, $second) = @_;
	my $client = tunnel($good, port => port(8089));
	my ($context, $bio) = (Net::SSLeay::CTX_new(), Net::SSLeay::BIO_s_mem());
	Net::SSLeay::CTX_set1_groups_list($context, 'X25519:P-256') or die "No groups\n";

	my ($ssl, $in, $out) = (Net::SSLeay::new($context), map { Net::SSLeay::BIO_new($bio) } 1 .. 2);
	Net::SSLeay::set_bio($ssl, $in, $out);
	Net::SSLeay::set_tlsext_host_name($ssl, $first);
	Net::SSLeay::set_connect_state($ssl);

	my $flight = sub {
		my $bytes = Net::SSLeay::BIO_read($out, Net::SSLeay::BIO_pending($out) || 1);
		$client->send($bytes) if defined $bytes;
		Net::SSLeay::set_tlsext_host_name($ssl, $second);
	};

	while (Net::SSLeay::do_handshake($ssl) != 1) {
		my ($error) = (Net::SSLeay::ERR_error_string(Net::SSLeay::ERR_get_error()) =~ /(alert access denied)/);
		return $error if $error;
		$flight->();
		Net::SSLeay::BIO_write($in, $client->read_some() // return 'the end');
	}

	Net::SSLeay::write($ssl, "GET / HTTP/1.0\x0d\x0aHost: good.example\x0d\x0a\x0d\x0a");
	$flight->();
	Net::SSLeay::BIO_write($in, $client->read_to_end());

	my $answer = '';
	while (defined(my $bytes = Net::SSLeay::read($ssl))) {
		last if $bytes eq '';
		$answer .= $bytes;
	}

	return $answer;
}

# A request for a program's standard input.
sub input {
	my ($t) = @_;
	$t->write_file('request', "GET / HTTP/1.1\x0d\x0aHost: good.example\x0d\x0aConnection: close\x0d\x0a\x0d\x0a");
	return 'request';
}
