#!/usr/bin/perl

# Tunnels through an HTTP proxy: what it is asked, whatever it answers, and what the client and the log get of that.

use warnings;
use strict;

use Test::More;
use Time::HiRes qw/ time /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Check;
use Test::ProxyConnect::Parent;
use Test::ProxyConnect::Servers;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant CRLF => "\x0d\x0a";
use constant INTERIM => "HTTP/1.1 100 Continue\x0d\x0a\x0d\x0a";

# A header of that many fields.
sub fields {
	my ($count) = @_;
	return join '', map { "X-Field-$_: " . 'x' x 40 . CRLF } 1 .. $count;
}

# The answers of parents, each under the name of its server, and what comes of it: the status, and the line in the
# log.
my $t = Test::Nginx->new()->has(qw/http rewrite map/);

my $mute = sub { $_[0]->read_to_end() };

my %opens = (
	single   => answers($t, OPEN, piece => 1),
	hundred  => answers($t, 'HTTP/1.1 200 OK' . CRLF . fields(100) . CRLF),
	body     => answers($t, 'HTTP/1.1 200 OK' . CRLF . 'Content-Length: 5' . CRLF . CRLF . 'hello'),
	chunked  => answers($t, 'HTTP/1.1 200 OK' . CRLF . 'Transfer-Encoding: chunked' . CRLF . CRLF),
	interim  => answers($t, INTERIM x 3 . OPEN, piece => 7),
	odd      => answers($t, "HTTP/1.0 299\x0a\x0a"),
	behind   => answers($t, OPEN . 'behind' x 100),
	late     => answers($t, OPEN . 'late', piece => 1),
);

my @refuses = (
	[ denied   => answers($t, 'HTTP/1.1 403 Forbidden' . CRLF . CRLF), 403, 'denied the tunnel \(403\)',
		'http_request_denied', 403 ],
	[ asks     => answers($t, 'HTTP/1.1 407 Who' . CRLF . 'Proxy-Authenticate: Basic realm="a"' . CRLF . CRLF), 502,
		'asks for credentials', 'proxy_configuration_error', 407 ],
	[ broken   => answers($t, 'HTTP/1.1 502 Bad' . CRLF . CRLF), 502, 'built no tunnel \(502\)',
		'destination_unavailable', 502 ],
	[ busy     => answers($t, 'HTTP/1.1 503 Busy' . CRLF . CRLF), 502, 'built no tunnel \(503\)',
		'destination_unavailable', 503 ],
	[ moved    => answers($t, 'HTTP/1.1 302 Found' . CRLF . 'Location: /' . CRLF . CRLF), 502,
		'built no tunnel \(302\)', 'destination_unavailable', 302 ],
	[ switches => answers($t, 'HTTP/1.1 101 Switch' . CRLF . CRLF), 502, 'built no tunnel \(101\)',
		'destination_unavailable', 101 ],
	[ garbage  => answers($t, "\x16\x03\x01\x02\x00"), 502, 'sent an invalid answer', 'http_protocol_error', '-' ],
	[ greets   => says('SSH-2.0-OpenSSH' . CRLF), 502, 'sent an invalid answer', 'http_protocol_error', '-' ],
	[ nul      => answers($t, "HTTP/1.1 200 OK\x0d\x0aA: \x00\x0d\x0a\x0d\x0a"), 502, 'sent an invalid answer',
		'http_protocol_error', '-' ],
	[ large    => answers($t, 'HTTP/1.1 200 OK' . CRLF . fields(1000) . CRLF), 502, 'sent too large an answer',
		'http_response_header_section_size', '-' ],
	[ endless  => answers($t, INTERIM x 1000), 502, 'sent too large an answer',
		'http_response_header_section_size', '-' ],
	[ closes   => answers($t, '', closes => 1), 502, 'closed the connection before', 'http_response_incomplete', '-' ],
	[ resets   => answers($t, '', resets => 1), 502, '(closed|broke) the connection before',
		'http_response_incomplete', '-' ],
	[ never    => answers($t, '', then => $mute), 504, 'did not answer in time', 'http_response_timeout', '-' ],
	[ halfway  => answers($t, substr(OPEN, 0, -1), then => $mute), 504, 'did not answer in time',
		'http_response_timeout', '-' ],
);

# Parents live at these ports, one for each.
my $number = 8200;
my (%parent, %at, %servers);

# In a configuration a port of the harness is written by its number.
sub give_port {
	my ($name) = @_;
	$at{$name} = "127.0.0.1:%%PORT_$number%%";
	$parent{$name} = port($number++);
}

for my $name (sort keys %opens) {
	give_port($name);
	$servers{$name} = "proxy_connect_pass $at{$name};";
}

for my $case (@refuses) {
	my ($name) = @$case;
	give_port($name);
	$servers{$name} = "proxy_connect_pass http://$at{$name}; proxy_connect_connect_timeout 500ms;";
}

give_port($_) for qw/ asked early dies closed /;
$servers{dies} = "proxy_connect_pass http://$at{dies};";
$servers{closed} = "proxy_connect_pass http://$at{closed};";

my $asked = "proxy_connect_pass http://$at{asked};";
$servers{asked} = $asked;
$servers{user} = "$asked proxy_connect_pass_user user \$http_password;";
$servers{auth} = "$asked proxy_connect_pass_auth on;";
$servers{both} = "$asked proxy_connect_pass_auth on; proxy_connect_auth on; auth_basic closed;"
	. ' auth_basic_user_file %%TESTDIR%%/users;';
$servers{header} = "$asked proxy_connect_set_header Host \$http_x; proxy_connect_set_header User-Agent \$http_y;"
	. ' proxy_connect_set_header X-Empty ""; proxy_connect_set_header X-Tab "a\tb";';
$servers{address} = "$asked proxy_connect_address \$http_to;";
$servers{unix} = "$asked proxy_connect_address unix:/nowhere;";
$servers{hosts} = "$asked proxy_connect_deny_host .denied.example; proxy_connect_deny_address all;";
$servers{challenge} = "proxy_connect_pass http://$at{asks}; proxy_connect_pass_auth on;";
$servers{variable} = 'proxy_connect_pass $http_parent; resolver 127.0.0.1:%%PORT_8981_UDP%%;';
$servers{map} = 'proxy_connect_pass $by_host;';
$servers{if} = "proxy_connect_pass direct; if (\$connect_host = far.example) { $asked }";

# A core without a rewrite phase for CONNECT takes none there.
mkdir $t->testdir() . '/logs';
my $has_if = check_text($t, "events { }\nhttp { server { proxy_connect; if (\$http_a) { proxy_connect_pass direct; } } }")
	!~ /no rewrite phase/;
$servers{if} = 'proxy_connect_pass direct;' unless $has_if;
$servers{splice} = "$asked proxy_connect_splice on;" if $^O eq 'linux';
$servers{size} = "proxy_connect_pass http://$at{hundred}; proxy_connect_pass_buffer_size 1k;";

my @garbage = ('', 'ftp://a', 'http://', 'http://a/', 'http://u:p@a:1', 'a:0', 'a:x', 'nobody', '[::1', 'a b:1');

my $conf = <<'EOF2';
%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  ends  "$server_name $status $proxy_connect_parent $proxy_connect_parent_status "
                      "$proxy_connect_error|$upstream_addr|$upstream_status|$upstream_bytes_sent|"
                      "$upstream_bytes_received|$proxy_connect_bytes_received|$upstream_connect_time";
    access_log  %%TESTDIR%%/ends.log ends;

    map $connect_host $by_host {
        near.example  direct;
        default       http://127.0.0.1:ASKED;
    }

    SERVERS

    server {
        listen       127.0.0.1:8080;
        server_name  direct;

        proxy_connect;
        proxy_connect_allow all;
    }
}
EOF2

my $blocks = server_blocks(%servers);
$conf =~ s/SERVERS/$blocks/;
$conf =~ s/127\.0\.0\.1:ASKED/$at{asked}/;

$t->plan(2 * keys(%opens) + 5 * @refuses + 2 * @garbage + 48);
$t->write_file_expand('nginx.conf', told_of($t, $conf));

$t->write_file('users', "user:{PLAIN}password\n");
upstream($t, $opens{$_}, $parent{$_}) for keys %opens;
upstream($t, $_->[1], $parent{$_->[0]}) for @refuses;
upstream($t, answers($t, OPEN), $parent{asked});
name_server($t, 8981, 'parent.example' => '127.0.0.1');

$t->run();

my $worker = lone_worker($t);

# The resolver keeps its socket.
header('variable', 'a:1', "Parent: http://parent.example:$parent{asked}");
my $before = steady_fds($worker);

# The line of a server in the log of ends, the last one that it has written.
sub end_of {
	my ($t, $server, $count) = @_;
	my $lines = wait_until("no line of $server", sub {
		my @lines = log_lines($t, qr/^$server /, 'ends.log');
		return @lines >= ($count // 1) ? \@lines : 0;
	});
	return $lines->[-1];
}

###############################################################################
# Answers that open a tunnel

my %first = (body => 'hello', behind => 'behind' x 100, late => 'late');

for my $name (sort keys %opens) {
	my $first = $first{$name} // '';
	my $client = start($name, undef, 'a.example:443');

	like($client->read_header(), qr!^HTTP/1\.1 200 Connection Established\x0d\x0a!, "$name: the answer is ours");
	$client->send('ping');
	is($client->read_bytes(length("${first}ping")), "${first}ping", "$name: the bytes behind it, and an echo");
	$client->half_close();
	$client->read_to_end();
}

like(end_of($t, 'behind'),
	qr!^behind 200 http://127\.0\.0\.1:$parent{behind} 200 \|127\.0\.0\.1:$parent{behind}\|200\|(\d+|-)\|(623|-)\|604\|[\d-]!,
	'what is counted');

###############################################################################
# Answers that don't

for my $case (@refuses) {
	my ($name, undef, $status, $line, $error, $code) = @$case;
	my $answer = answer($name, 'a.example:443');
	my $logged = "proxy_connect: the parent 127\\.0\\.0\\.1:$parent{$name} $line.* while asking a parent";

	is(status_of($answer), $status, "$name: status");
	unlike($answer, qr/$parent{$name}|Proxy-Authenticate/, "$name: nothing about the parent");
	is(() = log_lines($t, qr/\[error\] .*$logged/), 1, "$name: one line in the log");
	like(end_of($t, $name), qr/^$name $status \S+ $code $error\|/, "$name: variables");
	like(end_of($t, $name), qr/\|127\.0\.0\.1:$parent{$name}\|\Q@{[ $code eq '-' ? $status : $code ]}\E\|/,
		"$name: variables of nginx");
}

my $began = time();
is(status_of(answer('closed', 'a.example:443')), 502, 'nobody listens: status');
cmp_ok(time() - $began, '<', 5 * SLOWNESS, 'nobody listens: at once');
like(end_of($t, 'closed'), qr/^closed 502 \S+ - connection_refused\|127\.0\.0\.1:$parent{closed}\|502\|/,
	'nobody listens: variables');

# A parent that dies at each byte of its answer.
my $listener = listener($parent{dies});
my @status;

for my $length (0 .. length(OPEN) - 1) {
	my $client = start('dies', undef, 'a.example:443');
	my $end = accept_end($listener);
	$end->read_header();
	$end->send(substr OPEN, 0, $length) if $length;
	$length % 2 ? $end->close() : $end->reset();
	push @status, status_of($client->read_to_end());
}

is_deeply(\@status, [ (502) x length OPEN ], 'a parent that dies at each byte of its answer');

# The client leaves meanwhile.
my $client = start('dies', undef, 'a.example:443');
my $end = accept_end($listener);
$end->read_header();
$client->reset();
is($end->ending(), 'eof', 'a client that leaves is told to the parent');
like(end_of($t, 'dies', 1 + length OPEN), qr/^dies 499 /, 'and to the log');

###############################################################################
# What a parent is asked

sub tunnel_of {
	my ($t, $server, @request) = @_;
	my $header = header($server, @request);
	return status_of($header) . ' ' . ((asked($t, $parent{asked}))[-1] // '');
}

is(tunnel_of($t, 'asked', 'A.Example.:443', 'X: y'), '200 CONNECT a.example:443 HTTP/1.1|Host: a.example:443||',
	'the authority in its one form, and no field of the client');
is(tunnel_of($t, 'asked', '[::1]:80'), '200 CONNECT [::1]:80 HTTP/1.1|Host: [::1]:80||', 'an IPv6 address');
is(tunnel_of($t, 'asked', '127.0.0.1:80', 'Proxy-Authorization: Basic eDp5'),
	'200 CONNECT 127.0.0.1:80 HTTP/1.1|Host: 127.0.0.1:80||', 'credentials of the client are not handed on');
is(tunnel_of($t, 'user', 'a:1', 'Password: open sesame'),
	'200 CONNECT a:1 HTTP/1.1|Host: a:1|Proxy-Authorization: Basic dXNlcjpvcGVuIHNlc2FtZQ==||', 'credentials');
is(tunnel_of($t, 'auth', 'a:1', 'Proxy-Authorization: Basic eDp5'),
	'200 CONNECT a:1 HTTP/1.1|Host: a:1|Proxy-Authorization: Basic eDp5||', 'those of the client');
is(tunnel_of($t, 'auth', 'a:1'), '200 CONNECT a:1 HTTP/1.1|Host: a:1||', 'the client has none');
is(tunnel_of($t, 'both', 'a:1', 'Proxy-Authorization: Basic dXNlcjpwYXNzd29yZA=='),
	'200 CONNECT a:1 HTTP/1.1|Host: a:1|Proxy-Authorization: Basic dXNlcjpwYXNzd29yZA==||',
	'those of the client, which nginx has asked for');
is(status_of(answer('both', 'a:1', 'Proxy-Authorization: Basic eDp5')), 407, 'nginx asks for others');
is(tunnel_of($t, 'header', 'a:1', 'X: other', 'Y: me'),
	"200 CONNECT a:1 HTTP/1.1|Host: other|User-Agent: me|X-Tab: a\tb||", 'fields');
is(tunnel_of($t, 'header', 'a:1'), "200 CONNECT a:1 HTTP/1.1|X-Tab: a\tb||", 'empty fields');
is(tunnel_of($t, 'address', 'a:1', 'To: b'), '200 CONNECT b:1 HTTP/1.1|Host: b:1||', 'another destination');
is(tunnel_of($t, 'address', 'a:1', 'To: [::1]:2'), '200 CONNECT [::1]:2 HTTP/1.1|Host: [::1]:2||',
	'another destination, an address');
is(tunnel_of($t, 'address', 'a:1'), '200 CONNECT a:1 HTTP/1.1|Host: a:1||', 'no other destination');

my $count = asked($t, $parent{asked});
is(status_of(answer('header', 'a:1', "Y: a\x01b")), 500, 'a control character: status');
is(() = log_lines($t, qr/a parent can't be told: the value of the field "User-Agent" has a control/), 1,
	'a control character: the log');
is(status_of(answer('user', 'a:1', "Password: a\x01b")), 500, 'a control character in a password: status');
is(() = log_lines($t, qr/the name or the password of "proxy_connect_pass_user" has a control character/), 1,
	'a control character in a password: the log');
is(status_of(answer('auth', 'a:1', 'Proxy-Authorization: a', 'Proxy-Authorization: b')), 400,
	'two pairs of credentials');
is(status_of(answer('unix', 'a:1')), 502, 'a unix socket for a parent');
is(asked($t, $parent{asked}), $count, 'none of them reached the parent');

my $challenged = answer('challenge', 'a.example:443');
is(status_of($challenged), 407, 'a challenge is handed on: status');
is(header_of($challenged, 'Proxy-Authenticate'), 'Basic realm="a"', 'a challenge is handed on');

is(status_of(answer('size', 'a.example:443')), 502, 'proxy_connect_pass_buffer_size');

###############################################################################
# Who goes through a parent

is(status_of(answer('hosts', 'x.denied.example:443')), 403, 'lists of hosts judge the destination');
is(tunnel_of($t, 'hosts', '127.0.0.1:1'), '200 CONNECT 127.0.0.1:1 HTTP/1.1|Host: 127.0.0.1:1||',
	'lists of addresses judge neither destination nor parent');
is(asked($t, $parent{asked}), $count + 1, 'what is denied does not reach the parent');

my $near = listener(port(8081));
my ($at_client, $at_upstream) = pair($near);
is_deeply([ cross($at_client, $at_upstream, 'up', 'down') ], [ 'up', 'down' ], 'a server without a parent');
$at_client->half_close();
$at_upstream->close();
$at_client->read_to_end();
like(end_of($t, 'direct'), qr/^direct 200 direct - \|-\|-\|/, 'a server without a parent: variables');

is(tunnel_of($t, 'map', 'far.example:1'), '200 CONNECT far.example:1 HTTP/1.1|Host: far.example:1||', 'by a map');
SKIP: {
	skip NO_REWRITE, 1 unless $has_if;
	is(tunnel_of($t, 'if', 'far.example:1'), '200 CONNECT far.example:1 HTTP/1.1|Host: far.example:1||', 'by an if');
}

$count = asked($t, $parent{asked});
my @kept = start('if', undef, '127.0.0.1:' . port(8081));
ok(accept_end($near), 'by an if: the others go direct');
is(asked($t, $parent{asked}), $count, 'by an if: the parent is not asked');

my $parent = "127.0.0.1:$parent{asked}";
is(tunnel_of($t, 'variable', 'a:1', "Parent: $_"), '200 CONNECT a:1 HTTP/1.1|Host: a:1||', "a variable: $_")
	for $parent, "http://$parent", "http://parent.example:$parent{asked}";
push @kept, start('variable', undef, '127.0.0.1:' . port(8081), 'Parent: direct');
ok(accept_end($near), 'a variable: direct');

for my $value (@garbage) {
	is(status_of(answer('variable', 'a.example:443', "Parent: $value")), 500, "a variable: \"$value\"");
	is(() = log_lines($t, qr/\[error\] .*proxy_connect: "\Q$value\E", the value of "proxy_connect_pass", (is|has)/), 1,
		"a variable: \"$value\" in the log");
}

is(status_of(answer('variable', 'a.example:443', 'Parent: http://none.example')), 502, 'a name that is none');

###############################################################################

ok(!log_lines($t, qr/\[(alert|emerg|crit)\]/), 'nothing worse in the log');
$_->close() for $at_client, @kept;
undef @kept;
undef $_ for $client, $end, $at_client, $at_upstream, $near, $listener;
is(settled_fds($worker, $before), $before, 'nothing is left open');

###############################################################################
# The tunnel is one as any

SKIP: {
	skip 'no splice(2)', 2 unless $servers{splice};
	skip 'no pipes over HTTP/2', 2 if OVER_HTTP2;
	my $pipes = pipes($worker);
	my $client = start('splice', undef, 'a.example:443');
	$client->read_header();
	$client->send('x' x 300_000);
	is($client->read_bytes(300_000), 'x' x 300_000, 'a tunnel through pipes');
	cmp_ok(pipes($worker), '>', $pipes, 'which are there');
	$client->half_close();
	$client->read_to_end();
}

###############################################################################
