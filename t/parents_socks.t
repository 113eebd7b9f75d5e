#!/usr/bin/perl

# Tunnels through a SOCKS server: what it is asked, whatever it answers, and what the client and the log get of that.

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

my $t = Test::Nginx->new()->has(qw/http rewrite/);

my $mute = sub { $_[0]->read_to_end() };

sub reply {
	my ($code) = @_;
	return pack 'C4 C4 n', 5, $code, 0, 1, 0, 0, 0, 0, 0;
}

my %opens = (
	plain  => [ socks($t), '' ],
	single => [ socks($t, piece => 1), '' ],
	user   => [ socks($t, user => 'user:open sesame'), 'proxy_connect_pass_user user "open sesame";' ],
	needless => [ socks($t), 'proxy_connect_pass_user user secret;' ],
	name   => [ socks($t, reply => pack('C4 C/a n', 5, 0, 0, 3, 'a.example', 443) . 'behind', piece => 1), '' ],
	ipv6   => [ socks($t, reply => pack('C4 a16 n', 5, 0, 0, 4, '', 443) . 'behind'), '' ],
);

my $user = 'proxy_connect_pass_user user secret;';

# What a server does, the status of that, the line in the log, the error, and the status of the parent.
my @refuses = (
	[ method    => socks($t, method => 255), '', 502, 'asks for credentials', 'proxy_configuration_error', '-' ],
	[ wants     => socks($t, user => 'a:b'), '', 502, 'asks for credentials', 'proxy_configuration_error', '-' ],
	[ wrong     => socks($t, user => 'a:b'), $user, 502, 'asks for credentials', 'proxy_configuration_error', '-' ],
	[ other     => socks($t, method => 1), '', 502, 'sent an invalid answer', 'http_protocol_error', '-' ],
	[ uncalled  => socks($t, method => 2), '', 502, 'sent an invalid answer', 'http_protocol_error', '-' ],
	[ failure   => socks($t, reply => reply(1)), '', 502, 'built no tunnel \(1\)', 'destination_unavailable', 1 ],
	[ ruled     => socks($t, reply => reply(2)), '', 403, 'denied the tunnel \(2\)', 'http_request_denied', 2 ],
	[ network   => socks($t, reply => reply(3)), '', 502, 'built no tunnel \(3\)', 'destination_ip_unroutable', 3 ],
	[ host      => socks($t, reply => reply(4)), '', 502, 'built no tunnel \(4\)', 'destination_ip_unroutable', 4 ],
	[ refused   => socks($t, reply => reply(5)), '', 502, 'built no tunnel \(5\)', 'connection_refused', 5 ],
	[ command   => socks($t, reply => reply(7)), '', 502, 'built no tunnel \(7\)', 'destination_unavailable', 7 ],
	[ strange   => socks($t, reply => pack 'C10', 5, 0, 0, 9), '', 502, 'sent an invalid answer',
		'http_protocol_error', '-' ],
	[ http      => answers($t, OPEN), '', 504, 'did not answer in time', 'http_response_timeout', '-' ],
	[ greets    => says("HTTP/1.1 200 OK\x0d\x0a\x0d\x0a"), '', 502, 'sent an invalid answer', 'http_protocol_error',
		'-' ],
	[ never     => $mute, '', 504, 'did not answer in time', 'http_response_timeout', '-' ],
);

my $number = 8200;
my (%port, %at, %servers);

sub give_port {
	my ($name) = @_;
	$at{$name} = "socks5://127.0.0.1:%%PORT_$number%%";
	$port{$name} = port($number++);
}

for my $name (sort keys %opens) {
	give_port($name);
	$servers{$name} = "proxy_connect_pass $at{$name}; $opens{$name}[1]";
}

for my $case (@refuses) {
	my ($name, undef, $directives) = @$case;
	give_port($name);
	$servers{$name} = "proxy_connect_pass $at{$name}; proxy_connect_connect_timeout 500ms; $directives";
}

for my $dies (0 .. 13) {
	give_port("dies$dies");
	$servers{"dies$dies"} = "proxy_connect_pass $at{qq{dies$dies}}; $user";
}

$servers{resolves} = "proxy_connect_pass $at{plain}; proxy_connect_pass_resolve on;"
	. ' resolver 127.0.0.1:%%PORT_8981_UDP%%; proxy_connect_deny_address 127.0.0.9;';
$servers{password} = "proxy_connect_pass $at{user}; proxy_connect_pass_user user \$http_password;";

my $conf = <<'EOF2';
%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  ends  "$server_name $status $proxy_connect_parent $proxy_connect_parent_status "
                      "$proxy_connect_error|$upstream_addr|$upstream_status|$connect_addr";
    access_log  %%TESTDIR%%/ends.log ends;

    SERVERS
}
EOF2

my $blocks = server_blocks(%servers);
$conf =~ s/SERVERS/$blocks/;

$t->plan(2 * keys(%opens) + 4 * @refuses + 22);
$t->write_file_expand('nginx.conf', $conf);

upstream($t, $opens{$_}[0], $port{$_}) for keys %opens;
upstream($t, $_->[1], $port{$_->[0]}) for @refuses;
upstream($t, socks($t, user => 'user:secret', dies => $_), $port{"dies$_"}) for 0 .. 13;
name_server($t, 8981, 'near.example' => '127.0.0.8', 'far.example' => [ '127.0.0.9', '127.0.0.10' ],
	'denied.example' => '127.0.0.9');
$t->run();

my $worker = lone_worker($t);
header('resolves', 'near.example:443');
my $before = steady_fds($worker);

sub end_of {
	my ($t, $server) = @_;
	return wait_until("no line of $server", sub { (log_lines($t, qr/^$server /, 'ends.log'))[-1] });
}

###############################################################################
# Answers that open a tunnel

my %first = (name => 'behind', ipv6 => 'behind');

for my $name (sort keys %opens) {
	my $first = $first{$name} // '';
	my $client = start($name, undef, 'a.example:443');

	is(status_of($client->read_header()), 200, "$name: status");
	$client->send('ping');
	is($client->read_bytes(length("${first}ping")), "${first}ping", "$name: the bytes behind it, and an echo");
	$client->half_close();
	$client->read_to_end();
}

like(end_of($t, 'plain'), qr!^plain 200 socks5://127\.0\.0\.1:$port{plain} 0 \|127\.0\.0\.1:$port{plain}\|-\|!,
	'variables');

sub asked_by {
	my ($t, $server, $at, @request) = @_;
	my $header = header($server, @request);
	return status_of($header) . ' ' . ((asked($t, $port{$at}))[-1] // '');
}

is(asked_by($t, 'plain', 'plain', 'A.example.:443'), '200 1 - "a.example" 443', 'a name goes there as it is');
is(asked_by($t, 'plain', 'plain', '127.0.0.1:80'), '200 1 - 127.0.0.1 80', 'an IPv4 address');
is(asked_by($t, 'plain', 'plain', '[::1]:80'), '200 1 - ::1 80', 'an IPv6 address');
is(asked_by($t, 'user', 'user', 'a:1'), '200 1 user:open sesame "a" 1', 'credentials');
is(asked_by($t, 'password', 'user', 'a:1', 'Password: open sesame'), '200 1 user:open sesame "a" 1',
	'credentials by a variable');
is(status_of(answer('password', 'a:1', 'Password: ' . 'x' x 256)), 500, 'a password that SOCKS can\'t tell');
is(status_of(answer('password', 'a:1')), 500, 'an empty one');
is(() = log_lines($t, qr/a parent can't be told: the name or the password of "proxy_connect_pass_user" is empty, or/), 2,
	'the log tells, and does not tell the password');
is(() = log_lines($t, qr/xxxx/), 0, 'nor does it elsewhere');

is(asked_by($t, 'resolves', 'plain', 'near.example:443'), '200 1 - 127.0.0.8 443', 'proxy_connect_pass_resolve');
is(asked_by($t, 'resolves', 'plain', 'far.example:443'), '200 1 - 127.0.0.10 443',
	'the first address that the rules let pass');
is(status_of(answer('resolves', 'denied.example:443')), 403, 'none that they do');
is(status_of(answer('resolves', '127.0.0.9:443')), 403, 'nor where the client gives the address');
is(status_of(answer('resolves', 'none.example:443')), 502, 'a name that is none');
ok(wait_for_line($t, qr/^resolves 502 \S+ - dns_error\|/, 'ends.log'), 'a name that is none: variables');

###############################################################################
# Answers that don't

for my $case (@refuses) {
	my ($name, undef, undef, $status, $line, $error, $code) = @$case;

	is(status_of(answer($name, 'a.example:443')), $status, "$name: status");
	is(() = log_lines($t, qr/\[error\] .*proxy_connect: the parent 127\.0\.0\.1:$port{$name} $line/), 1,
		"$name: one line in the log");
	like(end_of($t, $name), qr/^$name $status \S+ $code $error\|/, "$name: variables");
	like(end_of($t, $name), qr/\|127\.0\.0\.1:$port{$name}\|$status\|127\.0\.0\.1:$port{$name}$/,
		"$name: variables of nginx");
}

# 2 bytes of the method, 2 of the credentials, 10 of the reply.
is_deeply([ map { status_of(answer("dies$_", 'a.example:443')) } 0 .. 13 ], [ (502) x 14 ],
	'a server that dies at each byte of its answers');
is(() = log_lines($t, qr/(closed|broke) the connection before it had answered/), 14, 'the log tells of it');
ok(log_lines($t, qr/the parent 127\.0\.0\.1:$port{dies5} closed the connection/), 'and of whom');
like(end_of($t, 'dies13'), qr/^dies13 502 \S+ - http_response_incomplete\|/, 'and why');

###############################################################################

ok(!log_lines($t, qr/\[(alert|emerg|crit)\]/), 'nothing worse in the log');
is(settled_fds($worker, $before), $before, 'nothing is left open');

###############################################################################
