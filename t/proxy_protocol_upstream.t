#!/usr/bin/perl

# proxy_connect_proxy_protocol: what an upstream gets before anything else, read byte by byte here, and by nginx and HAProxy.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Check;
use Test::ProxyConnect::Hello;
use Test::ProxyConnect::Program;
use Test::ProxyConnect::Servers;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# What a header of the second version begins with.
use constant SIGNATURE => "\x0d\x0a\x0d\x0a\x00\x0d\x0aQUIT\x0a";

my $t = Test::Nginx->new()->has(qw/http realip unix/);
plan(skip_all => 'no IPv6') unless has_ipv6($t);
my $dir = $t->testdir();

my %servers = (
	v1 => 'proxy_connect_proxy_protocol v1;',
	v2 => 'proxy_connect_proxy_protocol v2;',
	http => '',
	off => 'proxy_connect_proxy_protocol off;',
	maybe => 'proxy_connect_proxy_protocol v1; proxy_connect_address $http_to;',
	local => 'proxy_connect_proxy_protocol v2; proxy_connect_address unix:%%TESTDIR%%/upstream.sock;',
	checked => 'proxy_connect_proxy_protocol v1; proxy_connect_verify_sni on;',
	limited => 'proxy_connect_proxy_protocol v2; proxy_connect_max_bytes 100;',
	two => 'proxy_connect_proxy_protocol v1; proxy_connect_address two.example:%%PORT_8091%%;',
	nginx1 => 'proxy_connect_proxy_protocol v1; proxy_connect_address 127.0.0.1:%%PORT_8092%%;',
	nginx2 => 'proxy_connect_proxy_protocol v2; proxy_connect_address 127.0.0.1:%%PORT_8092%%;',
	parent => 'proxy_connect_proxy_protocol v1; proxy_connect_address off; proxy_connect_pass http://127.0.0.1:%%PORT_8090%%;',
	socks => 'proxy_connect_proxy_protocol v2; proxy_connect_address off; proxy_connect_pass socks5://127.0.0.1:%%PORT_8090%%;',
	maybe_parent => 'proxy_connect_proxy_protocol v1; proxy_connect_address $http_to; proxy_connect_pass $http_pass;',
	haproxy1 => 'proxy_connect_proxy_protocol v1; proxy_connect_address 127.0.0.1:%%PORT_8093%%;',
	haproxy2 => 'proxy_connect_proxy_protocol v2; proxy_connect_address 127.0.0.1:%%PORT_8093%%;',
);

my $blocks = server_blocks(%servers);
my $is_v2 = $t->has_version('1.13.11');
my $has_tlv = $t->has_version('1.23.2');
my $authority = $has_tlv ? '$proxy_protocol_tlv_authority' : '';

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    resolver          127.0.0.1:%%PORT_8981_UDP%%;
    resolver_timeout  1s;

    log_format  ends  "$proxy_connect_bytes_sent $proxy_connect_bytes_received $proxy_connect_close_reason";
    access_log  %%TESTDIR%%/ends.log ends;

    proxy_connect_proxy_protocol  v2;
    proxy_connect_address         127.0.0.1:%%PORT_8090%%;

    SERVERS

    # what a client, or another proxy, says of its address
    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        listen       [::1]:%%PORT_8080%%;
        listen       %%PORT_8082%%;
        listen       unix:%%TESTDIR%%/nginx.sock;
        server_name  _;

        set_real_ip_from  127.0.0.1;
        real_ip_header    X-Client;

        proxy_connect;
        proxy_connect_allow           all;
        proxy_connect_proxy_protocol  v1;
    }

    server {
        CHAINED
        listen       unix:%%TESTDIR%%/nginx2.sock;
        server_name  _;

        proxy_connect;
        proxy_connect_allow           all;
        proxy_connect_proxy_protocol  v2;
    }

    # an upstream
    server {
        listen       127.0.0.1:8092 READER;
        server_name  _;

        location / {
            return 200 "TOLD AUTHORITY.";
        }
    }
}

EOF

# nginx itself reads the protocol since 1.5.12, and a port in it since 1.11.0.
my $reads = $t->has_version('1.11.0');
my $reader = $reads ? 'proxy_protocol' : '';
my $told = $reads ? '$proxy_protocol_addr $proxy_protocol_port' : '';
my $chained = $reads ? 'listen 127.0.0.1:8081 proxy_protocol; set_real_ip_from 127.0.0.1; real_ip_header proxy_protocol;' : '';

$conf =~ s/AUTHORITY/$authority/;
$conf =~ s/READER/$reader/;
$conf =~ s/TOLD/$told/;
$conf =~ s/CHAINED/$chained/;
$conf =~ s/^ *SERVERS\n/$blocks/m;
$t->write_file_expand('nginx.conf', with_tls($t, $conf));

certificate($t, 'localhost');
name_server($t, 8981, 'two.example' => [ '127.0.0.1', '127.0.0.2' ]);

$t->plan(89);
$t->run();
mkdir "$dir/logs";

my $port = port(8090);
my $listener = listener($port);
my ($client, $upstream, $header);

###############################################################################
# The bytes

for my $early ('', 'early') {
	for my $server (qw/ v1 v2 http /) {
		my $case = $early ? "$server, early bytes" : $server;
		log_mark($t, 'ends.log');

		($client, $upstream) = pair($listener, port => server_port($server), local => '127.0.0.5',
			authority => 'some.example:443', early => $early);
		my ($from) = $client->local() =~ /:(\d+)$/;
		my $to = server_port($server);

		my $expected = $server eq 'v1' ? "PROXY TCP4 127.0.0.5 127.0.0.1 $from $to\x0d\x0a"
			: version2(0x21, 0x11, pack('C8 n2', 127, 0, 0, 5, 127, 0, 0, 1, $from, $to), 'some.example');

		is($upstream->read_bytes(length $expected), $expected, "$case: the header");
		is($upstream->read_bytes(length $early), $early, "$case: what follows") if $early;
		is_deeply([ cross($client, $upstream, 'up' x 50000, 'down' x 50000) ], [ 'up' x 50000, 'down' x 50000 ],
			"$case: the tunnel");

		$client->close();
		is($upstream->read_to_end(), '', "$case: nothing more");
		$upstream->close();

		# What is counted is the tunnel's.
		is_logged($t, '^' . (100000 + length $early) . ' 200000 ');
	}
}

# A client that says nothing.
($client, $upstream) = pair($listener, port => server_port('v1'), authority => 'some.example:443');
like(line($upstream), qr/^PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 \d+ \d+\x0d\x0a$/, 'the upstream need not wait');
$upstream->send('greeting');
is($client->read_bytes(8), 'greeting', 'and speaks first');
$client->half_close();
is($upstream->read_to_end(), '', 'a half-close');
$upstream->send('more');
is($client->read_bytes(4), 'more', 'and the other half');
$_->close() for $client, $upstream;

($client, $upstream) = pair($listener, port => server_port('off'), authority => 'some.example:443', early => 'first');
is($upstream->read_bytes(5), 'first', 'off: no header');
$_->close() for $client, $upstream;

# The longest name, and an address.
for my $host (join('.', ('a' x 63) x 3, 'b' x 61), '[2001:db8::1]', '192.0.2.1') {
	my $bare = $host =~ s/[\[\]]//gr;
	($client, $upstream) = pair($listener, port => server_port('v2'), authority => "$host:443");
	my ($from) = $client->local() =~ /:(\d+)$/;
	my $expected = version2(0x21, 0x11, pack('C8 n2', 127, 0, 0, 1, 127, 0, 0, 1, $from, server_port('v2')), $bare);
	is($upstream->read_bytes(length $expected), $expected, "authority: $bare");
	$_->close() for $client, $upstream;
}

###############################################################################
# Clients of all kinds

for my $tls (0, 1) {
	SKIP: {
		skip NO_TLS, 1 if $tls && !has_tls($t);
		($client, $upstream) = pair($listener, port => port($tls ? 8443 : 8080), tls => $tls && plain_tls(),
			authority => 'some.example:443', fields => [ 'X-Client: 192.0.2.7' ]);
		like(line($upstream), qr/^PROXY TCP4 192\.0\.2\.7 127\.0\.0\.1 \d+ ${\ port($tls ? 8443 : 8080)}\x0d\x0a$/,
			($tls ? 'TLS: ' : '') . 'an address that a header field has told');
		$_->close() for $client, $upstream;
	}
}

($client, $upstream) = pair($listener, port => port(8080), authority => 'some.example:443',
	fields => [ 'X-Client: 2001:db8::7' ]);
like(line($upstream), qr/^PROXY TCP6 2001:db8::7 ::ffff:127\.0\.0\.1 \d+ ${\ port(8080)}\x0d\x0a$/,
	'an address of the other family');
$_->close() for $client, $upstream;

($client, $upstream) = pair($listener, port => port(8080), host => '::1', authority => 'some.example:443');
my ($from) = $client->local() =~ /:(\d+)$/;
is(line($upstream), "PROXY TCP6 ::1 ::1 $from " . port(8080) . "\x0d\x0a", 'IPv6');
$_->close() for $client, $upstream;

($client, $upstream) = pair($listener, port => port(8082), host => '127.0.0.7', authority => 'some.example:443');
like(line($upstream), qr/^PROXY TCP4 127\.0\.0\.1 127\.0\.0\.7 \d+ ${\ port(8082)}\x0d\x0a$/,
	'a listener of all addresses');
$_->close() for $client, $upstream;

($client, $upstream) = pair($listener, path => "$dir/nginx.sock", authority => 'some.example:443', early => 'x');
is(line($upstream) . $upstream->read_bytes(1), "PROXY UNKNOWN\x0d\x0ax", 'v1: a client of a unix socket');
$_->close() for $client, $upstream;

($client, $upstream) = pair($listener, path => "$dir/nginx2.sock", authority => 'some.example:443', early => 'x');
my $local = version2(0x20, 0x00, '', 'some.example') . 'x';
is($upstream->read_bytes(length $local), $local, 'v2: a client of a unix socket');
$_->close() for $client, $upstream;

SKIP: {
	skip 'nginx reads no port in the protocol before 1.11.0', 1 unless $reads;

	($client, $upstream) = pair($listener, port => port(8081), authority => 'some.example:443',
		proxy => "PROXY TCP4 192.0.2.9 192.0.2.10 4321 3128\x0d\x0a");
	my $chained = version2(0x21, 0x11, pack('C8 n2', 192, 0, 2, 9, 127, 0, 0, 1, 4321, port(8081)), 'some.example');
	is($upstream->read_bytes(length $chained), $chained, 'a chain of proxies');
	$_->close() for $client, $upstream;
}

###############################################################################
# Upstreams of all kinds

my $socket = listener("unix:$dir/upstream.sock");
($client, $upstream) = pair($socket, port => server_port('local'), authority => 'some.example:443', early => 'x');
($from) = $client->local() =~ /:(\d+)$/;
my $unix = version2(0x21, 0x11, pack('C8 n2', 127, 0, 0, 1, 127, 0, 0, 1, $from, server_port('local')), 'some.example') . 'x';
is($upstream->read_bytes(length $unix), $unix, 'a unix socket');
$_->close() for $client, $upstream;

# The next address gets a whole header, too.
{
	my $second = listener('127.0.0.2:' . port(8091));
	for (1 .. 4) {
		($client, $upstream) = pair($second, port => server_port('two'), authority => 'some.example:443');
		like(line($upstream), qr/^PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 \d+ \d+\x0d\x0a$/, 'the next address');
		$_->close() for $client, $upstream;
	}
}

# What clients choose gets none.
($client, $upstream) = pair($listener, port => server_port('maybe'), early => 'first');
is($upstream->read_bytes(5), 'first', 'no fixed target: no header');
$_->close() for $client, $upstream;

($client, $upstream) = pair($listener, port => server_port('maybe'), authority => 'some.example:443',
	fields => [ "To: 127.0.0.1:$port" ]);
like(line($upstream), qr/^PROXY TCP4 /, 'a fixed target: a header');
$_->close() for $client, $upstream;

# An upstream that goes at once.
$client = knock($listener, port => server_port('v1'), authority => 'some.example:443');
$upstream = accept_end($listener);
$upstream->reset();
like(status_of(eval { $client->read_header() } // ''), qr/^(200|502|)$/, 'an upstream that resets');
$client->close();

###############################################################################
# Beside what else holds or counts a client's bytes

my $hello = hello(name => 'a.example');
($client, $upstream) = pair($listener, port => server_port('checked'), authority => 'a.example:443');
like(line($upstream), qr/^PROXY TCP4 /, 'the header does not wait for what a client says first');
$client->send($hello);
is($upstream->read_bytes(length $hello), $hello, 'which goes on');
$_->close() for $client, $upstream;

($client, $upstream) = pair($listener, port => server_port('checked'), authority => 'b.example:443', early => $hello);
like(line($upstream), qr/^PROXY TCP4 /, 'a client that is refused: the header');
is($upstream->read_to_end(), '', 'a client that is refused: nothing else');
$_->close() for $client, $upstream;

my $long = join('.', ('a' x 63) x 3, 'example');
($client, $upstream) = pair($listener, port => server_port('limited'), authority => "$long:443");
$upstream->read_bytes(16 + 12 + 3 + length $long);
is_deeply([ cross($client, $upstream, 'u' x 60, 'd' x 30) ], [ 'u' x 60, 'd' x 30 ], 'a limit is the tunnel\'s');
$_->close() for $client, $upstream;

###############################################################################
# Parents get it before they are asked

my $connect = "CONNECT some.example:443 HTTP/1.1\x0d\x0a";
$client = knock($listener, port => server_port('parent'), authority => 'some.example:443', early => 'early');
$upstream = accept_end($listener);
like(line($upstream), qr/^PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 \d+ ${\ server_port('parent')}\x0d\x0a$/, 'a parent: the header');
is(substr($upstream->read_header(), 0, length $connect), $connect, 'a parent: the CONNECT');
$upstream->send("HTTP/1.1 200 OK\x0d\x0a\x0d\x0afirst");
like($client->read_header(), qr/^HTTP\/1\.1 200 /, 'a parent: the answer');
is($upstream->read_bytes(5) . $client->read_bytes(5), 'earlyfirst', 'a parent: the tunnel');
$_->close() for $client, $upstream;

$client = knock($listener, port => server_port('socks'), authority => 'some.example:443');
$upstream = accept_end($listener);
($from) = $client->local() =~ /:(\d+)$/;
my $greeting = version2(0x21, 0x11, pack('C8 n2', 127, 0, 0, 1, 127, 0, 0, 1, $from, server_port('socks')), 'some.example');
is($upstream->read_bytes(length $greeting), $greeting, 'a SOCKS server: the header');
is($upstream->read_bytes(3), "\5\1\0", 'a SOCKS server: what it is offered');
$_->close() for $client, $upstream;

$client = knock($listener, port => server_port('maybe_parent'), fields => [ 'Pass: direct' ], early => 'first');
$upstream = accept_end($listener);
is($upstream->read_bytes(5), 'first', 'no parent: no header');
$_->close() for $client, $upstream;

###############################################################################
# Others that read it

for my $version (1, 2) {
	SKIP: {
		skip 'nginx reads no port in the protocol before 1.11.0', 1 unless $reads;
		skip 'no version 2 before nginx 1.13.11', 1 if $version == 2 && !$is_v2;

		($client) = tunnel('some.example:443', port => server_port("nginx$version"), local => '127.0.0.6');
		($from) = $client->local() =~ /:(\d+)$/;
		my $authority = $version == 2 && $has_tlv ? 'some.example' : '';
		is(body_of(get($client)), "127.0.0.6 $from $authority.", "nginx, v$version");
	}
}

SKIP: {
	my $haproxy = installed('haproxy') or skip 'no HAProxy found', 2;

	$t->write_file_expand('haproxy.cfg', <<'EOF');
defaults
    mode http
    timeout client 10s
frontend f
    bind 127.0.0.1:%%PORT_8093%% accept-proxy
    http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst] %[dst_port] %[fc_pp_authority]."
EOF

	start_program($t, [ $haproxy, '-db', '-f', "$dir/haproxy.cfg" ], 'haproxy.log');
	$t->waitforsocket('127.0.0.1:' . port(8093)) or die "HAProxy does not listen\n";

	for my $version (1, 2) {
		$client = tunnel('some.example:443', port => server_port("haproxy$version"), local => '127.0.0.6');
		($from) = $client->local() =~ /:(\d+)$/;
		my $authority = $version == 2 ? 'some.example' : '';
		is(body_of(get($client)), "127.0.0.6 $from 127.0.0.1 ${\ server_port(\"haproxy$version\")} $authority.",
			"HAProxy, v$version");
	}
}

###############################################################################
# Where it would break what clients choose

for my $version (qw/ v1 v2 /) {
	my $directive = "proxy_connect_proxy_protocol $version";

	for my $without ('', 'proxy_connect_address off') {
		my ($output) = check($t, $directive, $without || ());
		like($output, qr/\[emerg\] .*"proxy_connect_proxy_protocol $version" in \S+check\.conf:5 would have every server that a client names get .*: set "proxy_connect_address" or "proxy_connect_pass", or/,
			"$version: refused without a fixed target $without");
		unlike($output, qr/syntax is ok/, "$version: and so is the configuration $without");
	}

	is_fine((check($t, $directive, 'proxy_connect_address 127.0.0.1:1'))[0], "$version: with one");
	is_fine((check($t, 'proxy_connect_address $http_to', $directive))[0], "$version: with one that variables tell");
	is_fine((check($t, 'proxy_connect_pass http://127.0.0.1:1', $directive))[0], "$version: with a parent");
	is_fine((check($t, 'proxy_connect_pass $http_pass', $directive))[0], "$version: with one that variables tell");
	like((check($t, $directive, 'proxy_connect_pass direct'))[0], qr/\[emerg\] .*"proxy_connect_proxy_protocol $version" in/,
		"$version: with none");
}

is_fine((check($t, 'proxy_connect_proxy_protocol off'))[0], 'off needs none');

like(check_text($t, "events { }\nhttp {\nproxy_connect_proxy_protocol v2;\nserver { proxy_connect; }\n}\n"),
	qr/\[emerg\] .*"proxy_connect_proxy_protocol v2" in \S+check\.conf:3 would/, 'in http: refused');
is_fine(check_text($t, "events { }\nhttp {\nproxy_connect_proxy_protocol v2;\nserver { proxy_connect_allow 443; }\n"
	. "server { proxy_connect; proxy_connect_address 127.0.0.1; }\n}\n"), 'in http: servers that take no CONNECT');

is_deeply([ log_lines($t, qr{\[(?:alert|crit)\]}) ], [], "no alert");

###############################################################################

# A header of the second version.
sub version2 {
	my ($command, $family, $addresses, $authority) = @_;
	my $block = $addresses . pack('C n/a*', 2, $authority);
	return SIGNATURE . pack('C C n/a*', $command, $family, $block);
}

sub line {
	my ($end) = @_;
	my $line = '';
	$line .= $end->read_bytes(1) until $line =~ /\n\z/;
	return $line;
}

sub get {
	my ($client) = @_;
	$client->send("GET / HTTP/1.1\x0d\x0aHost: x\x0d\x0aConnection: close\x0d\x0a\x0d\x0a");
	return $client->read_to_end();
}

###############################################################################
