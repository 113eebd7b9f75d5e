#!/usr/bin/perl

# Tunnels through a parent over TLS: another server with this module. Whom it is trusted to be, what it is told of us,
# and that the bytes are those of any tunnel.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Parent;
use Test::ProxyConnect::Servers;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant MB => 2 ** 20;

my $t = Test::Nginx->new()->has(qw/http http_ssl rewrite/)->has_daemon('openssl');

plan(skip_all => 'https needs nginx 1.13.0') unless $t->has_version('1.13.0');

my $trusts = 'proxy_connect_ssl_trusted_certificate good.example.crt;';
my $named = "$trusts proxy_connect_ssl_name good.example;";
my $at = 'https://127.0.0.1:%%PORT_8443%%';

my %servers = (
	good      => "proxy_connect_pass $at; $named",
	host      => "proxy_connect_pass https://good.example:%%PORT_8443%%; $trusts",
	group     => "proxy_connect_pass https://good.example; $trusts",
	port      => "proxy_connect_pass $at; $trusts proxy_connect_ssl_name good.example:443;",
	address   => "proxy_connect_pass $at; $trusts",
	stranger  => "proxy_connect_pass $at; proxy_connect_ssl_trusted_certificate other.example.crt;"
		. ' proxy_connect_ssl_name good.example;',
	revoked   => "proxy_connect_pass $at; $named proxy_connect_ssl_crl revoked.crl;",
	unrevoked => "proxy_connect_pass $at; $named proxy_connect_ssl_crl empty.crl;",
	misnamed  => "proxy_connect_pass $at; $trusts proxy_connect_ssl_name bad.example;",
	any       => "proxy_connect_pass $at; proxy_connect_ssl_verify off;",
	silent    => "proxy_connect_pass $at; $named proxy_connect_ssl_server_name off;",
	variable  => "proxy_connect_pass \$http_parent; $named",
	bare      => 'proxy_connect_pass $http_parent;',
	wants     => "proxy_connect_pass https://127.0.0.1:%%PORT_8444%%; $named",
	shows     => "proxy_connect_pass https://127.0.0.1:%%PORT_8444%%; $named"
		. ' proxy_connect_ssl_certificate client.example.crt; proxy_connect_ssl_certificate_key client.example.key;',
	old       => "proxy_connect_pass $at; $named proxy_connect_ssl_protocols TLSv1.2;",
	cipher    => "proxy_connect_pass $at; $named proxy_connect_ssl_protocols TLSv1.2;"
		. ' proxy_connect_ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256;',
	new       => "proxy_connect_pass https://127.0.0.1:%%PORT_8445%%; $named proxy_connect_ssl_protocols TLSv1.3;",
	anew      => "proxy_connect_pass $at; $named proxy_connect_ssl_session_reuse off;",
	plain     => "proxy_connect_pass https://127.0.0.1:%%PORT_8201%%; $named",
	mute      => "proxy_connect_pass https://127.0.0.1:%%PORT_8202%%; $named proxy_connect_connect_timeout 500ms;",
	closes    => "proxy_connect_pass https://127.0.0.1:%%PORT_8203%%; $named",
	fails     => "proxy_connect_pass https://fails; $named",
);

$servers{command} = "proxy_connect_pass $at; $named proxy_connect_ssl_conf_command MaxProtocol TLSv1.2;"
	if $t->has_version('1.19.4');

# A name of no name server: a group has it.
delete $servers{host};

my $conf = <<'EOF2';
%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  ends  "$server_name $status $proxy_connect_error|$upstream_addr|$upstream_status|$upstream_connect_time|"
                      "$upstream_header_time|$proxy_connect_close_reason";
    log_format  far   "$server_port $ssl_server_name $ssl_protocol $ssl_session_reused $ssl_client_verify $ssl_cipher "
                      "$proxy_connect_close_reason";
    access_log  %%TESTDIR%%/ends.log ends;

    upstream good.example {
        server 127.0.0.1:%%PORT_8443%%;
    }

    upstream fails {
        server 127.0.0.1:%%PORT_8203%% max_fails=0;
        server 127.0.0.1:%%PORT_8201%% max_fails=0;
        server 127.0.0.1:%%PORT_8443%%;
    }

    SERVERS

    server {
        listen       127.0.0.1:8443 ssl;
        server_name  parent;

        ssl_certificate      good.example.crt;
        ssl_certificate_key  good.example.key;
        ssl_protocols        TLSv1.2 TLSv1.3;
        ssl_session_cache    shared:SSL:1m;

        access_log  %%TESTDIR%%/far.log far;

        proxy_connect;
        proxy_connect_allow all;
    }

    server {
        listen       127.0.0.1:8444 ssl;
        server_name  careful;

        ssl_certificate         good.example.crt;
        ssl_certificate_key     good.example.key;
        ssl_verify_client       on;
        ssl_client_certificate  client.example.crt;

        access_log  %%TESTDIR%%/far.log far;

        proxy_connect;
        proxy_connect_allow all;
    }

    server {
        listen       127.0.0.1:8445 ssl;
        server_name  old;

        ssl_certificate      good.example.crt;
        ssl_certificate_key  good.example.key;
        ssl_protocols        TLSv1.2;

        proxy_connect;
        proxy_connect_allow all;
    }
}
EOF2

my $blocks = server_blocks(%servers);
$conf =~ s/SERVERS/$blocks/;

$t->plan(56);
$t->write_file_expand('nginx.conf', told_of($t, $conf));
certificate($t, $_) for qw/ good.example other.example client.example /;
revocations($t, 'good.example', 'empty.crl');
revocations($t, 'good.example', 'revoked.crl', serial($t, 'good.example'));

upstream($t, says("HTTP/1.1 400 Bad\x0d\x0a\x0d\x0a"), port(8201));
upstream($t, sub { $_[0]->read_to_end() }, port(8202));
upstream($t, sub { $_[0]->read_bytes(1) }, port(8203));
$t->run();

my $worker = lone_worker($t);
my $listener = listener(port(8081));

# Both ends of a tunnel through a server.
sub both {
	my ($listener, $server, @options) = @_;
	return pair($listener, port => server_port($server), @options);
}

sub passes {
	my ($listener, $server, @options) = @_;
	my ($client, $upstream) = eval { both($listener, $server, @options) } or return 0;
	my @got = cross($client, $upstream, 'up' x 100, 'down' x 100);
	$client->half_close();
	$upstream->ending();
	$upstream->close();
	$client->read_to_end();
	$client->close();
	return $got[0] eq 'up' x 100 && $got[1] eq 'down' x 100;
}

sub end_of {
	my ($t, $server, $file) = @_;
	return wait_until("no line of $server", sub { (log_lines($t, qr/^$server /, $file // 'ends.log'))[-1] });
}

# What the parent has logged of a tunnel through that server.
sub far {
	my ($t, $listener, $server, @options) = @_;
	my $count = log_lines($t, qr/^\d/, 'far.log');
	passes($listener, $server, @options) or return 'no tunnel';
	return wait_until("no line for $server", sub { (log_lines($t, qr/^\d/, 'far.log'))[$count] }) =~ s/^\d+ //r;
}

###############################################################################
# Whom the parent is taken for

my $before = steady_fds($worker);

like(far($t, $listener, 'good'), qr/^good\.example TLSv1\.[23] \. NONE /, 'a good parent');
like(far($t, $listener, 'group'), qr/^good\.example TLSv1\.[23] \. NONE /, 'the name is that of the group');
ok(passes($listener, 'port'), 'a name with a port');
like(far($t, $listener, 'any'), qr/^- TLSv1\.[23] \. NONE /, 'not verified, and an address is told as no name');
like(far($t, $listener, 'unrevoked'), qr/^good\.example TLSv1\.[23] /, 'not revoked');
like(far($t, $listener, 'silent'), qr/^- TLSv1\.[23] \. NONE /, 'without SNI');
like(end_of($t, 'good'), qr!^good 200 \|127\.0\.0\.1:\d+\|200\|\d\.\d+\|\d\.\d+\|!, 'variables of nginx');

for my $case (
	[ stranger => 'self-signed certificate|self signed certificate|unable to get local issuer' ],
	[ revoked => 'certificate revoked' ],
	[ misnamed => 'it is for another name' ],
	[ address => 'it is for another name' ])
{
	my ($server, $words) = @$case;
	my $answer = answer($server, 'a.example:443');

	is(status_of($answer), 502, "$server: status");
	unlike($answer, qr/certificate|good/, "$server: nothing about it for the client");
	is(() = log_lines($t, qr/\[error\] .*the certificate of the parent \S+ is not good for "\S+": ($words).*server: $server,/), 1,
		"$server: the log");
	like(end_of($t, $server), qr/^$server 502 tls_certificate_error\|/, "$server: variables");
}

###############################################################################
# What the parent learns of us

is(status_of(answer('wants', 'a.example:443')), 502, 'a parent wants a certificate');
like(far($t, $listener, 'shows'), qr/^good\.example \S+ \. SUCCESS /, 'and gets it');
like(far($t, $listener, 'old'), qr/ TLSv1\.2 /, 'proxy_connect_ssl_protocols');
like(far($t, $listener, 'cipher'), qr/ ECDHE-ECDSA-AES128-GCM-SHA256 /, 'proxy_connect_ssl_ciphers');

SKIP: {
	skip 'no proxy_connect_ssl_conf_command', 1 unless $servers{command};
	like(far($t, $listener, 'command'), qr/ TLSv1\.2 /, 'proxy_connect_ssl_conf_command');
}

is(status_of(answer('new', 'a.example:443')), 502, 'no protocol in common: status');
like(end_of($t, 'new'), qr/^new 502 tls_protocol_error\|/, 'no protocol in common: variables');

SKIP: {
	skip 'sessions come later', 3 unless $t->has_version('1.15.2');
	like(far($t, $listener, 'good'), qr/ TLSv1\.[23] r /, 'a session goes on, with a host');
	like(far($t, $listener, 'group'), qr/ TLSv1\.[23] r /, 'and with a server of a group');
	passes($listener, 'anew');
	like(far($t, $listener, 'anew'), qr/ TLSv1\.[23] \. /, 'proxy_connect_ssl_session_reuse off');
}

ok(passes($listener, 'variable', fields => [ 'Parent: https://127.0.0.1:' . port(8443) ]), 'by a variable');
is(status_of(answer('bare', 'a:1', 'Parent: https://127.0.0.1:' . port(8443))), 500,
	'by a variable, and nothing is configured');
is(() = log_lines($t, qr/there is no TLS to parents, see "proxy_connect_ssl_trusted_certificate"/), 1, 'the log tells');

###############################################################################
# Parents that speak no TLS

my %error = (plain => [ 502, 'tls_protocol_error' ], closes => [ 502, 'tls_protocol_error' ],
	mute => [ 504, 'http_response_timeout' ]);

for my $server (sort keys %error) {
	my ($status, $error) = @{$error{$server}};
	is(status_of(answer($server, 'a.example:443')), $status, "$server: status");
	like(end_of($t, $server), qr/^$server $status $error\|/, "$server: variables");
}

ok(passes($listener, 'fails'), 'the next one of a group is tried');

# A client that leaves in the middle of a handshake.
my $client = start('mute', undef, 'a.example:443');
wait_until('no connection', sub { upstream_lines($t, qr/accepted/) >= 5 });
$client->reset();
like(wait_for_line($t, qr/^mute 499 /, 'ends.log'), qr/499/, 'a client leaves in the middle of a handshake');

###############################################################################
# The tunnel

my $upstream;
($client, $upstream) = both($listener, 'good');
my @got = cross($client, $upstream, noise(8 * MB), noise(8 * MB + 1), 30);
same($got[0], noise(8 * MB), '8 MiB up');
same($got[1], noise(8 * MB + 1), '8 MiB down');

$client->half_close();
is($upstream->ending(), 'eof', 'a half-close goes through');
$upstream->send('still there');
is($client->read_bytes(11), 'still there', 'and the other direction goes on');
$upstream->close();
is($client->ending(), 'eof', 'to its end');
like(end_of($t, 'good'), qr/\|client_eof$/, 'which is a proper one');

($client, $upstream) = both($listener, 'good', early => 'early');
is($upstream->read_bytes(5), 'early', 'early bytes');
$upstream->send('last words');
$upstream->half_close();
is($client->read_to_end(), 'last words', 'an upstream that ends first');
$client->close();
is($upstream->ending(), 'eof', 'and the client then');

($client, $upstream) = both($listener, 'good');
$client->reset();
like($upstream->ending(), qr/eof|reset/, 'a reset of the client goes through');
$upstream->close();

undef $_ for $client, $upstream;

###############################################################################

ok(!log_lines($t, qr/\[(alert|emerg)\]/), 'nothing worse in the log');
is(settled_fds($worker, $before), $before, 'nothing is left open');

###############################################################################

###############################################################################
# Certificates that are called back

sub serial {
	my ($t, $name) = @_;
	my $said = `openssl x509 -noout -serial -in @{[ $t->testdir() ]}/$name.crt`;
	return $said =~ /serial=(\w+)/ ? $1 : die "No serial number of $name\n";
}

# The list of one who signed its own certificate, of these serial numbers.
sub revocations {
	my ($t, $name, $file, @serials) = @_;
	my $dir = $t->testdir();

	$t->write_file('index.txt', join '', map { "R\t491231235959Z\t200101000000Z\t$_\tunknown\t/CN=$name\n" } @serials);
	$t->write_file('ca.conf', "[ ca ]\ndefault_ca = this\n[ this ]\ndatabase = $dir/index.txt\n"
		. "default_md = sha256\ndefault_crl_days = 2\n");
	system("openssl ca -gencrl -config $dir/ca.conf -keyfile $dir/$name.key -cert $dir/$name.crt -out $dir/$file "
		. ">>$dir/openssl.out 2>&1") == 0 or die "Can't make $file\n";
	return;
}
