#!/usr/bin/perl

# Clients of others over HTTP/2 to the proxy: Node.js, Python's h2, curl's library, envoy, and a browser that loads a page
# of a hundred parts from ten hosts over one connection.

use warnings;
use strict;

use Test::More;
use POSIX ();

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Browser;
use Test::ProxyConnect::HTTP2 qw/ http2_on /;
use Test::ProxyConnect::Program;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl http_v2 rewrite/)->has_daemon('openssl');

plan(skip_all => 'CONNECT over HTTP/2 needs nginx 1.22 or newer') unless $t->has_version('1.22.0');

my $on = http2_on($t);

$t->plan(16)->write_file_expand('nginx.conf', <<'EOF' =~ s/%%HTTP2%%/$on/gr);

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    log_format  tunnel  "$connection $server_protocol $request_method $connect_host:$connect_port $status "
                        "$proxy_connect_close_reason $proxy_connect_bytes_received";
    log_format  inside  "$host $uri $status";

    server {
        listen       127.0.0.1:8443 ssl%%HTTP2%%;
        server_name  localhost;

        access_log  %%TESTDIR%%/tunnel.log tunnel;

        proxy_connect;
        proxy_connect_allow  all;
    }

    # Whatever the browser wants, it gets the server below.
    server {
        listen       127.0.0.1:8444 ssl%%HTTP2%%;
        server_name  localhost;

        access_log  %%TESTDIR%%/tunnel.log tunnel;

        proxy_connect;
        proxy_connect_address  127.0.0.1:8445;
    }

    server {
        listen       127.0.0.1:8445 ssl;
        server_name  www.example;

        access_log  %%TESTDIR%%/inside.log inside;
        add_header  Access-Control-Allow-Origin *;

        location = /page {
            default_type  text/html;
            return 200 '<!DOCTYPE html><title>A page</title>
<p id="told">nothing</p>
<script>
    var bytes = 0;
    for (var part = 0; part < 100; part++) {
        var request = new XMLHttpRequest();
        request.open("GET", "https://h" + part % 10 + ".example/part?" + part, false);
        request.send();
        bytes += request.responseText.length;
    }
    document.getElementById("told").textContent = bytes + " bytes";
</script>';
        }
    }
}

EOF

certificate($t, 'localhost');
$t->write_file('part', 'x' x 10_000);
upstream($t, echo(), port(8081));
run_quietly($t);

my $dir = $t->testdir();
my $to = '127.0.0.1:' . port(8081);

###############################################################################
# Node.js: eight tunnels at once, a megabyte through each, and one that is refused

SKIP: {
	my $node = installed(qw/ node nodejs /) or skip 'no Node.js', 4;
	log_mark($t, 'tunnel.log');

	$t->write_file('client.js', <<'END');
const http2 = require('http2'), crypto = require('crypto');
const [proxy, to] = process.argv.slice(2);
const client = http2.connect('https://' + proxy, { rejectUnauthorized: false });
const sha = bytes => crypto.createHash('sha256').update(bytes).digest('hex');
let left = 8, equal = 0;

function done() {
    if (--left > 0) return;
    const bad = client.request({ ':method': 'CONNECT', ':authority': '127.0.0.1:1' });
    bad.on('response', headers => {
        console.log(equal + ' equal, then ' + headers[':status']);
        bad.close();
        client.close();
    });
}

for (let n = 0; n < 8; n++) {
    const noise = crypto.randomBytes(1 << 20), got = [];
    const tunnel = client.request({ ':method': 'CONNECT', ':authority': to }, { endStream: false });
    tunnel.on('response', headers => {
        if (headers[':status'] !== 200) return done();
        for (let at = 0; at < noise.length; ) {
            const end = at + 1 + Math.floor(Math.random() * 100000);
            tunnel.write(noise.subarray(at, end));
            at = end;
        }
        tunnel.end();
    });
    tunnel.on('data', bytes => got.push(bytes));
    tunnel.on('end', () => { equal += sha(Buffer.concat(got)) === sha(noise); done(); });
    tunnel.on('error', error => { console.log(error.message); done(); });
}
END

	my ($output) = run_program($t, [ $node, "$dir/client.js", '127.0.0.1:' . port(8443), $to ]);
	like($output, qr/^8 equal, then 502$/m, 'Node.js: all bytes of eight tunnels');
	my @lines = wait_for_lines($t, 9, qr/ CONNECT /, 'tunnel.log');
	is(scalar(grep { / 200 client_eof 1048576$/ } @lines), 8, 'Node.js: the access log');
	is(scalar(grep { / 502 / } @lines), 1, 'Node.js: what is refused');
	is(connections(@lines), 1, 'Node.js: one connection');
}

###############################################################################
# Python's h2

SKIP: {
	my ($python) = python();
	skip 'no Python', 2 unless $python;
	skip 'no h2 for Python', 2 if system("$python -c 'import h2' 2>$dir/python.log") && !not_installed('h2 for Python');
	log_mark($t, 'tunnel.log');

	$t->write_file('client.py', <<'END');
import hashlib, os, socket, ssl, sys
import h2.config, h2.connection, h2.events

port, to = int(sys.argv[1]), sys.argv[2]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(['h2'])
wire = context.wrap_socket(socket.create_connection(('127.0.0.1', port)))
h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding='utf-8', validate_outbound_headers=False))
h2.initiate_connection()
h2.update_settings({1: 0})
h2.send_headers(1, [(':method', 'CONNECT'), (':authority', to), ('user-agent', 'h2')])
wire.sendall(h2.data_to_send())
noise, sent, got, status = os.urandom(300000), 0, b'', None
ended = False

while not ended:
    for event in h2.receive_data(wire.recv(65536)):
        name = type(event).__name__
        if name == 'ResponseReceived':
            status = dict(event.headers)[':status']
        elif name == 'DataReceived':
            got += event.data
            h2.acknowledge_received_data(event.flow_controlled_length, 1)
        elif name in ('StreamEnded', 'StreamReset', 'ConnectionTerminated'):
            ended = True
    while status == '200' and sent < len(noise):
        size = min(h2.local_flow_control_window(1), h2.max_outbound_frame_size, len(noise) - sent)
        if size <= 0:
            break
        h2.send_data(1, noise[sent:sent + size], end_stream=sent + size == len(noise))
        sent += size
    wire.sendall(h2.data_to_send())

print(status, 'equal' if got == noise else 'different, %d bytes' % len(got))
END

	my ($output) = run_program($t, [ $python, "$dir/client.py", port(8443), $to ]);
	like($output, qr/^200 equal$/m, 'h2: all bytes');
	like(wait_for_line($t, qr/ CONNECT /, 'tunnel.log'), qr/ HTTP\/2\.0 CONNECT \Q$to\E 200 client_eof 300000$/,
		'h2: the access log');
}

###############################################################################
# curl's library, with HTTP/2 to the proxy

SKIP: {
	my ($python) = python();
	my $has = $python && !system("$python -c 'import pycurl, sys; sys.exit(not pycurl.version_info()[2] >= 0x080100)' 2>$dir/python.log");
	skip 'no pycurl with a curl of 8.1 or newer, which has HTTP/2 to a proxy', 2 unless $has;
	log_mark($t, 'tunnel.log');

	$t->write_file('curl.py', <<'END');
import io, pycurl, sys
proxy, port = sys.argv[1:]
out, curl = io.BytesIO(), pycurl.Curl()
for option, value in ((pycurl.PROXY, 'https://' + proxy), (pycurl.PROXYTYPE, 3), (pycurl.URL, 'https://127.0.0.1:%s/part' % port),
        (pycurl.WRITEDATA, out), (pycurl.SSL_VERIFYPEER, 0), (pycurl.SSL_VERIFYHOST, 0),
        (pycurl.PROXY_SSL_VERIFYPEER, 0), (pycurl.PROXY_SSL_VERIFYHOST, 0), (pycurl.NOPROXY, '')):
    curl.setopt(option, value)
curl.perform()
print(len(out.getvalue()), 'bytes')
END

	my ($output) = run_program($t, [ $python, "$dir/curl.py", '127.0.0.1:' . port(8443), port(8445) ]);
	like($output, qr/^10000 bytes$/m, 'curl: a file');
	like(wait_for_line($t, qr/ CONNECT /, 'tunnel.log'), qr/ HTTP\/2\.0 CONNECT \S+ 200 /, 'curl: over HTTP/2');
}

###############################################################################
# envoy, which has TCP connections go through the proxy: each a stream of one connection

SKIP: {
	my $envoy = envoy() or skip 'no envoy', 4;
	log_mark($t, 'tunnel.log');

	my ($listens, $proxy) = map { port($_) } 8446, 8443;
	$t->write_file('envoy.json', <<"END");
{"static_resources": {
  "listeners": [{
    "address": {"socket_address": {"address": "127.0.0.1", "port_value": $listens}},
    "filter_chains": [{"filters": [{"name": "tcp", "typed_config": {
      "\@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
      "stat_prefix": "tcp", "cluster": "proxy", "tunneling_config": {"hostname": "$to"}}}]}]}],
  "clusters": [{
    "name": "proxy", "type": "STATIC", "connect_timeout": "5s",
    "load_assignment": {"cluster_name": "proxy", "endpoints": [{"lb_endpoints": [{"endpoint": {
      "address": {"socket_address": {"address": "127.0.0.1", "port_value": $proxy}}}}]}]},
    "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
      "\@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
      "explicit_http_config": {"http2_protocol_options": {}}}},
    "transport_socket": {"name": "tls", "typed_config": {
      "\@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
      "common_tls_context": {"alpn_protocols": ["h2"]}}}}]}}
END

	my $pid = start_program($t, [ $envoy, '-c', "$dir/envoy.json", '--concurrency', 1, '--disable-hot-restart',
		'--log-level', 'warning' ], 'envoy.log');
	$t->waitforsocket("127.0.0.1:$listens") or diag($t->read_file('envoy.log'));

	my @clients = map { client(port => $listens) } 1 .. 8;
	my @noise = map { substr noise(400_000), 1000 * $_, 300_000 + $_ } 0 .. $#clients;
	my @bad;

	# Parts of all, so that the streams are open side by side.
	for my $part (0 .. 2) {
		for my $n (0 .. $#clients) {
			my $piece = substr $noise[$n], $part * 100_000, $part < 2 ? 100_000 : length $noise[$n];
			$clients[$n]->send($piece);
			push @bad, "$n, part $part" unless $clients[$n]->read_bytes(length $piece) eq $piece;
		}
	}

	is("@bad", '', 'envoy: 8 connections, all bytes');
	$_->half_close() for @clients;
	is(join('', map { $_->read_to_end() } @clients), '', 'envoy: and their ends');

	# The knock at its port was one as well, of no bytes.
	my @lines = wait_for_lines($t, 8, qr/ CONNECT \Q$to\E 200 \S+ [1-9]/, 'tunnel.log');
	is(scalar(grep { / HTTP\/2\.0 CONNECT \S+ 200 client_eof 30000\d$/ } @lines), 8, 'envoy: the access log');
	is(connections(@lines), 1, 'envoy: one connection');
	end_program($pid);
}

###############################################################################
# A browser

SKIP: {
	my $browser = installed(qw/ chromium chromium-browser google-chrome google-chrome-stable /)
		or skip 'no Chromium', 4;
	log_mark($t, 'tunnel.log');

	my $page = page($t, $browser, 'https://127.0.0.1:' . port(8444), 'https://www.example/page');
	like($page, qr/<p id="told">1000000 bytes<\/p>/, 'a browser: 100 parts from 10 hosts');

	my @lines = grep { /example:443 200 / } wait_for_lines($t, 11, qr/ CONNECT \S+example:443 200/, 'tunnel.log');
	my %hosts = map { /CONNECT (\S+)/ ? ($1 => 1) : () } @lines;
	is(scalar(keys %hosts), 11, 'a browser: a tunnel to each');
	is(scalar(grep { !/ HTTP\/2\.0 / } @lines), 0, 'a browser: over HTTP/2');
	is(connections(@lines), 1, 'a browser: one connection');
}

###############################################################################

# envoy's program, wherever it is: that of "make bench" will do.
sub envoy {
	my @paths = ($ENV{TEST_NGINX_ENVOY} // (), '../build/bench/envoy', map { "$_/envoy" } split /:/, $ENV{PATH});
	return (grep { -x } @paths)[0];
}

# How many connections some lines of tunnel.log tell of.
sub connections {
	my %connections = map { /^(\d+)/ ? ($1 => 1) : () } @_;
	return scalar keys %connections;
}

# The page as the browser has it once it is loaded.
sub page {
	my ($t, $browser, $proxy, $url) = @_;
	my $pid = open(my $output, '-|') // die "Can't fork: $!\n";

	if ($pid == 0) {
		# Its processes are a group, to be ended together.
		setpgrp 0, 0;
		open STDERR, '>', $t->testdir() . '/browser.log';
		exec { $browser } $browser, browser_options($t, $proxy), '--headless', '--dump-dom', $url or POSIX::_exit(1);
	}

	my ($page) = patiently($t, sub { local $/; return scalar <$output> });
	end_browser($t, $pid);
	close $output;

	return $page // '';
}

###############################################################################
