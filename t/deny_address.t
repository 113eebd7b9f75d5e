#!/usr/bin/perl

# proxy_connect_allow_address, proxy_connect_deny_address: which addresses are connected to, whatever they come
# from and however they are written.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# What "special" refuses, as a client may write it.
my @special = (
	# loopback
	'127.0.0.1', '127.0.0.01', '127.000.000.001', '127.0.0.1.', '127.255.255.254',
	'0.0.0.0', '000.0.0.0', '[::1]', '[0:0:0:0:0:0:0:1]', '[0000::0001]', '[::]', '[0::0]',
	# the same in an address of IPv6
	'[::ffff:127.0.0.1]', '[::FFFF:7f00:1]', '[0:0:0:0:0:ffff:127.0.0.1]', '[::ffff:0.0.0.0]',
	'[::127.0.0.1]', '[::7f00:1]', '[::ffff:0:127.0.0.1]',
	'[64:ff9b::127.0.0.1]', '[64:ff9b::7f00:1]', '[64:ff9b:1::127.0.0.1]', '[64:ff9b:1:7f00:0:100::]',
	'[2002:7f00:1::]', '[2002:7f00:0001::1]',
	'[2001:0:7f00:1::]', '[2001::80ff:fffe]', '[2606:4700::5efe:127.0.0.1]',
	# private, and where clouds have their metadata
	'10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', '[fd00::1]', '[fd00:ec2::254]',
	'169.254.169.254', '[fe80::1]', '[::ffff:169.254.169.254]', '[64:ff9b::a9fe:a9fe]',
	'[2002:a9fe:a9fe::]',
	# and the rest
	'100.64.0.1', '100.100.100.200', '192.0.0.192', '192.0.2.1', '198.18.0.1', '198.51.100.1',
	'203.0.113.1', '224.0.0.1', '239.255.255.250', '240.0.0.1', '255.255.255.254', '0.1.2.3',
	'[ff02::1]', '[2001:db8::1]', '[100::1]', '[3fff::1]', '[5f00::1]', '[fec0::1]',
);

# No address to nginx: a name server is asked, and what it says is judged.
my @names = ('127.1', '127.0.1', '0x7f.0.0.1', '0x7f000001', '2130706433', '017700000001', '0',
	'255.255.255.255', 	'localhost', 'LOCALHOST', 'localhost.', 'in_ternal.example', 'internal.example', 'internal.example.',
	'INTERNAL.example', 'alias.example', 'meta.example', 'many.example');

my $t = Test::Nginx->new()->has(qw/http rewrite unix/)->plan(67 + 2 * @special + 2 * @names);

my $port = port(8081);
my $unix = $t->testdir() . '/unix.sock';

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format verdict  '$connect_host $status $proxy_connect_verdict $proxy_connect_error '
                        '$connect_addr $proxy_connect_last_addr';
    access_log %%TESTDIR%%/verdict.log verdict;

    resolver 127.0.0.1:%%PORT_8981_UDP%% ipv6=off;
    proxy_connect_deny_address 127.0.0.9;

    server {
        listen       127.0.0.1:8080;
        server_name  special;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_deny_address special;
    }

    # the first that matches
    server {
        listen       127.0.0.1:8082;
        server_name  order;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_allow_address 127.0.0.1 127.0.0.9;
        proxy_connect_deny_address 127.0.0.0/30 ::1;
        proxy_connect_allow_address 127.0.0.2 127.0.0.4;
        proxy_connect_deny_address unix:;
        proxy_connect_connect_timeout 1s;
    }

    # a list of what is allowed
    server {
        listen       127.0.0.1:8083;
        server_name  listed;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_allow_address file:allowed;
        proxy_connect_deny_address all;
    }

    # those of http
    server {
        listen       127.0.0.1:8084;
        server_name  inherits;

        proxy_connect;
        proxy_connect_allow all;
    }

    # where the configuration leads to
    server {
        listen       127.0.0.1:8085;
        server_name  address;

        proxy_connect;
        proxy_connect_address $http_address;
        proxy_connect_deny_address 127.0.0.2 127.0.0.3;
    }

    server {
        listen       127.0.0.1:8086;
        server_name  socket;

        proxy_connect;
        proxy_connect_address unix:%%TESTDIR%%/unix.sock;
        proxy_connect_deny_address special;
    }

    server {
        listen       127.0.0.1:8087;
        server_name  no-socket;

        proxy_connect;
        proxy_connect_address unix:%%TESTDIR%%/unix.sock;
        proxy_connect_deny_address unix:;
    }

    server {
        listen       127.0.0.1:8088;
        server_name  no-socket-at-all;

        proxy_connect;
        proxy_connect_address unix:%%TESTDIR%%/unix.sock;
        proxy_connect_deny_address all;
    }

    # the proxy itself
    server {
        listen       127.0.0.1:8089;
        listen       [::1]:%%PORT_8089%%;
        listen       unix:%%TESTDIR%%/self.sock;
        server_name  self;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_address $to;
        proxy_connect_deny_address self;

        set $to $http_address;
    }

    server {
        listen       127.0.0.1:8090;
        server_name  own-socket;

        proxy_connect;
        proxy_connect_address unix:%%TESTDIR%%/../%%BASE%%/self.sock;
        proxy_connect_deny_address self;
    }

    # only told
    server {
        listen       127.0.0.1:8091;
        server_name  report;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_deny_address 127.0.0.0/8;
        proxy_connect_report_only on;
    }
}

EOF

my ($base) = $t->testdir() =~ m!([^/]+)/?$!;

$t->write_file('allowed', "# who may\n127.0.0.2\r\n\n  127.0.0.4/31 # both\n::1\n");
$t->write_file_expand('nginx.conf', ipv4_only($t, $conf) =~ s/%%BASE%%/$base/gr);

name_server($t, 8981,
	(map { $_ => '127.0.0.1' } qw/ 127.1 127.0.1 0x7f.0.0.1 0x7f000001 2130706433 017700000001 0 255.255.255.255
		localhost in_ternal.example internal.example self.example /),
	'alias.example' => { cname => 'internal.example' },
	'meta.example' => '169.254.169.254',
	'many.example' => [ '10.0.0.1', '192.168.0.1', '127.0.0.1', '0.0.0.0' ],
	'bad-good.example' => [ '127.0.0.2', '127.0.0.1', '127.0.0.3' ],
	'bad-closed.example' => [ '127.0.0.2', '127.0.0.4' ],
	'bad.example' => [ '127.0.0.2', '127.0.0.3' ],
	'rebind.example' => { turns => [ '127.0.0.1', '127.0.0.2' ], ttl => 0 },
	'hang-good.example' => [ '127.0.0.5', '127.0.0.2', '127.0.0.1' ],
	'hang-bad.example' => [ '127.0.0.5', '127.0.0.2', '127.0.0.3' ],
	'hundred.example' => [ map { "127.0.1.$_" } 1 .. 100 ],
);

$t->run();

# Nobody listens at 127.0.0.4.
upstream($t, greet("at $_"), "127.0.0.$_:$port") for 1, 2, 3, 9;
upstream($t, greet('at 6'), "[::1]:$port");
upstream($t, greet('at u'), "unix:$unix");

###############################################################################
# All that is special

my $accepted = upstream_lines($t, qr/accepted/);

for my $host (@special) {
	log_mark($t);
	is(outcome("$host:$port"), '403', "special: $host");
	is_denied($t, qr/\S+/, 'proxy_connect_deny_address special');
}

for my $name (@names) {
	log_mark($t);
	is(outcome("$name:$port"), '403', "special: the name $name");
	is_denied($t, qr/\S+/, 'proxy_connect_deny_address special');
}

# A port in other digits is no way around it.
is(outcome("127.0.0.1:000$port"), '403', 'special: zeros in front of the port');

is(upstream_lines($t, qr/accepted/), $accepted, 'special: no upstream heard of it');

###############################################################################
# What is told

log_mark($t);
log_mark($t, 'verdict.log');
my $answer = exchange(connect_request("internal.example:$port"));
is(status_of($answer), '403', 'told: a name');
unlike($answer, qr/127\.0\.0\.1|special/, 'told: the client hears nothing of addresses');
like((log_lines($t, qr/proxy_connect: /))[0],
	qr/\[error\] \d+#\d+: \*\d+ proxy_connect: the address 127\.0\.0\.1:$port is denied by "proxy_connect_deny_address special" while connecting to upstream, client: 127\.0\.0\.1, server: special, request: "CONNECT internal\.example:$port HTTP\/1\.1"/,
	'told: the log, address and rule');
is(wait_for_line($t, qr/^internal/, 'verdict.log'),
	"internal.example 403 denied:address destination_ip_prohibited 127.0.0.1:$port 127.0.0.1",
	'told: the variables');

###############################################################################
# The order of the rules

is(outcome("127.0.0.1:$port", 8082), '200 at 1', 'order: allowed before it is denied');
is(outcome("127.0.0.2:$port", 8082), '403', 'order: denied before it is allowed');
is(outcome("127.0.0.3:$port", 8082), '403', 'order: denied by a network');
is(outcome("127.0.0.4:$port", 8082), '502', 'order: behind the network');
is(outcome("127.0.0.9:$port", 8082), '200 at 9', 'order: the rules of http do not count');
is(outcome("[::1]:$port", 8082), '403', 'order: an address of IPv6');
is(outcome("[::ffff:127.0.0.1]:$port", 8082), '200 at 1', 'order: a mapped address is one of IPv4');
is(outcome("[::ffff:127.0.0.2]:$port", 8082), '403', 'order: a mapped address is denied as one');

log_mark($t);
is(outcome("127.0.0.2:$port", 8082), '403', 'order: denied again');
is_denied($t, qr/127\.0\.0\.2:$port/, 'proxy_connect_deny_address 127.0.0.0/30');

is(outcome("127.0.0.2:$port", 8083), '200 at 2', 'listed: an address');
is(outcome("[::1]:$port", 8083), '200 at 6', 'listed: an address of IPv6');
is(outcome("127.0.0.4:$port", 8083), '502', 'listed: a network');
is(outcome("127.0.0.1:$port", 8083), '403', 'listed: another address');
is(outcome("[64:ff9b::127.0.0.2]:$port", 8083), '403', 'listed: NAT64 is not the address itself');

is(outcome("127.0.0.9:$port", 8084), '403', 'inherited: denied');
is(outcome("127.0.0.2:$port", 8084), '200 at 2', 'inherited: what no rule matches');

log_mark($t);
is(outcome("127.0.0.9:$port", 8084), '403', 'inherited: denied again');
is_denied($t, qr/127\.0\.0\.9:$port/, 'proxy_connect_deny_address 127.0.0.9');

###############################################################################
# Answers of a name server

log_mark($t);
log_mark($t, 'verdict.log');
is(outcome("bad-good.example:$port", 8082), '200 at 1', 'names: the good address of a mixed answer');
is(scalar(log_lines($t, qr/\[error\]/)), scalar(log_lines($t, qr/is denied by/)),
	'names: no other error');
is(wait_for_line($t, qr/^bad-good/, 'verdict.log'),
	"bad-good.example 200 allowed  127.0.0.1:$port 127.0.0.1", 'names: the variables');

log_mark($t, 'verdict.log');
is(outcome("bad-closed.example:$port", 8082), '502', 'names: the good one refuses');
like(wait_for_line($t, qr/^bad-closed/, 'verdict.log'),
	qr/^bad-closed.example 502 \S+ connection_refused /, 'names: the variables then');

log_mark($t);
is(outcome("bad.example:$port", 8082), '403', 'names: only bad ones');
is(scalar(log_lines($t, qr/is denied by "proxy_connect_deny_address 127\.0\.0\.0\/30"/)), 2,
	'names: a line for each');

# One that hangs, and what is tried beside it.
my $queue = full_backlog("127.0.0.5:$port");
is(outcome("hang-good.example:$port", 8082), '200 at 1', 'names: one hangs, one is bad, one is good');
is(outcome("hang-bad.example:$port", 8082), '504', 'names: one hangs, and the others are bad');

# Sixteen of them are looked at, as of any name.
log_mark($t);
is(outcome("hundred.example:$port"), '403', 'names: a hundred bad ones');
is(scalar(log_lines($t, qr/is denied by/)), 16, 'names: the lines have a bound');

# What holds for the first answer holds for the second.
$accepted = upstream_lines($t, qr/127\.0\.0\.2:\d+ accepted/);
my %seen;

wait_until('The name server was asked once only', sub {
	my $outcome = outcome("rebind.example:$port", 8082);
	$seen{$outcome} = 1;
	return queries($t, qr/^A rebind/) > 1 && $outcome ne '200 at 1';
});

is_deeply([ sort keys %seen ], [ '200 at 1', '403' ], 'names: rebinding');
is(upstream_lines($t, qr/127\.0\.0\.2:\d+ accepted/), $accepted, 'names: rebinding leads nowhere');

###############################################################################
# proxy_connect_address

is(outcome('some.example:443', 8085, "Address: 127.0.0.1:$port"), '200 at 1', 'address: allowed');
is(outcome('some.example:443', 8085, "Address: 127.0.0.2:$port"), '403', 'address: denied');
is(outcome('some.example:443', 8085, "Address: [::ffff:127.0.0.2]:$port"), '403', 'address: mapped');
is(outcome('some.example:443', 8085, "Address: bad.example:$port"), '403', 'address: a name');
is(outcome('some.example:443', 8085, "Address: bad-good.example:$port"), '200 at 1',
	'address: a name with a good one');

is(outcome('some.example:443', 8086), '200 at u', 'unix: not special');
log_mark($t);
is(outcome('some.example:443', 8087), '403', 'unix: denied');
is_denied($t, qr/unix:\Q$unix\E/, 'proxy_connect_deny_address unix:');
is(outcome('some.example:443', 8088), '403', 'unix: denied with all');

###############################################################################
# The proxy itself

my $self = port(8089);

for my $host ('127.0.0.1', '127.0.0.7', '0.0.0.0', '[::1]', '[::]', '[::ffff:127.0.0.1]', 'self.example',
	'self.example.', '[64:ff9b::127.0.0.1]')
{
	is(outcome("$host:$self", 8089), '403', "self: $host");
}

log_mark($t);
is(outcome("127.0.0.1:$port", 8089), '403', 'self: another port');
is_denied($t, qr/127\.0\.0\.1:$port/, 'proxy_connect_deny_address self');

is(outcome('some.example:443', 8090), '403', 'self: a unix socket under another name');

###############################################################################
# Only told

log_mark($t);
log_mark($t, 'verdict.log');
is(outcome("127.0.0.2:$port", 8091), '200 at 2', 'report only: the tunnel is built');
my @lines = log_lines($t, qr/proxy_connect: /);
is(@lines, 1, 'report only: one line');
like($lines[0], qr/\[warn\] .*the address 127\.0\.0\.2:$port is denied by "proxy_connect_deny_address 127\.0\.0\.0\/8", let pass by "proxy_connect_report_only"/,
	'report only: what would have happened');
is(wait_for_line($t, qr/^127/, 'verdict.log'),
	"127.0.0.2 200 reported:address  127.0.0.2:$port 127.0.0.2", 'report only: the variables');

###############################################################################
# A reload with another file

$t->write_file('allowed', "127.0.0.1\n");
renew($t);
is(outcome("127.0.0.1:$port", 8083), '200 at 1', 'reload: the new list');
is(outcome("127.0.0.2:$port", 8083), '403', 'reload: and not the old one');

log_mark($t);
unlink $t->testdir() . '/allowed';
kill 'HUP', master_pid($t);
like(wait_for_line($t, qr/\[emerg\]/),
	qr!the file "\S+/allowed" of the "proxy_connect_allow_address" directive can't be read: No such file.* in \S+/nginx\.conf:\d+$!,
	'reload: a file that has vanished is told');
is(outcome("127.0.0.1:$port", 8083) . outcome("127.0.0.2:$port", 8083), '200 at 1403',
	'reload: the old configuration lives');

###############################################################################

# The status, and what the upstream says.
sub outcome {
	my ($authority, $number, @fields) = @_;
	my $socket = client(port => port($number // 8080));

	my $status = status_of($socket->send(connect_request($authority, @fields))->read_header());
	$status .= ' ' . $socket->read_bytes(4) if $status eq 200;
	$socket->close();

	return $status;
}

# The lines of ours are refusals by the same rule.
sub is_denied {
	my ($t, $addr, $rule) = @_;
	my @lines = log_lines($t, qr/proxy_connect: /);
	my @denied = grep { /\[error\] .*proxy_connect: the address $addr is denied by "\Q$rule\E"/ } @lines;

	return ok(@lines && @lines == @denied, 'in the log') || diag(@lines);
}

###############################################################################
