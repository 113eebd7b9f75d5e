#!/usr/bin/perl

# What "nginx -t" says of the directives: which values are taken and where, and that a refused one is
# named with its directive, its file and its line.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Check;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# What a server takes, alone in it beside proxy_connect.
my @good = (
	'proxy_connect',
	'proxy_connect_allow all',
	'proxy_connect_allow all 443',
	'proxy_connect_allow 443 all',
	'proxy_connect_allow 80 all 1000-2000 all',
	'proxy_connect_allow 443',
	'proxy_connect_allow 443 563 1000-2000 65535',
	'proxy_connect_allow 1-65535',
	'proxy_connect_allow 443 443 400-500',
	(map { ("$_ 10s", "$_ 500ms", "$_ 1m30s", "$_ 7", "$_ 0") } qw/
		proxy_connect_connect_timeout proxy_connect_data_timeout
		proxy_connect_read_timeout proxy_connect_send_timeout
	/),
	'proxy_connect_address 127.0.0.1',
	'proxy_connect_address 127.0.0.1:8443',
	'proxy_connect_address 127.0.0.01',
	'proxy_connect_address [::1]',
	'proxy_connect_address [::1]:8443',
	'proxy_connect_address name.example',
	'proxy_connect_address name.example:8443',
	'proxy_connect_address unix:/tmp/some.sock',
	'proxy_connect_address $connect_host',
	'proxy_connect_address "$connect_host:8443"',
	'proxy_connect_address off',
	'proxy_connect_address ""',
	'proxy_connect_bind 127.0.0.1',
	'proxy_connect_bind 127.0.0.1:10000',
	'proxy_connect_bind ::1',
	'proxy_connect_bind [::1]:10000',
	'proxy_connect_bind $remote_addr',
	'proxy_connect_bind off',
	'proxy_connect_bind ""',
	(map { "proxy_connect_bind $_" } '127.0.0.1 127.0.0.2', '127.0.0.0/8', '127.0.0.1 ::1 random',
		'random 127.0.0.1', '127.0.0.0/30 ::/0 round_robin', '127.0.0.1/32 hash=$remote_addr', '$http_a $http_b',
		'127.0.0.1:10000 127.0.0.2:10000', '127.0.0.1 hash=fixed', '"" 127.0.0.1',
		($^O eq 'linux' ? ('192.0.2.1 freebind', '$remote_addr random freebind') : ())),
	(map { "proxy_connect_prefer $_" } qw/ ipv6 ipv4 ipv6_only ipv4_only off /),
	(map { "proxy_connect_socket_keepalive $_" } qw/ on off /),
	(map { ("proxy_connect_socket_sndbuf $_", "proxy_connect_socket_rcvbuf $_") } qw/ 64k 10000 1 off /),
	'proxy_connect_socket_mark off',
	'proxy_connect_proxy_protocol off',
	'proxy_connect_response ""',
	'proxy_connect_response "HTTP/1.1 200 Fine\r\n\r\n"',
	'proxy_connect_response "HTTP/1.1 200 Fine\r\nX-Addr: $connect_addr\r\n\r\n"',
	'proxy_connect_splice auto',
	'proxy_connect_splice off',
	($^O eq 'linux' ? ('proxy_connect_splice on', 'proxy_connect_splice ktls') : ()),
	(map { "proxy_connect_send_lowat $_" } qw/ 0 1 1000 1k 1K 1m /),
	(map { "proxy_connect_http2_window $_" } qw/ 64k 65536 1M 2047m off /),
	(map { "proxy_connect_proxy_status $_" } qw/ off proxy.example /, '"my proxy" details'),
	(map { "proxy_connect_report_only $_" } qw/ on off /),
	(map { "proxy_connect_auth $_" } qw/ on off always /),
	(map { "proxy_connect_verify_sni $_" } qw/ off on strict /),
	(map { "proxy_connect_preread_timeout $_" } qw/ 10s 500ms 1m30s 7 0 /),
	(map { "proxy_connect_ssl_preread $_" } qw/ on off /),
	(map { ("proxy_connect_max_bytes $_", "proxy_connect_max_bytes $_ up") } qw/ 10g 1k 1 0 $http_size "${http_size}m" /),
	(map { "proxy_connect_max_bytes 1 $_" } qw/ down both /),
	'proxy_connect_rate_zone $remote_addr zone=addrs:1m download=10m',
	'proxy_connect_rate_zone $remote_addr zone=addrs:1m upload=1g download=100k',
	'proxy_connect_rate_zone "$remote_user$remote_addr" upload=1 zone=addrs:1m',
	(map { ("proxy_connect_download_rate $_", "proxy_connect_upload_rate $_") } qw/ 1g 100k 1 0 $http_rate "${http_rate}k" /),
	(map { "proxy_connect_tunnel_time $_" } qw/ 8h 500ms 0 4000w $http_time "${http_time}s" /),
);

my @timeouts = map { "proxy_connect_${_}_timeout" } qw/ connect data read send /;
my $number = 'invalid number of arguments in';
my $no_port = 'is not a port from 1 to 65535, a range';
my ($data, $read) = map { "proxy_connect_${_}_timeout" } qw/ data read /;

# What it refuses, and with which words. The last line is the one that is refused.
my @bad = (
	[ $number => 'proxy_connect on' ],

	[ $number => 'proxy_connect_splice' ],
	[ $number => 'proxy_connect_splice on off' ],
	[ 'it must be "on", "off", "auto" or "ktls"' => 'proxy_connect_splice always', 'always' ],
	[ 'it must be "on", "off", "auto" or "ktls"' => 'proxy_connect_splice ""' ],
	[ 'is duplicate' => 'proxy_connect_splice on', 'proxy_connect_splice off' ],

	[ $number => 'proxy_connect_auth' ],
	[ $number => 'proxy_connect_auth on off' ],
	[ 'it must be "on", "off" or "always"' => 'proxy_connect_auth basic', 'basic' ],
	[ 'it must be "on", "off" or "always"' => 'proxy_connect_auth ""' ],
	[ 'is duplicate' => 'proxy_connect_auth on', 'proxy_connect_auth always' ],

	[ $number => 'proxy_connect_proxy_status' ],
	[ $number => 'proxy_connect_proxy_status a details b' ],
	[ 'it may only be "details" behind a name' => 'proxy_connect_proxy_status a detail', 'detail' ],
	[ 'it may only be "details" behind a name' => 'proxy_connect_proxy_status off details', 'details' ],
	[ 'it must be visible ASCII' => 'proxy_connect_proxy_status "a\tb"' ],
	[ 'it must be visible ASCII' => 'proxy_connect_proxy_status ""' ],
	[ 'is duplicate' => 'proxy_connect_proxy_status a', 'proxy_connect_proxy_status b' ],

	[ $number => 'proxy_connect_report_only' ],
	[ 'it must be "on" or "off"' => 'proxy_connect_report_only yes', 'yes' ],
	[ 'is duplicate' => 'proxy_connect_report_only on', 'proxy_connect_report_only on' ],

	[ $number => 'proxy_connect_verify_sni' ],
	[ $number => 'proxy_connect_verify_sni on strict' ],
	[ 'it must be "off", "on" or "strict"' => 'proxy_connect_verify_sni yes', 'yes' ],
	[ 'it must be "off", "on" or "strict"' => 'proxy_connect_verify_sni ""' ],
	[ 'is duplicate' => 'proxy_connect_verify_sni on', 'proxy_connect_verify_sni off' ],

	[ $number => 'proxy_connect_preread_timeout' ],
	[ $number => 'proxy_connect_preread_timeout 1s 2s' ],
	(map { [ 'invalid time' => "proxy_connect_preread_timeout $_", $_ ] } qw/ soon -1 10x 1.5s $msec /),
	[ 'is duplicate' => 'proxy_connect_preread_timeout 1s', 'proxy_connect_preread_timeout 1s' ],

	[ $number => 'proxy_connect_ssl_preread' ],
	[ 'it must be "on" or "off"' => 'proxy_connect_ssl_preread strict', 'strict' ],
	[ 'is duplicate' => 'proxy_connect_ssl_preread on', 'proxy_connect_ssl_preread on' ],

	[ $number => 'proxy_connect_tunnel_time' ],
	[ $number => 'proxy_connect_tunnel_time 1s 2s' ],
	(map { [ 'invalid time' => "proxy_connect_tunnel_time $_", $_ ] } qw/ soon -1 10x 1.5s off /),
	[ 'invalid time' => 'proxy_connect_tunnel_time ""' ],
	[ 'is duplicate' => 'proxy_connect_tunnel_time 1s', 'proxy_connect_tunnel_time $http_time' ],

	(map {
		my $name = $_;
		(
			[ $number => $name ],
			[ $number => "$name 1m 2m" ],
			(map { [ 'invalid rate' => "$name $_", $_ ] } qw( fast -1 1.5k 1m/s 10s off 99999999999999999999 )),
			[ 'invalid rate' => "$name \"\"" ],
			[ 'is duplicate' => "$name 1", "$name 1" ],
		)
	} qw/ proxy_connect_download_rate proxy_connect_upload_rate /),

	[ $number => 'proxy_connect_rate_zone $remote_addr' ],
	[ $number => 'proxy_connect_rate_zone $remote_addr zone=a:1m' ],
	[ 'duplicate parameter' => 'proxy_connect_rate_zone $remote_addr zone=a:1m zone=a:1m', 'zone=a:1m' ],
	[ 'no zone in' => 'proxy_connect_rate_zone $remote_addr upload=1 download=1' ],
	(map { [ 'invalid rate' => "proxy_connect_rate_zone \$remote_addr zone=a:1m download=$_", "download=$_" ] }
		qw/ fast 0 -1 1.5k $rate /, ''),
	(map { [ 'invalid parameter' => "proxy_connect_rate_zone \$remote_addr zone=a:1m download=1 $_", $_ ] }
		qw/ rate=1 1m burst /),
	[ 'invalid zone' => 'proxy_connect_rate_zone $remote_addr zone=:1m download=1', ':1m' ],
	(map { [ 'invalid size of the zone' => "proxy_connect_rate_zone \$remote_addr zone=a:$_ download=1", "a:$_" ] }
		qw/ much 1x -1 /, ''),
	[ 'is too small' => 'proxy_connect_rate_zone $remote_addr zone=a:1k download=1', 'a:1k' ],

	[ $number => 'proxy_connect_max_bytes' ],
	[ $number => 'proxy_connect_max_bytes 1 up down' ],
	(map { [ 'invalid size' => "proxy_connect_max_bytes $_", $_ ] }
		qw/ much -1 1.5k 1kk 10s off 99999999999999999999 /),
	[ 'invalid size' => 'proxy_connect_max_bytes ""' ],
	(map { [ 'it must be "up", "down" or "both"' => "proxy_connect_max_bytes 1 $_", $_ ] } qw/ upload all 2 /),
	(map { [ 'is duplicate' => "proxy_connect_max_bytes 1 $_", "proxy_connect_max_bytes 2 $_" ] } qw/ up down both /),
	[ 'is duplicate' => 'proxy_connect_max_bytes 1 both', 'proxy_connect_max_bytes 2' ],

	[ $number => 'proxy_connect_http2_window' ],
	[ 'is duplicate' => 'proxy_connect_http2_window 1m', 'proxy_connect_http2_window 1m' ],
	(map { [ 'invalid size' => "proxy_connect_http2_window $_", $_ ] } qw/ 0 63k 2048m 3g -1 x /),
	[ $number => 'proxy_connect_send_lowat' ],
	[ $number => 'proxy_connect_send_lowat 1k 2k' ],
	[ 'is duplicate' => 'proxy_connect_send_lowat 1k', 'proxy_connect_send_lowat 1k' ],
	(map { [ 'invalid size' => "proxy_connect_send_lowat $_", $_ ] }
		qw/ x -1 1.5k 1kk 1g 10s 99999999999999999999 $size /),
	[ 'invalid size' => 'proxy_connect_send_lowat ""' ],

	[ $number => 'proxy_connect_allow' ],
	(map { [ $no_port => "proxy_connect_allow $_", $_ ] }
		qw/ 0 65536 99999999999 https 1- -1 1-2-3 0-10 1-65536 +1 ALL 44x /, '443,563'),
	[ $no_port => 'proxy_connect_allow 443 x', 'x' ],
	[ $no_port => 'proxy_connect_allow ""' ],
	[ 'first port is above its last' => 'proxy_connect_allow 2000-1000', '2000-1000' ],
	[ $no_port => 'proxy_connect_allow all x', 'x' ],
	[ $no_port => 'proxy_connect_allow 0 all', '0' ],
	[ 'first port is above its last' => 'proxy_connect_allow all 2000-1000', '2000-1000' ],
	[ 'is duplicate' => 'proxy_connect_allow 443', 'proxy_connect_allow 563' ],
	[ 'is duplicate' => 'proxy_connect_allow all', 'proxy_connect_allow all' ],

	(map {
		my $name = $_;
		(
			[ $number => $name ],
			[ $number => "$name 1s 2s" ],
			[ 'is duplicate' => "$name 1s", "$name 1s" ],
			map { [ 'invalid time' => "$name $_", $_ ] } qw/
				soon -1 10x 1.5s 99999999999999999999s $msec
			/
		)
	} @timeouts),
	[ "\"$read\" directive is duplicate" => "$data 1s", "$read 1s", $data ],
	[ "\"$data\" directive is duplicate" => "$read 1s", "$data 1s", $read ],
	[ "\"$read\" directive is duplicate" => "$read 1s", "$read 1s" ],

	[ $number => 'proxy_connect_address' ],
	[ $number => 'proxy_connect_address 127.0.0.1 127.0.0.2' ],
	[ 'is duplicate' => 'proxy_connect_address off', 'proxy_connect_address off' ],
	[ 'is duplicate' => 'proxy_connect_address 127.0.0.1',
		'proxy_connect_address 127.0.0.2' ],
	(map { [ '' => "proxy_connect_address $_", $_ ] } qw/
		127.0.0.1:0 127.0.0.1:65536 127.0.0.1:https 127.0.0.1: [::1 [::1]:0
		[::g] :443 name.example:0 name.example:x http:\/\/name.example\/ unix:
	/),

	[ $number => 'proxy_connect_bind' ],
	[ 'invalid address' => 'proxy_connect_bind 127.0.0.1 transparent more', 'more' ],
	[ 'is duplicate' => 'proxy_connect_bind off', 'proxy_connect_bind off' ],
	[ 'is duplicate' => 'proxy_connect_bind 127.0.0.1',
		'proxy_connect_bind 127.0.0.2 transparent' ],
	[ 'invalid address' => 'proxy_connect_bind 127.0.0.1 opaque', 'opaque' ],
	[ 'invalid parameter' => 'proxy_connect_bind off transparent', 'transparent' ],
	(map { [ 'invalid address' => "proxy_connect_bind $_", $_ ] } qw{
		localhost unix:/tmp/some.sock 300.0.0.1 127.0.0.1:0 127.0.0.1:65536 127.0.0.1:x [::1 127.0.0
		127.0.0.0/33 127.0.0.0/ /8 ::/129 127.0.0.0/8:80 [::1]/128 host/8 127.0.0.0/x least_conn
	}),
	[ 'nothing may follow "off"' => 'proxy_connect_bind off 127.0.0.1', '127.0.0.1' ],
	[ 'invalid address' => 'proxy_connect_bind 127.0.0.1 off', 'off' ],
	[ 'no address' => 'proxy_connect_bind random' ],
	[ 'no address' => 'proxy_connect_bind hash=$remote_addr transparent' ],
	[ 'no key' => 'proxy_connect_bind 127.0.0.1 hash=' ],
	[ 'another way' => 'proxy_connect_bind 127.0.0.1 random round_robin', 'round_robin' ],
	[ 'another way' => 'proxy_connect_bind 127.0.0.1 random random', 'random' ],
	[ 'another way' => 'proxy_connect_bind 127.0.0.1 random hash=$host', 'hash=$host' ],
	[ 'is duplicate' => 'proxy_connect_bind 127.0.0.1', 'proxy_connect_bind 127.0.0.2 random' ],

	[ $number => 'proxy_connect_prefer' ],
	[ $number => 'proxy_connect_prefer ipv4 ipv6' ],
	(map { [ 'it must be "ipv6", "ipv4",' => "proxy_connect_prefer $_", $_ ] } qw/ IPv6 6 on $http_a ipv6only /),
	[ 'is duplicate' => 'proxy_connect_prefer ipv4', 'proxy_connect_prefer off' ],

	[ $number => 'proxy_connect_socket_keepalive' ],
	[ 'it must be "on" or "off"' => 'proxy_connect_socket_keepalive 30s', '30s' ],
	[ 'is duplicate' => 'proxy_connect_socket_keepalive on', 'proxy_connect_socket_keepalive off' ],
	(map { my $name = "proxy_connect_socket_$_"; (
		[ $number => $name ],
		[ $number => "$name 1k 2k" ],
		(map { [ 'invalid size' => "$name $_", $_ ] } qw/ 0 -1 many 1.5k 4g $http_size /),
		[ 'invalid size' => "$name \"\"" ],
		[ 'is duplicate' => "$name 64k", "$name 64k" ],
	) } qw/ sndbuf rcvbuf /),
	[ $number => 'proxy_connect_socket_mark' ],
	[ $number => 'proxy_connect_socket_mark 1 2' ],
	(map { [ 'invalid number' => "proxy_connect_socket_mark $_", $_ ] }
		qw/ 0 0x0 -1 +1 one 4294967296 0x100000000 0x 0xg 1.5 $http_mark /),
	[ 'invalid number' => 'proxy_connect_socket_mark ""' ],
	[ 'is duplicate' => 'proxy_connect_socket_mark off', 'proxy_connect_socket_mark 1' ],

	[ $number => 'proxy_connect_proxy_protocol' ],
	[ $number => 'proxy_connect_proxy_protocol v1 v2' ],
	(map { [ 'it must be "off", "v1" or "v2"' => "proxy_connect_proxy_protocol $_", $_ ] } qw/ on V1 1 v3 $http_a /),
	[ 'is duplicate' => 'proxy_connect_proxy_protocol off', 'proxy_connect_proxy_protocol v1' ],

	[ $number => 'proxy_connect_response' ],
	[ $number => 'proxy_connect_response a b' ],
	[ 'is duplicate' => 'proxy_connect_response a', 'proxy_connect_response b' ],
	[ 'is duplicate' => 'proxy_connect_response ""', 'proxy_connect_response b' ],
);

# The same in http.
my @bad_in_http = (
	[ 'is duplicate' => 'proxy_connect_connect_timeout 1s', 'proxy_connect_connect_timeout 1s' ],
	[ 'invalid time' => 'proxy_connect_data_timeout soon', 'soon' ],
	[ "\"$read\" directive is duplicate" => "$data 1s", "$read 1s", $data ],
	[ 'invalid size' => 'proxy_connect_send_lowat x', 'x' ],
	[ 'it must be "off", "on" or "strict"' => 'proxy_connect_verify_sni yes', 'yes' ],
	[ 'invalid address' => 'proxy_connect_bind localhost', 'localhost' ],
	[ 'invalid address' => 'proxy_connect_bind 127.0.0.1 localhost random', 'localhost' ],
	[ 'it must be "ipv6", "ipv4",' => 'proxy_connect_prefer any', 'any' ],
	[ 'it must be "off", "v1" or "v2"' => 'proxy_connect_proxy_protocol v3', 'v3' ],
	[ 'invalid size' => 'proxy_connect_socket_sndbuf x', 'x' ],
	[ 'invalid number' => 'proxy_connect_socket_mark x', 'x' ],
	[ '' => 'proxy_connect_address 127.0.0.1:0', '127.0.0.1:0' ],
);

# Where a directive must not stand: around it.
my @contexts = (
	[ 'main' => '%s' ],
	[ 'location' => 'http { server { location / { %s } } }' ],
	[ 'if' => 'http { server { if ($host) { %s } } }' ],
	[ 'limit_except' => 'http { server { location / { limit_except GET { %s } } } }' ],
);

# What opens a proxy stands where it listens. The others stand in http, too, for all servers.
my @server_only = ('proxy_connect', 'proxy_connect_allow all');
my @in_http = ((map { "$_ 1s" } @timeouts), 'proxy_connect_address off', 'proxy_connect_bind off',
	'proxy_connect_prefer ipv6', 'proxy_connect_proxy_protocol off', 'proxy_connect_socket_keepalive on',
	'proxy_connect_socket_sndbuf 64k', 'proxy_connect_socket_rcvbuf 64k', 'proxy_connect_socket_mark off',
	'proxy_connect_response a', 'proxy_connect_splice off', 'proxy_connect_send_lowat 1k',
	'proxy_connect_proxy_status a', 'proxy_connect_report_only on', 'proxy_connect_verify_sni on',
	'proxy_connect_preread_timeout 1s', 'proxy_connect_ssl_preread on',
	'proxy_connect_tunnel_time 1s', 'proxy_connect_max_bytes 1g', 'proxy_connect_download_rate 1m',
	'proxy_connect_upload_rate 1m', 'proxy_connect_rate_zone $remote_addr zone=some:1m download=1m');
my @directives = (@server_only, @in_http);

my $t = Test::Nginx->new()->has(qw/http rewrite/);

my @transparent = map { "proxy_connect_bind $_ transparent" } '127.0.0.1', '$remote_addr';

if ($t->has_version('1.11.0')) {
	push @good, @transparent;
} else {
	push @bad, map { [ '"transparent"' => $_ ], [ 'needs nginx 1.11.0' => $_ ] } @transparent;
}

# Where nginx logs a request unless told.
mkdir $t->testdir() . '/logs';

$t->plan(@good + @bad + @bad_in_http + @contexts * @directives + @directives + 24);

###############################################################################

for my $directive (@good) {
	my ($output) = check($t, $directive);
	is_fine($output, $directive);
}

is_refused_by($t, \&check, '', @$_) for @bad;
is_refused_by($t, \&check_http, 'http: ', @$_) for @bad_in_http;

for my $where (\&check, \&check_http) {
	my ($output, $line) = $where->($t, 'proxy_connect_rate_zone $remote_addr zone=nowhere download=1');
	like($output, qr/\[emerg\] .*unknown zone "nowhere" in the "proxy_connect_rate_zone" directive in \S+:$line, give it a size/,
		'a zone without a size');

	($output, $line) = $where->($t, map { "proxy_connect_rate_zone \$remote_addr zone=some:$_ download=1" } '1m', '2m');
	like($output, qr/\[emerg\] the zone "some" in the "proxy_connect_rate_zone" directive can't be had in \S+:$line$/m,
		'a zone with two sizes');
	like($output, qr/conflicts with already declared size/, 'a zone with two sizes: nginx says why');
}

for my $directive (@directives) {
	for (@contexts) {
		my ($name, $around) = @$_;
		my ($directive_name) = $directive =~ /^(\w+)/;

		like(check_text($t, sprintf($around, "$directive;") . ' events { }'),
			qr/\[emerg\] .*"$directive_name" directive is not allowed here/,
			"$directive_name in $name");
	}
}

for my $directive (@server_only) {
	my ($output, $line) = check_http($t, $directive);
	like($output, qr/\[emerg\] .*"\w+" directive is not allowed here in \S+:$line$/m,
		"$directive in http: refused");
}

is_fine((check_http($t, $_))[0], "$_ in http") for @in_http;

###############################################################################
# Together

my ($output) = check($t, 'proxy_connect_allow 443 563',
	'proxy_connect_connect_timeout 10s', 'proxy_connect_data_timeout 10s',
	'proxy_connect_address off', 'proxy_connect_bind off',
	'proxy_connect_response "HTTP/1.1 200 Fine\r\n\r\n"');
is_fine($output, 'all directives together');

is_fine(check_text($t, <<'EOF'), 'every directive in each of two servers');
events { }
http {
    server {
        proxy_connect;
        proxy_connect_allow 443;
        proxy_connect_data_timeout 1s;
        proxy_connect_response a;
    }
    server {
        proxy_connect;
        proxy_connect_allow 563;
        proxy_connect_read_timeout 1s;
        proxy_connect_response b;
    }
}
EOF

# A server has its own in place of what http says, by whichever name.
is_fine(check_text($t, <<'EOF'), 'every directive in http and again in a server');
events { }
http {
    proxy_connect_connect_timeout 1s;
    proxy_connect_read_timeout 1s;
    proxy_connect_send_timeout 1s;
    proxy_connect_address 127.0.0.1;
    proxy_connect_bind 127.0.0.1;
    proxy_connect_response a;
    proxy_connect_splice off;
    proxy_connect_send_lowat 1k;

    server {
        proxy_connect;
        proxy_connect;
        proxy_connect_allow all 443;
        proxy_connect_connect_timeout 2s;
        proxy_connect_data_timeout 2s;
        proxy_connect_send_timeout 2s;
        proxy_connect_address off;
        proxy_connect_bind off;
        proxy_connect_response "";
        proxy_connect_splice auto;
        proxy_connect_send_lowat 0;
    }

    server {
        proxy_connect;
        proxy_connect_read_timeout 2s;
    }
}
EOF

# What many servers include may say that they take CONNECT; so may one of them itself.
$t->write_file('proxy.inc', "proxy_connect;\n");
is_fine((check($t, 'include proxy.inc'))[0], 'proxy_connect, and an include with it');

is_fine(check_text($t, <<'EOF'), 'directives without proxy_connect');
events { }
http {
    server {
        proxy_connect_allow 443;
        proxy_connect_address 127.0.0.1;
    }
}
EOF

# A directive that does nothing is told so, and no more.
my ($warned, $line) = check($t, 'proxy_connect_send_timeout 10s');
like($warned, qr/\[warn\] .*"proxy_connect_send_timeout".* does nothing.* in \S+:$line$/m,
	'proxy_connect_send_timeout: a warning');
like($warned, qr/syntax is ok/, 'proxy_connect_send_timeout: and no more');
unlike($output, qr/\[warn\]/, 'no warning without it');

($warned, $line) = check_http($t, 'proxy_connect_send_timeout 10s');
like($warned, qr/\[warn\] .*"proxy_connect_send_timeout".* does nothing.* in \S+:$line$/m,
	'proxy_connect_send_timeout in http: a warning');

# Linux has a low-water mark for sending, but lets nobody set it. What a system can do nginx knows.
my $warning = qr/\[warn\] .*"\S+_send_lowat" is not supported, ignored in \S+:\d+$/m;
my ($nginxs) = check($t, 'location / { proxy_send_lowat 1k; }');

for ([ 'a server' => check($t, 'proxy_connect_send_lowat 1k') ],
	[ 'http' => check_http($t, 'proxy_connect_send_lowat 1k') ])
{
	my ($where, $warned, $line) = @$_;
	is($warned =~ /$warning/, $nginxs =~ /$warning/,
		"proxy_connect_send_lowat in $where: a warning where nginx's own has one");
	like($warned, qr/syntax is ok/, "proxy_connect_send_lowat in $where: and no more");
}

like((check($t, "proxy_connect_$_ \$no_such_variable"))[0],
	qr/\[emerg\] .*unknown "no_such_variable" variable/,
	"proxy_connect_$_: an unknown variable") for qw/ address bind response /;

# The module's variables that can't be set, and one that can.
like((check($t, 'set $connect_addr a'))[0], qr/\[emerg\] .*"connect_addr" variable/,
	'set $connect_addr: refused');
is_fine((check($t, 'set $proxy_connect_data_timeout 1s'))[0],
	'set $proxy_connect_data_timeout');

###############################################################################

# The same of directives in http, with a server below.
sub check_http {
	my ($t, @directives) = @_;
	my $text = join '', "events { }\nhttp {\n", (map { "$_;\n" } @directives),
		"server {\nproxy_connect;\n}\n}\n";

	return (check_text($t, $text), 2 + @directives);
}

sub is_refused_by {
	my ($t, $check, $where, $words, @directives) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	# A value that the message must name stands behind the last directive.
	my $value = @directives > 1 && $directives[-1] !~ /^proxy_connect\w* /
		? pop @directives : undef;
	my ($output, $line) = $check->($t, @directives);
	my ($name) = $directives[-1] =~ /^(\w+)/;

	return is_refused($output, $line, $where . join('; ', @directives), $name, $words, $value);
}

sub is_refused {
	my ($output, $line, $name, $directive, $words, $value) = @_;
	my ($message) = $output =~ /^(.*\[emerg\].*)$/m;
	$message //= '';

	my $is_told = $message =~ /check\.conf:$line$/
		&& $message =~ /"$directive"/
		&& index($message, $words) >= 0
		&& (!defined $value || index($message, "\"$value\"") >= 0);

	return ok($is_told && $output !~ /syntax is ok/, $name)
		|| diag("expected $words \"", $value // '', "\", line $line, got:\n$output");
}

###############################################################################
