#!/usr/bin/perl

# CONNECT beside lua-nginx-module over TLS: Lua that has its say in the handshake, and takes its time
# there.

use warnings;
use strict;

use POSIX ();
use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Lua;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# A core that is not patched for it can't wait within a handshake.
my $t = Test::Nginx->new()->has(qw/http http_ssl socket_ssl_sni rewrite openresty/);
lua_or_skip($t)->plan(46)->write_file_expand('nginx.conf', <<'EOT');

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  line  "$status $request_method $ssl_server_name $connect_port";
    access_log  %%TESTDIR%%/line.log line;

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    # a GET is in the log once it is answered
    lingering_close  off;

    server {
        listen       127.0.0.1:8443 ssl;
        listen       127.0.0.1:8444 ssl proxy_protocol;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        ssl_certificate_by_lua_block {
            local name = require("ngx.ssl").server_name()
            if name == "sleep" then
                ngx.log(ngx.NOTICE, "waiting")
                ngx.sleep(0.05)
            elseif name == "socket" then
                local socket = ngx.socket.tcp()
                assert(socket:connect("127.0.0.1", %%PORT_8082%%))
                socket:send("question")
                assert(socket:receive(8) == "question")
                socket:close()
            elseif name == "error" then
                ngx.sleep(0.05)
                error("a secret of Lua")
            elseif name == "exit" then
                ngx.sleep(0.05)
                ngx.exit(ngx.ERROR)
            elseif name == "long" then
                ngx.log(ngx.NOTICE, "waiting")
                ngx.sleep(0.3)
            end
        }

        location / {
            return 200 "hello";
        }
    }
}

EOT

certificate($t, 'localhost');
upstream($t, echo(), port(8082));
$t->run();

my $listener = listener(port(8081));
my $worker = lone_worker($t);
my %request = (GET => "GET / HTTP/1.1\x0d\x0aHost: x\x0d\x0a\x0d\x0a");

# What all names share is made with the first.
logged($t, sub { through($listener, way_to('socket')) });
my $before = steady_fds($worker);

###############################################################################
# Handshakes that Lua has a say in

for my $name (qw/ nothing sleep socket /) {
	for my $proxy (0, 1) {
		my $case = $name . ($proxy ? ', PROXY protocol' : '');

		# A handshake that is over within its first call comes now and then.
		for (1 .. 5) {
			is(logged($t, sub {
				my ($client, $upstream) = pair($listener, way_to($name, $proxy),
					early => 'early');
				$upstream->read_bytes(5) eq 'early' or die "$case: the early bytes are lost\n";
				my @got = cross($client, $upstream, noise(100_000), noise(100_000));
				grep({ $_ ne noise(100_000) } @got) and die "$case: bytes are lost\n";
				$_->close() for $client, $upstream;
			}), "200 CONNECT $name " . port(8081), "$case: a tunnel, $_");
		}
	}

	my $client = client(way_to($name));
	log_mark($t, 'line.log');
	$client->send($request{GET});
	$client->read_header();
	is($client->read_bytes(5), 'hello', "$name: GET");
	wait_for_line($t, qr/ GET /, 'line.log');
	is(logged($t, sub {
		$client->send(connect_request('127.0.0.1:' . port(8081)));
		my $upstream = accept_end($listener);
		like($client->read_header(), qr/ 200 /, "$name: CONNECT behind a GET");
		is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ],
			"$name: the tunnel");
		$_->close() for $client, $upstream;
	}), "200 CONNECT $name " . port(8081), "$name: the access log");
}

###############################################################################
# Handshakes that fail, and clients that leave

for my $name (qw/ error exit /) {
	log_mark($t);
	ok(!eval { client(way_to($name)); 1 }, "$name: no handshake");
	wait_for_line($t, $name eq 'error' ? qr/a secret of Lua/ : qr/cert cb error/i);
}

log_mark($t);
my $pid = fork() // die "Can't fork: $!\n";
if ($pid == 0) {
	eval { client(way_to('long')) };
	POSIX::_exit(0);
}
wait_for_line($t, qr/waiting/);
kill 'KILL', $pid;
waitpid $pid, 0;
is(settled_fds($worker, $before), $before, 'a client that leaves: nothing is left open');

is(unaccepted($listener), 0, 'nobody connects for them');

###############################################################################

# Options of a client that asks for a name.
sub way_to {
	my ($name, $proxy) = @_;
	return (
		port => port($proxy ? 8444 : 8443),
		$proxy ? (proxy => "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\x0d\x0a") : (),
		tls => { %{plain_tls()}, SSL_hostname => $name },
	);
}

###############################################################################
