#!/usr/bin/perl

# What "nginx -t" says of parents: what is taken, and what is refused with a sentence that says what to do.

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

my $t = Test::Nginx->new()->has(qw/http rewrite map/);

# An nginx without OpenSSL has no https.
my $tls = $t->has_module('http_ssl') && $t->has_version('1.13.0');
my $commands = $tls && $t->has_version('1.19.4');

my @good = (
	(map { "proxy_connect_pass $_" } 'direct', '127.0.0.1:3128', 'http://127.0.0.1', 'http://[::1]:3128',
		'[::1]:3128', 'socks5://127.0.0.1', 'HTTP://127.0.0.1', 'localhost:3128', 'parents', 'http://parents',
		'socks5://parents', '$http_parent', 'http://$http_parent', 'http://127.0.0.1:$http_port', 'late'),
	'proxy_connect_pass_user user password', 'proxy_connect_pass_user $http_user $http_password',
	'proxy_connect_pass_user off', 'proxy_connect_pass_user user ""',
	'proxy_connect_pass_auth on', 'proxy_connect_pass_auth off',
	'proxy_connect_pass_resolve on', 'proxy_connect_pass_resolve off',
	(map { "proxy_connect_pass_buffer_size $_" } '256', '1k', '8k', '1m'),
	'proxy_connect_set_header User-Agent me; proxy_connect_set_header Host ""',
	'proxy_connect_set_header Proxy-Authorization "Basic x"', 'proxy_connect_set_header X "a\tb"',
	(map { "proxy_connect_next_upstream $_" } 'off', 'error', 'error timeout denied http_502 http_503 http_504 http_407'),
	'proxy_connect_next_upstream_tries 0', 'proxy_connect_next_upstream_tries 3',
	'proxy_connect_next_upstream_timeout 10s', 'proxy_connect_next_upstream_timeout 0',
	'proxy_connect_ssl_name $connect_host', 'proxy_connect_ssl_verify_depth 3', 'proxy_connect_ssl_ciphers HIGH',
	'proxy_connect_address parents',
);

# The value, and what is said of it.
my @bad_ways = (
	[ '""' => '"" in the "proxy_connect_pass" directive is empty, write "direct"' ],
	[ 'ftp://a' => '"ftp://a" in the "proxy_connect_pass" directive has an unknown scheme, write "http://", "https://" or '
		. '"socks5://"' ],
	[ 'socks4://a' => 'has an unknown scheme' ],
	[ 'http://a/' => 'has something behind the host and its port, leave that out' ],
	[ 'a:1/x' => 'has something behind the host' ],
	[ 'http://u:p@a' => 'has credentials in it, give them with "proxy_connect_pass_user"' ],
	[ 'http://' => 'has no host, or one with a character that none has' ],
	[ '"a b:1"' => 'has no host' ],
	[ '[::1' => 'has no host' ],
	[ '[x]:1' => 'has no host' ],
	[ 'a:0' => 'has an invalid port' ],
	[ 'a:65536' => 'has an invalid port' ],
	[ 'a:' => 'has an invalid port' ],
	[ 'unix:/a' => 'has something behind the host' ],
	[ 'nobody' => '"nobody" in the "proxy_connect_pass" directive in \S+check\.conf:LINE is no upstream: write "upstream '
		. 'nobody { ... }", or for a host "http://nobody" or "nobody:PORT"' ],
	[ 'parents:3128' => 'has the port 3128, and upstream "parents" has servers with ports of their own: leave it out' ],
	[ 'none.invalid:3128' => 'host not found in "none.invalid:3128" of the "proxy_connect_pass" directive in '
		. '\S+check\.conf:LINE' ],
);

my @bad = (
	[ 'proxy_connect_pass_user a' => '"proxy_connect_pass_user" takes a name and a password, or "off"' ],
	[ 'proxy_connect_pass_user a:b c' => 'the name or the password of the "proxy_connect_pass_user" directive has a colon' ],
	[ "proxy_connect_pass_user a \"b\\nc\"" => 'the name or the password of the "proxy_connect_pass_user" directive has a '
		. 'control character' ],
	[ 'proxy_connect_pass_user a b; proxy_connect_pass_auth on' => '"proxy_connect_pass_user" and "proxy_connect_pass_auth '
		. 'on" both give a parent credentials, keep one of them' ],
	[ 'proxy_connect_pass_auth maybe' => 'invalid value "maybe" in the "proxy_connect_pass_auth" directive' ],
	[ 'proxy_connect_pass_resolve maybe' => 'invalid value "maybe" in the "proxy_connect_pass_resolve" directive' ],
	(map { [ "proxy_connect_pass_buffer_size $_" => "invalid size \"$_\" in the \"proxy_connect_pass_buffer_size\" "
		. 'directive, give one from "256" to "1m"' ] } '0', '255', '2m', 'x'),
	[ 'proxy_connect_set_header "a b" c' => 'invalid field "a b" in the "proxy_connect_set_header" directive' ],
	[ 'proxy_connect_set_header a: c' => 'invalid field "a:" in the "proxy_connect_set_header" directive' ],
	(map { [ "proxy_connect_set_header $_ 1" => "the field \"$_\" in the \"proxy_connect_set_header\" directive is the "
		. 'connection\'s own, or tells of a body' ] } 'Content-Length', 'transfer-encoding', 'Connection', 'Upgrade'),
	[ "proxy_connect_set_header X \"a\\r\\nb\"" => 'the value of "X" in the "proxy_connect_set_header" directive has a '
		. 'control character' ],
	(map { [ "proxy_connect_next_upstream $_->[0]" => "invalid value \"$_->[1]\" in the \"proxy_connect_next_upstream\" "
		. 'directive, give some of "error"' ] } [ 'http_500', 'http_500' ], [ 'error off', 'off' ], [ 'always', 'always' ]),
	(map { [ "proxy_connect_next_upstream_tries $_" => "invalid number \"$_\" in the \"proxy_connect_next_upstream_tries\"" ] }
		'-1', 'x', '99999999999999999999'),
	[ 'proxy_connect_next_upstream_timeout x' => 'invalid time "x" in the "proxy_connect_next_upstream_timeout" directive' ],
	[ 'proxy_connect_ssl_verify maybe' => 'invalid value "maybe" in the "proxy_connect_ssl_verify" directive' ],
	[ 'proxy_connect_ssl_verify_depth x' => 'invalid number "x" in the "proxy_connect_ssl_verify_depth" directive' ],
	(map { [ "$_; $_" => '"\S+" directive is duplicate' ] } 'proxy_connect_pass direct', 'proxy_connect_pass_user a b',
		'proxy_connect_pass_auth off', 'proxy_connect_next_upstream off', 'proxy_connect_ssl_verify off'),
);

my @https = $tls ? (
	[ 'proxy_connect_pass https://127.0.0.1' => 'no "proxy_connect_ssl_trusted_certificate" to verify the parent with that '
		. 'is named in the "proxy_connect_pass" directive in \S+check\.conf:5: name the file of those that are trusted, or '
		. 'say "proxy_connect_ssl_verify off"' ],
	[ 'proxy_connect_pass https://$http_parent' => 'no "proxy_connect_ssl_trusted_certificate"' ],
	[ 'proxy_connect_pass https://127.0.0.1; proxy_connect_ssl_trusted_certificate none.pem' => 'none\.pem' ],
	[ 'proxy_connect_pass https://127.0.0.1; proxy_connect_ssl_verify off; proxy_connect_ssl_certificate a.crt' =>
		'no "proxy_connect_ssl_certificate_key" for the "proxy_connect_ssl_certificate" of the server' ],
	[ 'proxy_connect_pass https://127.0.0.1; proxy_connect_ssl_verify off; proxy_connect_ssl_ciphers none' => 'none' ],
	[ 'proxy_connect_ssl_protocols TLSv9' => 'invalid value "TLSv9" in the "proxy_connect_ssl_protocols" directive' ],
) : (
	[ 'proxy_connect_pass https://127.0.0.1' => 'https in the "proxy_connect_pass" directive in \S+check\.conf:5 needs an '
		. 'nginx with OpenSSL, 1.13.0 or newer' ],
);

push @https, [ 'proxy_connect_ssl_conf_command a b' => '"proxy_connect_ssl_conf_command" needs nginx 1.19.4' ]
	unless $commands;

push @good, 'proxy_connect_pass https://127.0.0.1; proxy_connect_ssl_verify off',
	'proxy_connect_pass https://parents; proxy_connect_ssl_verify off; proxy_connect_ssl_protocols TLSv1.2 TLSv1.3',
	'proxy_connect_pass https://$http_parent; proxy_connect_ssl_verify off' if $tls;
push @good, 'proxy_connect_pass https://127.0.0.1; proxy_connect_ssl_verify off;'
	. ' proxy_connect_ssl_conf_command MinProtocol TLSv1.2' if $commands;

$t->plan(@good + @bad_ways + @bad + @https + 11);

mkdir $t->testdir() . '/logs';

my $groups = 'upstream parents { server 127.0.0.1:3128; }';

# The directives in a server, with a group before it and one behind.
sub checked {
	my ($t, $directives, $server) = @_;
	return check_text($t, "events { }\nhttp {\n$groups server {\n" . ($server // 'proxy_connect;')
		. "\n$directives" . ($directives =~ /\}$/ ? "" : ";") . "\n}\nupstream late { server 127.0.0.1:3128; }\n}\n");
}

is_fine(checked($t, $_), $_) for @good;

for my $case (@bad_ways, map { [ @$_, 1 ] } @bad, @https) {
	my ($value, $sentence, $is_whole) = @$case;
	my $directives = $is_whole ? $value : "proxy_connect_pass $value";
	# Where a file and a line are named, it is an expression; else a text.
	my $pattern = $sentence =~ /\\[S.]/ ? $sentence =~ s/([{}]|(?<= )\.\.\.)/\\$1/gr =~ s/LINE/5/r : quotemeta $sentence;

	like(checked($t, $directives), qr/\[emerg\] .*$pattern/, "$directives: refused");
}

###############################################################################
# Where it may stand

is_fine(checked($t, 'if ($http_far) { proxy_connect_pass 127.0.0.1:3128; }'), 'in an if')
	unless no_rewrite($t);
like(checked($t, 'if ($http_far) { proxy_connect_pass 127.0.0.1:3128; }'), qr/this core runs no rewrite phase/, 'in an if')
	if no_rewrite($t);

my $if = checked($t, 'if ($http_far) { proxy_connect_pass nobody; }');
like($if, no_rewrite($t) ? qr/no rewrite phase/ : qr/\[emerg\] .*"nobody" .* is no upstream/, 'in an if: an unknown group');
like(checked($t, 'location / { proxy_connect_pass direct; }'), qr/"proxy_connect_pass" directive is not allowed here/,
	'not in a location');
like(checked($t, 'if ($http_far) { proxy_connect_pass_auth on; }'),
	qr/"proxy_connect_pass_auth" directive is not allowed here/, 'the others not in an if');

# Without proxy_connect nobody is asked for a parent's address.
is_fine(checked($t, 'proxy_connect_pass none.invalid:3128', ''), 'a server without proxy_connect');

is_fine(check_text($t, "events { }\nhttp {\nproxy_connect_pass parents;\n$groups server {\nproxy_connect;\n} server {\n"
	. "proxy_connect;\nproxy_connect_pass direct;\n}\n}\n"), 'in http');
like(check_text($t, "events { }\nhttp {\nproxy_connect_pass nobody;\n$groups server {\nproxy_connect;\n}\n}\n"),
	qr/\[emerg\] .*"nobody" in the "proxy_connect_pass" directive in \S+check\.conf:3 is no upstream/, 'in http, and bad');
is_fine(check_text($t, "events { }\nhttp {\nproxy_connect_pass nobody;\n$groups server {\nproxy_connect;\n"
	. "proxy_connect_pass parents;\n}\n}\n"), 'in http, and bad, where all servers have their own');

like(check_text($t, "events { }\nhttp {\nproxy_connect_pass_user a b;\nserver {\nproxy_connect;\nproxy_connect_pass_auth on;\n"
	. "}\n}\n"), qr/both give a parent credentials/, 'what undoes each other, from http');
is_fine(check_text($t, "events { }\nhttp {\nproxy_connect_pass_user a b;\nserver {\nproxy_connect;\nproxy_connect_pass_auth on;\n"
	. "proxy_connect_pass_user off;\n}\n}\n"), 'and taken back');

is_fine(checked($t, 'proxy_connect_proxy_protocol v2; proxy_connect_pass parents'), 'PROXY protocol to a parent');

# Whether the core that the module was built for runs the rewrite phase.
sub no_rewrite {
	my ($t) = @_;
	return checked($t, 'if ($http_far) { proxy_connect_pass direct; }') =~ /runs no rewrite phase/;
}

###############################################################################
