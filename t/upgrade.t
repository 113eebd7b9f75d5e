#!/usr/bin/perl

# A binary upgrade: tunnels of the old nginx go on until their end, new ones are the new nginx's.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl socket_ssl/);

# An nginx that does not run in the background takes no signal for an upgrade.
$t->plan(13)->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        proxy_connect_response  "HTTP/1.1 200 OK\r\nX-Worker: $pid\r\n\r\n";
    }
}

EOF

certificate($t, 'localhost');
$t->run();

my $old_worker = lone_worker($t);
my $old = master_pid($t);
my $listener = listener(port(8081));
my $pid_file = $t->testdir() . '/nginx.pid';

my %way = (plain => {}, TLS => { port => port(8443), tls => plain_tls() });
my %tunnel = map { $_ => [ pair($listener, %{$way{$_}}) ] } sort keys %way;

###############################################################################

kill 'USR2', $old;
wait_until('There is no new nginx', sub { -e "$pid_file.oldbin" && -s $pid_file });

my $new_worker = lone_worker($t);
isnt($new_worker, $old_worker, 'a new worker');

kill 'QUIT', $old;
wait_for_line($t, qr/ \Q$old_worker\E#\d+: gracefully shutting down/);

for my $name (sort keys %way) {
	my ($client, $upstream, $header) = pair($listener, %{$way{$name}});
	is(header_of($header, 'X-Worker'), $new_worker, "$name: a new tunnel is the new worker's");
	is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ],
		"$name: the new tunnel");
	$_->close() for $client, $upstream;

	($client, $upstream, $header) = @{$tunnel{$name}};
	is(header_of($header, 'X-Worker'), $old_worker, "$name: an old tunnel is the old worker's");
	my @got = cross($client, $upstream, noise(1000000), noise(2000000));
	same($got[0], noise(1000000), "$name: the old tunnel, up");
	same($got[1], noise(2000000), "$name: the old tunnel, down");
}

ok(-e "$pid_file.oldbin", 'the old nginx waits for its tunnels');
$_->close() for map { @$_[0, 1] } values %tunnel;
wait_until('The old nginx did not exit', sub { !-e "$pid_file.oldbin" });

my ($client, $upstream) = pair($listener);
is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ],
	'a tunnel without the old nginx');
$_->close() for $client, $upstream;

kill 'QUIT', master_pid($t);
wait_for_exit($t);

###############################################################################
