#!/usr/bin/perl

# What users of the C module have, and must go on having: a configuration that it takes, patterns that
# match its log lines, monitors that read its variables.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Kernel;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http rewrite map/)->plan(41);

$t->write_file_expand('nginx.conf', ipv4_only($t, <<'EOF'));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  mirror  '$server_name $status "$connect_host" "$connect_port" "$connect_addr" '
                        '$proxy_connect_resolve_time $proxy_connect_connect_time '
                        '$proxy_connect_first_byte_time sent:$body_bytes_sent/$bytes_sent';
    log_format  limits  '$server_name $status [$proxy_connect_connect_timeout] '
                        '[$proxy_connect_data_timeout] [$proxy_connect_read_timeout] '
                        '[$proxy_connect_send_timeout]';
    access_log  %%TESTDIR%%/mirror.log mirror;
    access_log  %%TESTDIR%%/limits.log limits;

    # a GET is in the log once it is answered
    lingering_close  off;

    # a file that is made when a container starts
    include  timeouts.conf;

    map $connect_host $mirrored {
        hostnames;
        include  registries.map;
        # the port of the CONNECT then; nginx before 1.11.0 takes no more than one variable here
        default  $connect_host;
    }

    # the proxy: what goes to a registry goes to the cache
    server {
        listen       127.0.0.1:8080 default_server;
        server_name  proxy;

        proxy_connect;
        proxy_connect_address     $mirrored;
        proxy_connect_allow       all;
        proxy_connect_send_lowat  0;

        resolver          127.0.0.1:%%PORT_8981_UDP%% ipv6=off;
        resolver_timeout  400ms;

        location / {
            return 403 "This is a proxy.\n";
        }
    }

    # the cache
    server {
        listen       127.0.0.1:8081;
        server_name  cache;

        location / {
            return 200 "cached $host$uri\n";
        }
    }

    # written by several hands
    server {
        listen       127.0.0.1:8082;
        server_name  hands;

        include                     proxy.inc;
        proxy_connect;
        proxy_connect_allow         443 563 all;
        proxy_connect_data_timeout  300ms;
        proxy_connect_response      "";

        if ($connect_host = limits.example) {
            set $proxy_connect_connect_timeout  "10s";
            set $proxy_connect_data_timeout     "10ms";
            set $proxy_connect_send_timeout     "1";
            return 204;
        }
    }

    # one with patience
    server {
        listen       127.0.0.1:8084;
        server_name  patient;

        proxy_connect;
        proxy_connect_allow            all;
        proxy_connect_connect_timeout  20s;

        resolver          127.0.0.1:%%PORT_8981_UDP%% ipv6=off;
        resolver_timeout  20s;
    }

    # nothing but the one directive
    server {
        listen       127.0.0.1:8083;
        server_name  bare;

        proxy_connect;
    }

    server {
        listen       127.0.0.1:8083;
        server_name  without;
    }
}

EOF

$t->write_file('timeouts.conf', <<'EOF');
proxy_connect_read_timeout     60s;
proxy_connect_connect_timeout  300ms;
proxy_connect_send_timeout     60s;
EOF
$t->write_file('registries.map', join '', map { "$_ 127.0.0.1:" . port(8081) . ";\n" }
	'registry.example', '*.registry.example');
$t->write_file('proxy.inc', "proxy_connect;\n");

name_server($t, 8981, 'silent.example' => 'drop');

# The send timeout has its warning.
run_quietly($t);

my $worker = lone_worker($t);
my $listener = listener(port(8090));
my $silent = '127.0.0.1:' . port(8091);
my $queue = full_backlog($silent);
my $refused = '127.0.0.1:' . port(8092);
my $time = qr/\d+\.\d{3}/;

###############################################################################
# A caching mirror of container registries

for my $host ('registry.example', 'auth.registry.example') {
	my $client = tunnel("$host:443");
	$client->send("GET /v2/ HTTP/1.0\x0d\x0aHost: $host\x0d\x0a\x0d\x0a");
	is(body_of($client->read_to_end()), "cached $host/v2/\n", "$host: from the cache");
	$client->close();
}

# Two tunnels, and two requests to the cache.
access_lines($t, 4, 'limits.log');

log_mark($t, $_) for 'mirror.log', 'limits.log';
my ($client, $upstream, $header) = pair($listener);
$upstream->send('0123456789');
$client->read_bytes(10);
$_->close() for $client, $upstream;

my $all = length($header) + 10;
my $port = port(8090);
like((access_lines($t, 1, 'mirror.log'))[0],
	qr/^proxy 200 "127\.0\.0\.1" "$port" "127\.0\.0\.1:$port" $time $time $time sent:$all\/$all$/,
	'another host: from there, and the access log');
is((access_lines($t, 1, 'limits.log'))[0], 'proxy 200 [300] [60000] [60000] [60000]',
	'the timeouts that stand in http');

log_mark($t, $_) for 'mirror.log', 'limits.log';
is(body_of(http_get('/')), "This is a proxy.\n", 'no CONNECT');
is((access_lines($t, 1, 'mirror.log'))[0] =~ s/ sent:.*//r, 'proxy 403 "-" "-" "-"   ',
	'no CONNECT: the access log');
is((access_lines($t, 1, 'limits.log'))[0], 'proxy 403 [] [] [] []',
	'no CONNECT: the timeouts are empty');

###############################################################################
# Directives and variables

log_mark($t, $_) for 'mirror.log', 'limits.log';
($client, $upstream, $header) = pair($listener, port => port(8082));
is($header, "HTTP/1.1 200 Connection Established\x0d\x0aProxy-agent: nginx\x0d\x0a\x0d\x0a",
	'proxy_connect twice, all beside ports, an empty response');
is($client->read_to_end() . $upstream->read_to_end(), '', 'nothing is said');
$_->close() for $client, $upstream;
is((access_lines($t, 1, 'limits.log'))[0], 'hands 200 [300] [300] [300] [60000]',
	'a data timeout beside the read timeout of http');

SKIP: {
	skip NO_REWRITE, 1 unless runs_rewrite($t);

	log_mark($t, 'limits.log');
	exchange(connect_request('limits.example:443'), port => port(8082));
	is((access_lines($t, 1, 'limits.log'))[0], 'hands 204 [10000] [10] [10] [1000]',
		'timeouts that are set');
}

# Whoever refuses it, before the tunnel or on the way: what was not done has no time.
for my $case (
	[ 'a port', 'bare:444', 403 ],
	[ 'a server', 'without:443', 405 ],
	[ 'an authority', 'bare:0', 400 ],
	[ 'a body', 'bare:443', 400, 'Content-Length: 1' ],
) {
	my ($name, $authority, $status, @fields) = @$case;

	log_mark($t, $_) for 'mirror.log', 'limits.log';
	is(status_of(exchange(connect_request($authority, @fields), port => port(8083))), $status,
		"refused for $name: $status");
	like((access_lines($t, 1, 'mirror.log'))[0], qr/^\w+ $status .* "-" - - - sent:\d+/,
		"refused for $name: the times");
	like((access_lines($t, 1, 'limits.log'))[0], qr/^\w+ $status \[300\] \[60000\] \[60000\] \[60000\]$/,
		"refused for $name: the timeouts");
}

###############################################################################
# Patterns for the error log

my $connecting = 'while connecting to upstream, client: 127\.0\.0\.1, server: ';

# Tengine takes the system's name servers where it is given none.
my $no_resolver = `$ENV{TEST_NGINX_BINARY} -V 2>&1` =~ /Tengine/
	? qr/\[error\] .* proxy_connect: none\.example could not be resolved/
	: qr/\[error\] .* proxy_connect: no resolver defined to resolve none\.example/;

for my $case (
	[ 504, $silent, qr/\[error\] .* proxy_connect: upstream connect timed out \(peer:$silent\) $connecting/ ],
	[ 502, $refused, qr/\[error\] .* proxy_connect: upstream connect failed .*\(111: Connection refused\) $connecting/ ],
	[ 502, 'none.example:443', qr/\[error\] .* proxy_connect: none\.example could not be resolved \(3: Host not found\)/ ],
	[ 504, 'silent.example:443', qr/\[error\] .* proxy_connect: silent\.example could not be resolved \(110: Operation timed out\)/ ],
	[ 502, 'none.example:443', $no_resolver, port(8082) ],
	[ 405, 'without:443', qr/\[info\] .* proxy_connect: client sent connect method/, port(8083) ],
) {
	my ($status, $authority, $pattern, $port) = @$case;

	log_mark($t);
	is(status_of(exchange(connect_request($authority), port => $port // port(8080))), $status,
		"$authority: $status");
	like(line_of($t), $pattern, "$authority: the log");
}

log_mark($t);
($client, $upstream) = pair($listener, port => port(8082));
is($client->read_to_end() . $upstream->read_to_end(), '', 'nothing is said');
$_->close() for $client, $upstream;
like(line_of($t),
	qr/\[info\] .* proxy_connect: connection timed out \(110: [^)]+\) while proxying connection, client: /,
	'a tunnel that stands: the log');

# A client that leaves.
for my $case (
	[ 'silent.example:443', '', sub { queries($t, qr/silent/) } ],
	[ $silent, ', so upstream connection is closed too', sub { held($worker, port(8091), 'connecting') } ],
) {
	my ($authority, $upstream, $is_at_work) = @$case;

	log_mark($t, $_) for 'error.log', 'mirror.log', 'dns.log';
	$client = client(port => port(8084));
	$client->send(connect_request($authority));
	wait_until("nobody asks for $authority", $is_at_work);
	$client->close();
	like((access_lines($t, 1, 'mirror.log'))[0], qr/^patient 499 /, "$authority, the client leaves: 499");
	like(line_of($t), qr/\[info\] .* proxy_connect: client prematurely closed connection$upstream while /,
		"$authority, the client leaves: the log");
}

###############################################################################

# The one line of the module in the error log.
sub line_of {
	my ($t) = @_;
	wait_for_line($t, qr/proxy_connect: /);
	return join "\n", log_lines($t, qr/proxy_connect: /);
}

###############################################################################
