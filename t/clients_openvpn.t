#!/usr/bin/perl

# OpenVPN through the proxy, between two processes without a network device: what a side would send
# there is dropped, but not what the sides say to each other.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Program;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/);

my $openvpn = installed('openvpn') or plan(skip_all => 'no OpenVPN found');

$t->plan(15)->write_file_expand('nginx.conf', ipv4_only($t, <<'EOC'));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    resolver  127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    log_format  line  "$request|$status";
    access_log  %%TESTDIR%%/tunnel.log line;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  %%PORT_8082%%;
    }
}

EOC

certificate($t, $_) for qw/ vpn.example client.example /;
name_server($t, 8980, 'vpn.example' => '127.0.0.1');
$t->run();

###############################################################################

my $server = start_program($t, [ $openvpn, '--tls-server', '--dh', 'none',
	'--proto', 'tcp-server', '--local', '127.0.0.1', '--lport', port(8082),
	arguments($t, 'vpn.example', 'client.example') ], 'server.log');
wait_for_line($t, qr/Listening for incoming TCP connection/, 'server.log');

my $client = start_program($t, client_of($t, 'vpn.example', port(8082)), 'client.log');

for (
	[ 'client', 'vpn.example' ],
	[ 'server', 'client.example' ],
) {
	my ($side, $peer) = @$_;

	ok(eval { wait_for_line($t, qr/VERIFY OK: .*CN=\Q$peer\E$/, "$side.log") },
		"the $side knows its peer by its certificate");
	ok(eval { wait_for_line($t, qr/Initialization Sequence Completed/, "$side.log") },
		"the $side is ready");
	ok(eval { wait_for_line($t, qr/RECEIVED PING PACKET/, "$side.log") },
		"the $side gets packets");
}

is(end_program($client), 0, 'the client ends');
is(end_program($server), 0, 'the server ends');
is_line($t, 'CONNECT vpn.example:' . port(8082) . ' HTTP/1.0|200', 'the tunnel');
is_deeply([ log_lines($t, qr/\[(?:warn|error|crit|alert|emerg)\] .*proxy_connect: /) ], [], 'nothing to complain of');

###############################################################################

my $closed = port(8083);
log_mark($t, 'tunnel.log');

my ($out, $err, $status) = run_program($t, client_of($t, 'vpn.example', $closed));
like($status, qr/^[1-9]\d*$/, 'a port that is not allowed: the exit status');
like($out, qr/HTTP proxy returned: 'HTTP\/1\.1 403 /, 'a port that is not allowed: the user is told');
is_line($t, "CONNECT vpn.example:$closed HTTP/1.0|403", 'a port that is not allowed');

log_mark($t, 'tunnel.log');
($out, $err, $status) = run_program($t, client_of($t, 'nowhere.example', port(8082)));
like($status, qr/^[1-9]\d*$/, 'a name that does not resolve: the exit status');
is_line($t, 'CONNECT nowhere.example:' . port(8082) . ' HTTP/1.0|502', 'a name that does not resolve');

###############################################################################

sub client_of {
	my ($t, $host, $port) = @_;

	return [ $openvpn, '--client', '--nobind', '--proto', 'tcp-client', '--remote', $host, $port,
		'--http-proxy', '127.0.0.1', port(8080), '--connect-retry', 1, '--connect-retry-max', 1,
		arguments($t, 'client.example', 'vpn.example') ];
}

# Both sides send pings; level 7 is that of the log at which they are told.
sub arguments {
	my ($t, $own, $peer) = @_;
	my $dir = $t->testdir();

	return ('--dev', 'null', '--ping', 1, '--verb', 7, '--ca', "$dir/$peer.crt",
		'--cert', "$dir/$own.crt", '--key', "$dir/$own.key");
}

###############################################################################
