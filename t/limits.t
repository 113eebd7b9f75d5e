#!/usr/bin/perl

# What one tunnel may take: for how long it may stand, and how many bytes it may move.

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

# What the configuration has for the time of a tunnel, in seconds, and how late its end may be.
use constant { LIFETIME => 0.5, LATE => 1.5 * SLOWNESS };

my $t = Test::Nginx->new()->has(qw/http/);

$t->plan(24 + 6 * 9 + 23)->write_file_expand('nginx.conf', with_tls($t, <<'EOF'));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    log_format  ends  "$server_port $status $proxy_connect_close_reason "
                      "up=$proxy_connect_bytes_sent down=$proxy_connect_bytes_received "
                      "error=$proxy_connect_error";
    access_log  %%TESTDIR%%/ends.log ends;

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        proxy_connect_tunnel_time  $http_tunnel_time;

        proxy_connect_max_bytes    $http_quota;
        proxy_connect_max_bytes    $http_quota_up up;
        proxy_connect_max_bytes    $http_quota_down down;
    }

    proxy_connect_max_bytes  10 up;
    proxy_connect_max_bytes  20 both;

    server {
        listen       127.0.0.1:8081;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow        all;
        proxy_connect_ssl_preread  on;
    }

    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow      all;
        proxy_connect_max_bytes  1k down;
    }

    server {
        listen       127.0.0.1:8083;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow         all;
        proxy_connect_max_bytes     4 down;
        proxy_connect_data_timeout  500ms;
    }
}

EOF

certificate($t, 'localhost');
$t->run();

my $worker = lone_worker($t);
my $listener = listener(port(8090));

my ($client, $upstream, $begin);

###############################################################################
# For how long a tunnel stands

for my $way ([ 'plain' ], [ 'TLS', port => port(8443), tls => plain_tls() ]) {
	my ($name, %options) = @$way;

	SKIP: {
		skip NO_TLS, 6 if $options{tls} && !has_tls($t);

		log_mark($t, $_) for 'error.log', 'ends.log';

		$begin = time();
		($client, $upstream) = pair($listener, fields => [ 'Tunnel-Time: 500ms' ], %options);
		is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ], "$name: the tunnel");
		is($client->ending(), 'eof', "$name: its time is over, the client is let go");
		ok(between(LIFETIME, time() - $begin), "$name: in time");
		is($upstream->ending(), 'eof', "$name: so is the upstream");
		is_logged($t, qr/^\d+ 200 lifetime up=2 down=4 error=$/, "$name: the access log");
		like(wait_for_line($t, qr/proxy_connect: the tunnel stood/),
			qr/\[info\] \S+ \*\d+ proxy_connect: the tunnel stood for as long as it may, so it is closed while proxying connection, client: /,
			"$name: the log");
	}
}

# Whatever moves, and to whoever does not read.
log_mark($t, 'ends.log');
$begin = time();
($client, $upstream) = pair($listener, fields => [ 'Tunnel-Time: 500ms' ]);
my $rounds = 0;
$rounds++ while eval { $client->send('.'); $upstream->read_bytes(1) eq '.' };
ok(between(LIFETIME, time() - $begin), 'a busy tunnel ends in time');
is_logged($t, qr/^\d+ 200 lifetime up=$rounds /, 'a busy tunnel: the access log');
$_->close() for $client, $upstream;

log_mark($t, 'ends.log');
$begin = time();
($client, $upstream) = pair($listener, fields => [ 'Tunnel-Time: 500ms' ]);
$client->shrink_buffers(65536);
eval { fill($upstream, noise(64 * MB), 0.1) };
is_logged($t, qr/^\d+ 200 lifetime /, 'a client that reads nothing');
ok(between(LIFETIME, time() - $begin), 'a client that reads nothing: in time');
$_->close() for $client, $upstream;

log_mark($t, 'ends.log');
($client, $upstream) = pair($listener, fields => [ 'Tunnel-Time: 500ms' ]);
$_->close() for $client, $upstream;
is_logged($t, qr/^\d+ 200 (?:client|upstream)_(?:eof|reset) /, 'a tunnel that ends before');

# No limit: none is set, 0, one beyond all times, or no time at all.
log_mark($t);
my @tunnels = map { [ $_, pair($listener, fields => $_ eq '' ? [] : [ "Tunnel-Time: $_" ]) ] }
	'', '0', '4000w', 'soon';
ok($tunnels[0][1]->is_quiet(LIFETIME + 0.2), 'a tunnel without that limit stays');

for my $tunnel (@tunnels) {
	(my $time, $client, $upstream) = @$tunnel;
	is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ], "\"$time\" is no limit");
	$_->close() for $client, $upstream;
}

like(join("\n", log_lines($t, qr/proxy_connect: /)),
	qr/^\S+ \S+ \[error\] \S+ \*\d+ proxy_connect: invalid time "soon" of "proxy_connect_tunnel_time", the tunnel goes without that limit while [^\n]+$/,
	'only garbage is worth a line');

###############################################################################
# How many bytes it moves

# Behind the quota come more bytes, in the same piece or later, few or many.
for my $way (map { [ "plain, $_", $_ ], [ "TLS, $_", $_, port => port(8443), tls => plain_tls() ] }
	1, 32768, 3 * MB + 1)
{
	my ($name, $quota, %options) = @$way;
	my $bytes = noise($quota + 1);

	SKIP: {
		skip NO_TLS, 9 if $options{tls} && !has_tls($t);

		for my $direction ('down', 'up') {
			log_mark($t, $_) for 'error.log', 'ends.log';
			($client, $upstream) = pair($listener, fields => [ "Quota-$direction: $quota" ], %options);
			my ($from, $to) = $direction eq 'up' ? ($client, $upstream) : ($upstream, $client);

			is_deeply([ cross($client, $upstream, $direction eq 'up' ? ('', 'back') : ('back', '')) ],
				$direction eq 'up' ? [ '', 'back' ] : [ 'back', '' ], "$name $direction: the other way has none");
			same((cross($from, $to, substr($bytes, 0, $quota), ''))[0], substr($bytes, 0, $quota),
				"$name $direction: all of it");
			eval { $from->send(substr $bytes, $quota) };
			is($to->read_to_end(), '', "$name $direction: and not a byte more");
			my $moved = $direction eq 'up' ? "up=$quota down=4" : "up=4 down=$quota";
			is_logged($t, qr/^\d+ 200 quota $moved error=$/, "$name $direction: the access log");
			$_->close() for $client, $upstream;
		}

		like(wait_for_line($t, qr/proxy_connect: the tunnel moved/),
			qr/\[info\] \S+ \*\d+ proxy_connect: the tunnel moved as many bytes as it may, so it is closed while proxying connection, client: /,
			"$name: the log");
	}
}

# All that is within the quota arrives, also where the client goes on to send, which turns a close into a reset.
log_mark($t, 'ends.log');
($client, $upstream) = pair($listener, fields => [ 'Quota-Down: ' . MB ]);
fill_now($client);
eval { fill($upstream, noise(4 * MB)) };
same($client->read_bytes(MB), noise(MB), 'a client that goes on to send');
eval { $upstream->read_to_end() };
is_logged($t, qr/^\d+ 200 quota up=\d+ down=${\ MB} /, 'a client that goes on to send: the access log');
$_->close() for $client, $upstream;

# Both ways together.
log_mark($t, 'ends.log');
($client, $upstream) = pair($listener, fields => [ 'Quota: 100k' ]);
is_deeply([ map { length } cross($client, $upstream, noise(60000), noise(42400)) ], [ 60000, 42400 ], 'both: all of it');
$client->send('.');
is($upstream->read_to_end() . $client->read_to_end(), '', 'both: and not a byte more');
is_logged($t, qr/^\d+ 200 quota up=60000 down=42400 /, 'both: the access log');
$_->close() for $client, $upstream;

# Who uses up what he has, and no more, ends as anybody does.
log_mark($t, 'ends.log');
($client, $upstream) = pair($listener, fields => [ 'Quota-Up: 8', 'Quota-Down: 6' ], early => 'que');
$client->send('stion')->half_close();
is($upstream->read_to_end(), 'question', 'just as much: up');
$upstream->send('answer')->half_close();
is($client->read_to_end(), 'answer', 'just as much: down');
is_logged($t, qr/^\d+ 200 client_eof up=8 down=6 /, 'just as much: the access log');
$_->close() for $client, $upstream;

# What nginx read behind the CONNECT counts.
log_mark($t, 'ends.log');
($client, $upstream) = pair($listener, fields => [ 'Quota-Up: 8' ], early => 'question');
is($upstream->read_bytes(8), 'question', 'early bytes');
$client->send('.');
is($upstream->read_to_end(), '', 'early bytes: and not a byte more');
is_logged($t, qr/^\d+ 200 quota up=8 down=0 /, 'early bytes: the access log');
$_->close() for $client, $upstream;

log_mark($t, 'ends.log');
($client, $upstream) = pair($listener, fields => [ 'Quota-Up: 8' ], early => 'question?');
is($upstream->read_to_end(), 'question', 'too many early bytes');
is_logged($t, qr/^\d+ 200 quota up=8 down=0 /, 'too many early bytes: the access log');
$_->close() for $client, $upstream;

# So do what was held until it was known what it is, and what http says holds for both.
log_mark($t, 'ends.log');
($client, $upstream) = pair($listener, port => port(8081));
$client->send('no TLS, but more than ten bytes');
is($upstream->read_to_end(), 'no TLS, bu', 'bytes that were held');
is_logged($t, qr/^\d+ 200 quota up=10 down=0 /, 'bytes that were held: the access log');
$_->close() for $client, $upstream;

# Who sets one of the ways sets all.
($client, $upstream) = pair($listener, port => port(8082));
is_deeply([ map { length } cross($client, $upstream, noise(100), noise(1024)) ], [ 100, 1024 ], 'one of its own');
$upstream->send('.');
is($client->read_to_end(), '', 'one of its own: and not a byte more');
$_->close() for $client, $upstream;

# An upstream that does not take what was within the quota is waited for, for as long as any.
log_mark($t, 'ends.log');
($client, $upstream) = pair($listener, port => port(8083));
fill_now($client);
$upstream->send('more than');
is($client->read_bytes(4), 'more', 'an upstream that reads nothing');
is_logged($t, qr/^\d+ 200 quota up=\d+ down=4 /, 'an upstream that reads nothing: the access log');
$_->close() for $client, $upstream;

# A reset where the quota is used up.
log_mark($t, 'ends.log');
($client, $upstream) = pair($listener, fields => [ 'Quota-Down: 1000' ]);
cross($client, $upstream, '', noise(1000));
$upstream->reset();
is($client->ending(), 'reset', 'a reset');
is_logged($t, qr/^\d+ 200 upstream_reset up=0 down=1000 /, 'a reset: the access log');
$client->close();

log_mark($t);
($client, $upstream) = pair($listener, fields => [ 'Quota: much', 'Quota-Up: 0', 'Quota-Down: -1' ]);
is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ], 'garbage and 0: no quota');
$_->close() for $client, $upstream;
is_deeply([ map { /: (invalid size .*) while / } wait_for_lines($t, 2, qr/invalid size/) ],
	[ map { qq/invalid size "$_" of "proxy_connect_max_bytes", the tunnel goes without that limit/ } '-1', 'much' ],
	'garbage: the log');

###############################################################################

is(lone_worker($t), $worker, 'the worker lives');

sub between {
	my ($least, $value) = @_;
	return $value > $least - 0.05 && $value < $least + LATE || !diag("$value s in place of $least s");
}

###############################################################################
