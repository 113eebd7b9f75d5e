#!/usr/bin/perl

# Names: how the resolver's answers lead to the upstream, and what becomes of its failures.

use warnings;
use strict;

use List::Util qw/ uniq /;
use Test::More;
use Time::HiRes;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->plan(64);

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format line '$status $connect_host $connect_addr';
    access_log %%TESTDIR%%/line.log line;

    NO_NAME_SERVER

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        resolver          127.0.0.1:%%PORT_8981_UDP%%;
        resolver_timeout  500ms;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_connect_timeout 5s;
    }

    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        resolver          127.0.0.1:%%PORT_8981_UDP%% ipv6=off;
        resolver_timeout  500ms;

        proxy_connect;
        proxy_connect_allow all;
    }

    server {
        listen       127.0.0.1:8083;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow all;
    }

    # what is found holds longer than it says
    server {
        listen       127.0.0.1:8084;
        server_name  localhost;

        resolver          127.0.0.1:%%PORT_8981_UDP%% ipv6=off valid=1h;
        resolver_timeout  500ms;

        proxy_connect;
        proxy_connect_allow all;
    }

    # nobody listens there
    server {
        listen       127.0.0.1:8085;
        server_name  localhost;

        resolver          127.0.0.1:%%PORT_8982_UDP%% ipv6=off;
        resolver_timeout  500ms;

        proxy_connect;
        proxy_connect_allow all;
    }

    # patience
    server {
        listen       127.0.0.1:8086;
        server_name  localhost;

        resolver          127.0.0.1:%%PORT_8981_UDP%% ipv6=off;
        resolver_timeout  30s;

        proxy_connect;
        proxy_connect_allow all;
    }
}

EOF

$t->write_file_expand('nginx.conf',
	ipv4_only($t, $conf =~ s/NO_NAME_SERVER/no_name_server($t)/er));

# Sixteen of them are taken, from wherever nginx begins.
my @many = map { my $ten = $_; (map({ "127.0.9.$ten$_" } 0 .. 9), '127.0.0.1') } 1 .. 6;

name_server($t, 8981,
	'four.example' => '127.0.0.1',
	'six.example' => '::1',
	'both.example' => [ '127.0.0.1', '::1' ],
	'two.example' => [ '127.0.0.2', '127.0.0.1' ],
	'none.example' => [ '127.0.0.2', '127.0.0.3' ],
	'half.example' => [ '::1', '127.0.0.1' ],
	'many.example' => \@many,
	'alias.example' => { cname => 'four.example' },
	'chain.example' => { cname => 'alias.example' },
	'alias6.example' => { cname => 'six.example' },
	'dangling.example' => { cname => 'gone.example' },
	'failing.example' => 'SERVFAIL',
	'refusing.example' => 'REFUSED',
	'silent.example' => 'drop',
	'short.example' => { addrs => '127.0.0.1', ttl => 1 },
	'slow.example' => { addrs => '127.0.0.1', delay => 0.3 },
	'slow-gone.example' => { addrs => '127.0.0.1', delay => 0.3 },
	'empty.example' => [],
	'under_score.example' => '127.0.0.1',
);

$t->run();

my $port = port(8087);
my $unheard = port(8088);

# Each says at which address it was reached.
upstream($t, greet("$_."), "$_:$port") for '127.0.0.1', '[::1]';
upstream($t, greet('127.0.0.1.'), '127.0.0.1:' . (my $only_four = port(8089)));

###############################################################################
# Names that are found

is(reached('four.example'), '127.0.0.1', 'an A record');
is(reached('six.example'), asks_for_ipv6($t) ? '[::1]' : '502', 'an AAAA record');
like(reached('both.example'), qr/^(?:127\.0\.0\.1|\[::1\])$/, 'one of both');
is(reached('both.example', port(8082)), '127.0.0.1', 'ipv6=off');
is(reached('FOUR.Example'), '127.0.0.1', 'capitals');
is(reached('four.example.'), '127.0.0.1', 'a dot at the end');
is(reached('under_score.example'), '127.0.0.1', 'an underscore');
is(reached('alias.example'), '127.0.0.1', 'a CNAME');
is(reached('chain.example'), '127.0.0.1', 'a CNAME of a CNAME');
is(reached('alias6.example'), asks_for_ipv6($t) ? '[::1]' : '502',
	'a CNAME of an AAAA record');

log_mark($t, 'dns.log');
is(reached('127.0.0.1'), '127.0.0.1', 'an IPv4 address');
is(reached('[::1]'), has_ipv6($t) ? '[::1]' : '400', 'an IPv6 address');
is(reached('127.0.0.1', port(8083)), '127.0.0.1', 'an address without a resolver');
is(scalar(queries($t, qr/^/)), 0, 'nobody is asked for an address');

###############################################################################
# Several addresses

# nginx begins with any of them: after twenty times each has come first.
log_mark($t);
is(join(' ', uniq(map { reached('two.example', undef, $only_four) } 1 .. 20)), '127.0.0.1',
	'the next address when one fails');
my @lines = log_lines($t, qr/proxy_connect: /);
ok(@lines > 0, 'an address that fails is in the log');
is(scalar(grep { !/\[error\] .* proxy_connect: upstream connect failed \(peer:127\.0\.0\.2:$only_four\) \(111: Connection refused\) while connecting to upstream/ } @lines),
	0, 'and no other');

is(join(' ', uniq(map { reached('half.example', undef, $only_four) } 1 .. 20)), '127.0.0.1',
	'the next address of the other kind');

log_mark($t);
log_mark($t, 'line.log');
is(reached('none.example', undef, $port), '502', 'all addresses fail');
@lines = log_lines($t, qr/proxy_connect: /);
is(scalar(@lines), 3, 'all addresses fail: a line each, and one for all');
like($_, qr/upstream connect failed \(peer:127\.0\.0\.[23]:$port\)/,
	'all addresses fail: which one') for @lines[0, 1];
like($lines[2], qr/\[error\] .*: the upstream can't be reached, 2 of 2 addresses tried: 2 failed, 0 timed out, 0 given up for the next while connecting to upstream, client: /,
	'all addresses fail: the sum');
like(wait_for_line($t, qr/none/, 'line.log'), qr/^502 none\.example 127\.0\.0\.[23]:$port$/,
	'all addresses fail: the last one is $connect_addr');

# Such an answer comes over TCP.
log_mark($t);
is(reached('many.example', port(8082), $only_four), '127.0.0.1', 'sixty addresses');
ok(scalar(log_lines($t, qr/proxy_connect: /)) <= 10, 'and no more is tried than needed');

###############################################################################
# Names that are not

is_failure($t, 'gone.example', 502, '(3: Host not found)');
is_failure($t, 'failing.example', 502, '(2: Server failure)');
is_failure($t, 'refusing.example', 502, '(5: Operation refused)');
is_failure($t, 'dangling.example', 502, '(3: Host not found)');
is_failure($t, 'empty.example', 502, '(3: Host not found)');

my $start = Time::HiRes::time();
is_failure($t, 'silent.example', 504, '(110: Operation timed out)');
my $took = Time::HiRes::time() - $start;
ok($took > 0.45 && $took < 3, 'a timeout takes the time of resolver_timeout') or diag($took);

is(reached('six.example', port(8082)), '502', 'ipv6=off and nothing but AAAA');
is(reached('four.example', port(8083)), '502', 'no resolver');
is(reached('four.example', port(8085)), '504', 'a resolver that is not there');

for my $name ('x' x 64 . '.example', join('.', ('x' x 60) x 5)) {
	log_mark($t);
	log_mark($t, 'dns.log');
	is(reached($name), '400', 'a name that is too long');
	is(scalar(log_lines($t, qr/\[info\] .* proxy_connect: client sent invalid host in request line/)),
		1, 'a name that is too long: in the log');
	is(scalar(queries($t, qr/xxx/)), 0, 'a name that is too long: nobody is asked');
}

###############################################################################
# What is remembered

log_mark($t, 'dns.log');
is(reached('four.example', port(8086)), '127.0.0.1', 'the first time') for 1 .. 3;
is(scalar(queries($t, qr/^A four\.example$/)), 1, 'one query for three requests');

log_mark($t, 'dns.log');
is(reached('short.example', port(8082)), '127.0.0.1', 'a name that holds a second');
is(reached('short.example', port(8084)), '127.0.0.1', 'the same with valid=1h');
wait_until('nginx did not ask again', sub {
	reached('short.example', port(8082));
	Time::HiRes::sleep(0.1);
	queries($t, qr/^A short/) > 2;
});
is(reached('short.example', port(8084)), '127.0.0.1', 'valid=1h, after a while');
is(scalar(queries($t, qr/^A short/)), 3, 'asked again only where it no longer holds');

# Many clients that wait for one answer.
log_mark($t, 'dns.log');
my @sockets = map { start('slow.example', port(8086)) } 1 .. 20;
my ($gone) = splice @sockets, 10, 1;
wait_for_line($t, qr/^A slow\.example$/, 'dns.log');
$gone->reset();
is(join(' ', uniq(map { status_of($_->read_header()) } @sockets)), '200',
	'many clients wait for one answer');
is(scalar(queries($t, qr/^A slow\.example$/)), 1, 'and it takes one query');
$_->close() for @sockets;

###############################################################################
# Clients that leave

my $worker = worker_pid($t);
my $fds = steady_fds($worker);

for my $name ('silent.example', 'slow-gone.example') {
	log_mark($t, $_) for 'line.log', 'dns.log', 'error.log';

	my $client = start($name, port(8086));
	wait_for_line($t, qr/^A \Q$name\E$/, 'dns.log');
	$client->close();

	is(wait_for_line($t, qr/ \Q$name\E /, 'line.log'), "499 $name -", "$name: the client left");
	like((log_lines($t, qr/proxy_connect: /))[0],
		qr/\[info\] .*: client prematurely closed connection while resolving .*, client: /,
		"$name: in the log");
}

cmp_ok(settled_fds($worker, $fds), '<=', $fds, 'they leave nothing open');

# The answer comes when the request is gone.
is(reached('slow-gone.example', port(8086)), '127.0.0.1', 'the name is found all the same');
$t->stop();

###############################################################################

sub start {
	my ($name, $port, $target) = @_;
	return client(port => $port // port(8080))
		->send(connect_request("$name:" . ($target // port(8087))));
}

# What the upstream says of itself, or the status.
sub reached {
	my $socket = start(@_);

	my $status = status_of($socket->read_header());
	return $status unless $status eq 200;

	my $where = $socket->half_close()->read_to_end();
	$socket->close();
	return $where =~ s/\.$//r;
}

sub is_failure {
	my ($t, $name, $status, $words) = @_;

	log_mark($t);
	is(reached($name), $status, "$name: $status");

	my @lines = log_lines($t, qr/proxy_connect: /);
	ok(@lines == 1 && $lines[0] =~ /\[error\] \d+#\d+: \*\d+ proxy_connect: \Q$name\E could not be resolved \Q$words\E while .*, client: 127\.0\.0\.1, .*request: "CONNECT \Q$name\E:/,
		"$name: in the log") or diag(join "\n", @lines);
}

###############################################################################
