#!/usr/bin/perl

# What one tunnel may take: for how long it may stand.

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

$t->plan(24)->write_file_expand('nginx.conf', with_tls($t, <<'EOF'));

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

is(lone_worker($t), $worker, 'the worker lives');

sub between {
	my ($least, $value) = @_;
	return $value > $least - 0.05 && $value < $least + LATE || !diag("$value s in place of $least s");
}

###############################################################################
