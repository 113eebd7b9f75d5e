#!/usr/bin/perl

# Tunnels through parents that people run: squid, tinyproxy, Apache, HAProxy in front of some, microsocks, Dante, and another
# nginx with this module behind TLS. And three of which one is killed.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Program;
use Test::ProxyConnect::Proxies;
use Test::ProxyConnect::Servers;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	MB => 2 ** 20,

	# How many CONNECTs go to three parents, how many side by side, and after how many one of them is killed.
	MANY => SLOWNESS > 1 ? 200 : 1000,
	BESIDE => 10,
	KILLED => SLOWNESS > 1 ? 60 : 300,
};

my $t = Test::Nginx->new()->has(qw/http rewrite/);

my %port = (squid => 8201, squid_user => 8202, tinyproxy => 8203, tinyproxy_user => 8204, apache => 8205,
	haproxy => 8206, microsocks => 8207, microsocks_user => 8208, dante => 8209, one => 8211, two => 8212, three => 8213,
	nginx => 8443);
my %at = map { $_ => "%%PORT_$port{$_}%%" } keys %port;
my %number = map { $_ => port($port{$_}) } keys %port;

my %servers = (
	squid => "proxy_connect_pass http://127.0.0.1:$at{squid};",
	squid_user => "proxy_connect_pass http://127.0.0.1:$at{squid_user}; proxy_connect_pass_user alice secret;",
	squid_wrong => "proxy_connect_pass http://127.0.0.1:$at{squid_user}; proxy_connect_pass_user alice wrong;",
	squid_none => "proxy_connect_pass http://127.0.0.1:$at{squid_user};",
	squid_auth => "proxy_connect_pass http://127.0.0.1:$at{squid_user}; proxy_connect_pass_auth on;",
	tinyproxy => "proxy_connect_pass http://127.0.0.1:$at{tinyproxy};",
	tinyproxy_user => "proxy_connect_pass http://127.0.0.1:$at{tinyproxy_user}; proxy_connect_pass_user alice secret;",
	tinyproxy_none => "proxy_connect_pass http://127.0.0.1:$at{tinyproxy_user};",
	apache => "proxy_connect_pass http://127.0.0.1:$at{apache};",
	haproxy => "proxy_connect_pass http://127.0.0.1:$at{haproxy}; proxy_connect_proxy_protocol v2;",
	microsocks => "proxy_connect_pass socks5://127.0.0.1:$at{microsocks};",
	microsocks_user => "proxy_connect_pass socks5://127.0.0.1:$at{microsocks_user}; proxy_connect_pass_user alice secret;",
	microsocks_wrong => "proxy_connect_pass socks5://127.0.0.1:$at{microsocks_user}; proxy_connect_pass_user alice wrong;",
	microsocks_none => "proxy_connect_pass socks5://127.0.0.1:$at{microsocks_user};",
	dante => "proxy_connect_pass socks5://127.0.0.1:$at{dante};",
	three => 'proxy_connect_pass http://three; proxy_connect_response "HTTP/1.1 200 OK\r\nX-Parent: $upstream_addr\r\n\r\n";',
);

my $tls = has_tls($t) && $t->has_version('1.13.0');

if ($tls) {
	my $pass = "proxy_connect_pass https://127.0.0.1:$at{nginx}; proxy_connect_ssl_trusted_certificate parent.example.crt;"
		. ' proxy_connect_ssl_name parent.example;';
	$servers{nginx} = "$pass proxy_connect_ssl_certificate client.example.crt;"
		. ' proxy_connect_ssl_certificate_key client.example.key;';
	$servers{nginx_stranger} = $pass;
}

my $blocks = server_blocks(%servers);

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
    worker_connections  1024;
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  ends  "$server_name $status $proxy_connect_error|$proxy_connect_parent_status|$upstream_addr|$proxy_connect_close_reason";
    access_log  %%TESTDIR%%/ends.log ends;

    upstream three {
        server 127.0.0.1:%%PORT_8211%%;
        server 127.0.0.1:%%PORT_8212%%;
        server 127.0.0.1:%%PORT_8213%%;
    }

    SERVERS
}

EOF

$t->write_file_expand('nginx.conf', quietly($t, $conf =~ s/^ *SERVERS\n/$blocks/mr, 'info'));

if ($tls) {
	certificate($t, $_) for qw/ parent.example client.example /;
}

# How each program says that there is nobody: what it answers.
my %refusal = (squid => qr/503/, tinyproxy => qr/50\d/, apache => qr/50\d/, microsocks => qr/\d+/, dante => qr/\d+/,
	haproxy => qr/50\d/, nginx => qr/502/);
my @parents = qw/ squid squid_user tinyproxy tinyproxy_user apache haproxy microsocks microsocks_user dante nginx /;
my @unknown = qw/ squid_wrong squid_none tinyproxy_none microsocks_wrong microsocks_none nginx_stranger /;

$t->plan(14 * @parents + 4 * @unknown + 3 + 8);
$t->run();

###############################################################################

my %running = (
	squid => squid($t, $number{squid}),
	squid_user => squid($t, $number{squid_user}, user => 'alice:secret'),
	tinyproxy => tinyproxy($t, $number{tinyproxy}),
	tinyproxy_user => tinyproxy($t, $number{tinyproxy_user}, user => 'alice:secret'),
	apache => apache($t, $number{apache}),
	microsocks => microsocks($t, $number{microsocks}),
	microsocks_user => microsocks($t, $number{microsocks_user}, user => 'alice:secret'),
	dante => dante($t, $number{dante}),
);

my @fronted = map { $number{$_} } grep { $running{$_} } qw/ tinyproxy squid /;
$running{haproxy} = haproxy($t, $number{haproxy}, @fronted) if @fronted;

$running{nginx} = second_nginx($t, $number{nginx}, <<'EOF') if $tls;
    server {
        listen       127.0.0.1:8443 ssl;
        server_name  parent;

        ssl_certificate         parent.example.crt;
        ssl_certificate_key     parent.example.key;
        ssl_verify_client       on;
        ssl_client_certificate  client.example.crt;

        resolver  127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

        proxy_connect;
        proxy_connect_allow all;
    }
EOF

name_server($t, 8980, 'localhost' => '127.0.0.1');

my $listener = listener(port(8090));
my ($client, $upstream, $header);

###############################################################################

for my $name (@parents) {
	my ($program) = $name =~ /^([a-z]+)/;

	SKIP: {
		skip "no $program to be a parent", 14 unless $running{$name};

		log_mark($t, 'ends.log');
		($client, $upstream) = pair($listener, port => server_port($name), early => 'early');
		is($upstream->read_bytes(5), 'early', "$name: what came with the CONNECT");

		my ($up, $down) = map { noise($_ * MB) } 3, 2;
		my ($got_up, $got_down) = cross($client, $upstream, $up, $down);
		ok(same($got_up, $up), "$name: to the upstream");
		ok(same($got_down, $down), "$name: to the client");

		# An end that goes closes the other one.
		$upstream->send('last');
		$upstream->close();
		is($client->read_to_end(), 'last', "$name: the upstream's end");
		$client->close();
		is_logged($t, qr/^$name 200 -?\|\S+\|127\.0\.0\.1:\d+\|\S+$/, "$name: the access log");

		# The client's end, too.
		($client, $upstream) = pair($listener, port => server_port($name));
		$client->send('last');
		$client->close();
		is($upstream->read_to_end(), 'last', "$name: the client's end");
		$upstream->close();

		# A name is the parent's to resolve: there is no resolver here. Some of them want one for IPv6.
		my $answer = eval { (pair($listener, port => server_port($name), authority => 'localhost:' . port(8090)))[2] } // '';
		is(status_of($answer), '200', "$name: a name");

		# Nobody is there.
		log_mark($t);
		log_mark($t, 'ends.log');
		my $got = exchange(connect_request('127.0.0.1:' . port(8099)), port => server_port($name));
		is(status_of($got), '502', "$name: a refusal");
		is_logged($t, qr/^$name 502 \S+\|$refusal{$program}\|127\.0\.0\.1:\d+\|-$/, "$name: its reason");
		my @lines = log_lines($t, qr/\[error\] .* proxy_connect: /);
		is(scalar(@lines), 1, "$name: one line");
		like($lines[0] // '', qr/the parent 127\.0\.0\.1:$number{$name} built no tunnel \($refusal{$program}\)/,
			"$name: what it says");
		unlike($got, qr/squid|tinyproxy|apache|nginx\/\d+.*\n.*refused/i, "$name: the client is told nothing of it");
	}
}

###############################################################################
# Credentials that are not those

for my $name (@unknown) {
	my ($program) = $name =~ /^([a-z]+)/;

	SKIP: {
		my $is_there = $running{$program eq 'nginx' ? $program : "${program}_user"};
		skip "no $program to be a parent", 4 unless $is_there;

		log_mark($t);
		log_mark($t, 'ends.log');
		my $answer = exchange(connect_request('127.0.0.1:' . port(8090)), port => server_port($name));
		is(status_of($answer), '502', "$name: no tunnel");
		is(unaccepted($listener), 0, "$name: nobody is connected to");
		is_logged($t, qr/^$name 502 /, "$name: the access log");
		my @lines = log_lines($t, qr/\[error\] .* proxy_connect: /);
		ok(@lines == 1, "$name: one line") || diag(join "\n", @lines);
	}
}

SKIP: {
	skip 'no squid to be a parent', 3 unless $running{squid_user};

	# The client's own go on where they are to, and so does the challenge.
	my @request = (connect_request('127.0.0.1:' . port(8090)), port => server_port('squid_auth'));
	my $answer = exchange(@request);
	is(status_of($answer), '407', 'a challenge of the parent');
	like(header_of($answer, 'Proxy-Authenticate'), qr/^Basic /, 'a challenge of the parent: its field');

	($client, $upstream) = pair($listener, port => server_port('squid_auth'),
		fields => [ 'Proxy-Authorization: Basic YWxpY2U6c2VjcmV0' ]);
	is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ], q/the client's own credentials/);
	$_->close() for $client, $upstream;
}

###############################################################################
# Three, and one of them is killed

SKIP: {
	my @three = map { tinyproxy($t, $number{$_}) } qw/ one two three /;
	skip 'no tinyproxy to be a parent', 8 unless @three == 3;

	my $echo = upstream($t, echo(), port(8091));
	my (%status, %by, %broken);
	log_mark($t);
	log_mark($t, 'ends.log');

	for my $begun (map { $_ * BESIDE } 0 .. MANY / BESIDE - 1) {
		my @clients = map { client(port => server_port('three')) } 1 .. BESIDE;
		$_->send(connect_request($echo)) for @clients;

		# In the middle of it: some of them are with the one that goes.
		kill 'KILL', $three[1] if $begun == KILLED;

		for my $client (@clients) {
			my $header = eval { $client->read_header() } // '';
			$status{status_of($header)}++;
			my ($parent) = (header_of($header, 'X-Parent') // '') =~ /(\d+)$/;
			$by{$parent // ''}++;

			$client->send('ping');
			$broken{$parent // ''}++ unless (eval { $client->read_bytes(4) } // '') eq 'ping';
			$client->close();
		}
	}

	my $killed = delete $broken{$number{two}} // 0;

	is_deeply(\%status, { 200 => MANY }, 'three parents, one is killed: no CONNECT fails');
	is_deeply(\%broken, {}, 'no tunnel breaks but those that stood through it');
	cmp_ok($killed, '<=', BESIDE, 'and these are few');
	is(join(' ', sort keys %by), join(' ', sort map { $number{$_} } qw/ one two three /), 'all three had some');
	cmp_ok($by{$number{two}}, '<', MANY / 2.5, 'the one that was killed had fewer');
	cmp_ok(abs($by{$number{one}} - $by{$number{three}}), '<', MANY / 10, 'the others have as many as each other');

	my @lines = log_lines($t, qr/\[error\] .*(proxy_connect: |connect\(\) failed|Connection reset)/);
	cmp_ok(@lines, '>', 0, 'the log is told');
	is(scalar(my @ends = wait_for_lines($t, MANY, qr/^three 200 /, 'ends.log')), MANY,
		'and the access log has them all');
}

end_program($_) for grep { $_ } values %running;

###############################################################################
