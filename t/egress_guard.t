#!/usr/bin/perl

# The configurations of docs/egress-guard.md, as they stand there, under attack: in a network with private
# addresses, a metadata service, and a name server that lies. What counts is what was reached.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use MIME::Base64 qw/ encode_base64 /;

use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Attacks;
use Test::ProxyConnect::Hello;
use Test::ProxyConnect::Network;
use Test::ProxyConnect::Program;
use Test::ProxyConnect::World;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# How many names are denied.
use constant DENIED => 10_000;

own_network();

my $t = Test::Nginx->new()->has(qw/ http access auth_basic /);
plan(skip_all => NO_TLS) unless has_tls($t);
plan(skip_all => 'no IPv6') unless asks_for_ipv6($t);

my ($format, %server) = page();
my %port = ("An agent's sandbox" => 8080, "A company's proxy" => 8081, 'Webhooks' => 8082);
my $servers = join "\n", map { for_test($server{$_}, $port{$_}) } sort keys %port;

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    $format

    $servers
}

EOF

$t->write_file('proxy-users', "user:{PLAIN}secret\n");
$t->write_file('denied-hosts', join '', "# what nobody needs\n",
	(map { "n$_.example.net\n" } 1 .. DENIED - 1), ".other.net  # and what is below it\n");

name_server($t, 8981, world_names());
make_world($t, addresses => [ ADDRESSES, '10.1.2.3' ], ports => WORLD_PORTS, local => LOCAL_PORTS);
my @attacks = attacks();
$t->plan(3 * @attacks + 34)->run();

my $good = 'Proxy-Authorization: Basic ' . encode_base64('user:secret', '');

###############################################################################
# What is refused

for my $attack (@attacks) {
	my ($kind, $name) = @$attack;

	is_deeply([ attack($t, port(8080), $attack) ], [], "sandbox: $kind: $name");
	is_tried($t, 'company', 8081, $attack, [ $good ],
		qr/^(?:a name that ends like|a public address|no TLS)/);
	is_tried($t, 'webhooks', 8082, $attack, [], $kind eq 'host' ? qr/^/ : qr/^no TLS/);
}

###############################################################################
# What is not

is_through($t, 'sandbox', 8080, 'www.example.com');
is_through($t, 'company', 8081, 'www.example.com', $good);
is_through($t, 'webhooks', 8082, 'other.net');

mark_world($t);
my $client = client(port => port(8081));
$client->send(connect_request('10.1.2.3:443', $good));
is(status_of($client->read_header()), 200, "company: a network of its own");
is(scalar(grep { /^world 10\.1\.2\.3 443 connected/ } reached($t)), 1, 'company: it was reached');
$client->close();

###############################################################################
# Credentials

my %forged = (
	'none' => [],
	'a wrong password' => [ 'Proxy-Authorization: Basic ' . encode_base64('user:wrong', '') ],
	'another user' => [ 'Proxy-Authorization: Basic ' . encode_base64('root:secret', '') ],
	'no password' => [ 'Proxy-Authorization: Basic ' . encode_base64('user:', '') ],
	'in another field' => [ $good =~ s/^Proxy-//r ],
	'of another scheme' => [ $good =~ s/Basic/Bearer/r ],
	'two' => [ $good, $good ],
	'a good one behind a wrong one' => [ 'Proxy-Authorization: Basic eDp5', $good ],
);

for my $name (sort keys %forged) {
	mark_world($t);
	my $answer = exchange(connect_request('www.example.com:443', @{$forged{$name}}, 'Connection: close'),
		port => port(8081));
	is(status_of($answer), $name =~ /^(?:two|a good one)/ ? 400 : 407, "credentials: $name: refused");
	is_deeply([ reached($t) ], [], "credentials: $name: nothing was reached");
}

###############################################################################
# The same with a client that others have written

SKIP: {
	my $curl = installed('curl') or skip 'no curl', 6;
	my @options = ($curl, '-sS', '-m', 20, '-o', '/dev/null', '-w', '%{http_connect}');
	my $sandbox = 'http://127.0.0.1:' . port(8080);

	mark_world($t);
	is((run_program($t, [ @options, '-x', $sandbox, 'https://other.net/' ]))[0], 403, 'curl: a name');
	is((run_program($t, [ @options, '-x', $sandbox, 'https://169.254.169.254/' ]))[0], 403, 'curl: an address');
	is_deeply([ reached($t) ], [], 'curl: nothing was reached');

	# What answers there is no server of TLS: what counts is what it got.
	run_program($t, [ @options, '-x', $sandbox, 'https://www.example.com/' ]);
	is(scalar(grep { /^world 93\.184\.215\.14 443 got 1603/ } reached($t)), 1, 'curl: TLS gets through');

	mark_world($t);
	my ($status) = run_program($t, [ @options, '-x', $sandbox, '--connect-to', 'other.net:443:www.example.com:443',
		'https://other.net/' ]);
	is($status, 200, 'curl: TLS for another name: the tunnel stands');
	is(scalar(grep { / got / } reached($t)), 0, 'curl: TLS for another name: nothing got through');
}

###############################################################################
# What is told

my $refused = exchange(connect_request('other.net:443'), port => port(8080));
is(status_of($refused), 403, 'the client is told: 403');
like(header_of($refused, 'Proxy-Status'), qr/^sandbox; error=http_request_denied; details=".*other\.net/,
	'the client is told why');

$t->stop();

like($t->read_file('sandbox.log'), qr/ "CONNECT other\.net:443 HTTP\/1\.1" 403 denied:host http_request_denied /,
	'the log has why');
like($t->read_file('company.log'), qr/ user "CONNECT example\.com:443 HTTP\/1\.1" 200 denied:sni \S* 93\.184\.215\.14:443 other\.net sni_mismatch /,
	'the log has who, and the name in TLS');

###############################################################################

# What the page has of nginx.conf: the format of its log, and the servers by their headings.
sub page {
	open my $page, '<', '../docs/egress-guard.md' or die "Can't read the page: $!\n";
	local $/;
	my ($top, @sections) = split /^## /m, <$page>;
	my ($format) = $top =~ /^```nginx\n(log_format.*?)^```$/ms;

	return $format, map { /\A(.*?)\n.*?^```nginx\n(server.*?)^```$/ms ? ($1, $2) : () } @sections;
}

# A server of the page with the ports, files and names of the test.
sub for_test {
	my ($server, $number) = @_;

	return $server =~ s/listen\s+\K(127\.0\.0\.1:)?3128/($1 \/\/ '') . port($number)/er
		=~ s/resolver\s+\K127\.0\.0\.1/127.0.0.1:%%PORT_8981_UDP%%/r
		=~ s!/(?:var/log|etc)/nginx/!%%TESTDIR%%/!gr
		=~ s/\.github\.com pypi\.org files\.pythonhosted\.org/.example.com/r;
}

# An attack on a server that lets some of them pass.
sub is_tried {
	my ($t, $server, $number, $attack, $fields, $allowed) = @_;
	my @reached = attack($t, port($number), $attack, @$fields);

	if ($attack->[1] =~ $allowed && $attack->[0] =~ /^(?:host|sni)$/) {
		isnt(@reached, 0, "$server: not refused there: $attack->[1]");
	} else {
		is_deeply(\@reached, [], "$server: $attack->[0]: $attack->[1]");
	}
}

sub is_through {
	my ($t, $server, $number, $host, @fields) = @_;
	my $hello = hello(name => $host);

	mark_world($t);
	my $client = client(port => port($number));
	$client->send(connect_request("$host:443", @fields));
	is(status_of($client->read_header()), 200, "$server: a tunnel to $host");
	is($client->send($hello)->read_bytes(length $hello), $hello, "$server: TLS gets through");
	$client->close();
}
