#!/usr/bin/perl

# proxy_connect_address: where a tunnel leads in place of where the client said.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# Values that are no address, with what the log shows of them.
my @garbage = (
	[ ':443' ], [ '127.0.0.1:0' ], [ '127.0.0.1:65536' ], [ '127.0.0.1:99999999999' ],
	[ '127.0.0.1:x' ], [ '127.0.0.1:' ], [ '[::1' ], [ '[::1]:0' ], [ '[::1]x' ],
	[ '[::g]' ], [ '[]:443' ], [ '::1' ], [ 'unix:' ], [ 'http://name.example/' ],
	[ 'name.example:0' ], [ 'name.example:x' ], [ "\xff:\xfe", '\xff:\xfe' ],
	[ 'unix:/' . 'x' x 200 ],
);

my $t = Test::Nginx->new()->has(qw/http rewrite map/)->plan(87 + 2 * @garbage);

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format addr  '$connect_host $status $connect_addr';
    access_log %%TESTDIR%%/addr.log addr;

    NO_NAME_SERVER

    SERVERS

    # the client says where
    server {
        listen       127.0.0.1:8080;
        server_name  localhost;
        resolver     127.0.0.1:%%PORT_8981_UDP%%;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_address $http_address;
    }

    # the rewrite phase says where
    server {
        listen       127.0.0.1:8082;
        server_name  localhost;
        resolver     127.0.0.1:%%PORT_8981_UDP%%;

        proxy_connect;
        proxy_connect_address $where;

        set $where 127.0.0.1:%%PORT_8081%%;
        if ($connect_host = elsewhere) {
            set $where [::1]:%%PORT_8081%%;
        }
        if ($connect_host = nowhere) {
            set $where 127.0.0.1:%%PORT_8090%%;
        }
    }

    map $connect_host $by_map {
        hostnames;
        default      "";
        .a.example   127.0.0.2;
        .b.example   127.0.0.3:%%PORT_8081%%;
    }

    server {
        listen       127.0.0.1:8083;
        server_name  localhost;
        resolver     127.0.0.1:%%PORT_8981_UDP%%;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_address $by_map;
    }

    server {
        listen       127.0.0.1:8084;
        server_name  localhost;
        resolver     127.0.0.1:%%PORT_8981_UDP%%;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_address 127.0.0.${http_last}:$connect_port;
    }

    # a client says what stands at the beginning
    server {
        listen       127.0.0.1:8086;
        server_name  localhost;
        resolver     127.0.0.1:%%PORT_8981_UDP%%;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_address $connect_host:$connect_port;
    }

    # and what stands behind it
    server {
        listen       127.0.0.1:8087;
        server_name  localhost;
        resolver     127.0.0.1:%%PORT_8981_UDP%%;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_address unix:%%TESTDIR%%/$connect_host.sock;
    }

    server {
        listen       127.0.0.1:8088;
        server_name  localhost;
        resolver     127.0.0.1:%%PORT_8981_UDP%%;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_address UniX:%%TESTDIR%%/${http_file}.sock;
    }

    # half of the word
    server {
        listen       127.0.0.1:8089;
        server_name  localhost;
        resolver     127.0.0.1:%%PORT_8981_UDP%%;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_address uni${http_rest};
    }

    # a name, and nobody to ask for it
    server {
        listen       127.0.0.1:8085;
        server_name  localhost;

        proxy_connect;
        proxy_connect_address name.example:%%PORT_8081%%;
    }
}

EOF

# A server for each value that stands in the configuration.
my @values = (
	'127.0.0.1:%%PORT_8081%%', '127.0.0.2', '[::1]:%%PORT_8081%%', '[::1]', '127.0.0.01',
	'name.example:%%PORT_8081%%', 'name.example', 'none.example',
	'unix:%%TESTDIR%%/unix.sock', 'unix:%%TESTDIR%%/none.sock', 'off', '""',
);

my %number;
@number{@values} = 8100 .. 8100 + $#values;

my $servers = join '', map { <<"EOF" } @values;
    server {
        listen       127.0.0.1:%%PORT_$number{$_}%%;
        server_name  localhost;
        resolver     127.0.0.1:%%PORT_8981_UDP%%;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_address $_;
    }

EOF

$t->write_file_expand('nginx.conf', $conf =~ s/^ *SERVERS\n/$servers/mr
	=~ s/NO_NAME_SERVER/no_name_server($t)/er);

my $port = port(8081);

name_server($t, 8981,
	'name.example' => '127.0.0.1',
	'six.example' => '::1',
	'connect.example' => '127.0.0.1',
	'unix' => '127.0.0.2',
);

$t->run();

# Each says at which address it was reached.
for my $address (map({ "127.0.0.$_:$port" } 1 .. 3), "[::1]:$port",
	'unix:' . $t->testdir() . '/unix.sock')
{
	upstream($t, greet($address =~ s/.*unix.sock/unix/r . '.'), $address);
}

my $unix = $t->testdir() . '/unix.sock';

###############################################################################
# Values of the configuration

my %by = map { $_ => port($number{$_}) } @values;

is(reached('some.example:443', $by{'127.0.0.1:%%PORT_8081%%'}), "127.0.0.1:$port",
	'an IPv4 address with a port');
is(reached("some.example:$port", $by{'127.0.0.2'}), "127.0.0.2:$port",
	'an IPv4 address, and the port of the CONNECT');
is(reached('some.example:443', $by{'[::1]:%%PORT_8081%%'}), "[::1]:$port",
	'an IPv6 address with a port');
is(reached("some.example:$port", $by{'[::1]'}), "[::1]:$port",
	'an IPv6 address, and the port of the CONNECT');
is(reached("some.example:$port", $by{'127.0.0.01'}), "127.0.0.1:$port",
	'an IPv4 address with a leading zero');
is(reached('some.example:443', $by{'name.example:%%PORT_8081%%'}), "127.0.0.1:$port",
	'a name with a port');
is(reached("some.example:$port", $by{'name.example'}), "127.0.0.1:$port",
	'a name, and the port of the CONNECT');
is(reached('some.example:443', $by{'unix:%%TESTDIR%%/unix.sock'}), 'unix', 'a unix socket');
is(reached("127.0.0.3:$port", $by{off}), "127.0.0.3:$port", 'off');
is(reached("127.0.0.3:$port", $by{'""'}), "127.0.0.3:$port", 'an empty value');

is(scalar(queries($t, qr/some\.example/)), 0, 'no name of a CONNECT was asked for');
ok(scalar(queries($t, qr/ name\.example/)) > 0, 'the names of the directive were');

log_mark($t);
is(reached('some.example:443', $by{'none.example'}), '502', 'a name that is none');
is_logged($t, 'none.example could not be resolved (3: Host not found)');

log_mark($t);
is(reached('some.example:443', $by{'unix:%%TESTDIR%%/none.sock'}), '502',
	'a unix socket that is none');
is_logged($t, 'upstream connect failed (peer:unix:' . $t->testdir()
	. '/none.sock) (2: No such file or directory)');

log_mark($t);
is(reached('some.example:443', port(8085)), '502', 'a name without a resolver');
is_logged($t, 'no resolver defined to resolve name.example');

###############################################################################
# Values of variables

my $any = "some.example:$port";

is(asked($any, '127.0.0.1'), "127.0.0.1:$port", 'variable: an IPv4 address');
is(asked('some.example:443', "127.0.0.2:$port"), "127.0.0.2:$port",
	'variable: with a port');
is(asked($any, '127.0.0.01'), "127.0.0.1:$port", 'variable: with a leading zero');
is(asked('some.example:443', "127.0.0.1:0$port"), "127.0.0.1:$port",
	'variable: with a leading zero of the port');
is(asked($any, '[::1]'), "[::1]:$port", 'variable: an IPv6 address');
is(asked($any, '[0:0:0:0:0:0:0:1]'), "[::1]:$port", 'variable: in full');
is(asked('some.example:443', "[::1]:$port"), "[::1]:$port",
	'variable: an IPv6 address with a port');
is(asked($any, 'name.example'), "127.0.0.1:$port", 'variable: a name');
is(asked($any, 'NAME.example'), "127.0.0.1:$port", 'variable: a name in capitals');
is(asked('some.example:443', "name.example:$port"), "127.0.0.1:$port",
	'variable: a name with a port');
is(asked($any, 'six.example'), asks_for_ipv6($t) ? "[::1]:$port" : '502',
	'variable: a name with an IPv6 address');
is(asked("127.0.0.3:$port", undef), "127.0.0.3:$port", 'variable: not there');
is(asked("127.0.0.3:$port", ''), "127.0.0.3:$port", 'variable: empty');
is(asked("connect.example:$port", ''), "127.0.0.1:$port",
	'variable: empty, and the CONNECT has a name');

log_mark($t);
is(asked($any, 'none.example'), '502', 'variable: a name that is none');
is_logged($t, 'none.example could not be resolved (3: Host not found)');

# It stands without quotes, and can't be taken for what follows it.
log_mark($t);
is(asked($any, 'none.example while fine, client'), '502', 'variable: a name with spaces');
is_logged($t, 'none.example\x20while\x20fine,\x20client could not be resolved (3: Host not found)');

my $long = join '.', ('x' x 60) x 5;
log_mark($t);
is(asked($any, $long), '502', 'variable: a name that is too long');
is(scalar(log_lines($t, qr/\[error\] .* proxy_connect: .*\Q$long\E/)), 1,
	'variable: a name that is too long, in the log');

for (@garbage) {
	my ($value, $shown) = @$_;
	$shown //= $value;

	log_mark($t);
	is(asked($any, $value), '502', "garbage: $shown");

	my @lines = log_lines($t, qr/\[error\] \d+#\d+: \*\d+ proxy_connect: /);
	ok(@lines == 1 && $lines[0] =~ /"\Q$shown\E".*"proxy_connect_address".*, client: 127/,
		"garbage: $shown, in the log") or diag(@lines);
}

SKIP: {
	skip NO_REWRITE, 3 unless runs_rewrite($t);

	is(reached('some.example:443', port(8082)), "127.0.0.1:$port", 'set');
	is(reached('elsewhere:443', port(8082)), "[::1]:$port", 'if and set');
	is(reached('nowhere:443', port(8082)), '502', 'set to where nobody listens');
}

is(reached("x.a.example:$port", port(8083)), "127.0.0.2:$port", 'map: an address');
is(reached('x.b.example:443', port(8083)), "127.0.0.3:$port", 'map: with a port');
is(reached("127.0.0.1:$port", port(8083)), "127.0.0.1:$port", 'map: empty');
is(reached($any, port(8084), 'Last: 3'), "127.0.0.3:$port", 'an address out of parts');
is(reached($any, port(8084)), '502', 'an address out of parts, one is missing');

###############################################################################
# A unix socket is named by the configuration, never by a client

is(reached("unix:$port", port(8086)), "127.0.0.2:$port", 'unix: a host of that name');
is(reached("UNIX:$port", port(8086)), "127.0.0.2:$port", 'unix: in capitals');
is(reached("127.0.0.3:$port", port(8086)), "127.0.0.3:$port", 'unix: another host');
is(reached("[::1]:$port", port(8086)), "[::1]:$port", 'unix: an IPv6 address');
is(scalar(queries($t, qr/^A unix$/i)), 1, 'unix: the name server is asked for it');

is(asked($any, "unix:$port"), "127.0.0.2:$port", 'unix: a host, out of a variable');
is(asked("unix:$port", ''), "127.0.0.2:$port", 'unix: the host of the CONNECT');
is(asked("some.example:$port", 'unix'), "127.0.0.2:$port", 'unix: without a port');

is(reached('unix:443', port(8087)), 'unix', 'unix: a socket, and a host of that name');
is(reached('unix:443', port(8088), 'File: unix'), 'unix', 'unix: a socket, in capitals');

for my $value ("unix:$unix", "UNIX:$unix", "Unix:$unix", 'unix:0', 'unix:65536', 'unix:+1', 'unix: 1',
	'unix:1/', 'unix:1:1')
{
	log_mark($t);
	is(asked($any, $value), '502', "unix: $value is no socket");
	is_logged($t, 'a variable can\'t begin with "unix:", write that into the directive, in "'
		. $value . '", the value of "proxy_connect_address"');
}

log_mark($t);
is(reached($any, port(8089), "Rest: x:$unix"), '502', 'unix: half of the word is no beginning');
is_logged($t, 'a variable can\'t begin with "unix:", write that into the directive, in "unix:'
	. $unix . '", the value of "proxy_connect_address"');

###############################################################################
# Literals of the CONNECT itself are read like these

is(reached("127.0.0.03:$port", $by{off}), "127.0.0.3:$port", 'CONNECT: a leading zero');
is(reached("[::1]:$port", $by{off}), "[::1]:$port", 'CONNECT: an IPv6 address');
is(reached("[0:0::0:1]:$port", $by{off}), "[::1]:$port", 'CONNECT: in another way');
is(reached("[::ffff:127.0.0.3]:$port", $by{off}), "127.0.0.3:$port",
	'CONNECT: an IPv4 address in an IPv6 one');

for my $name (qw/ 127.1 2130706433 0x7f.0.0.1 256.0.0.1 /) {
	is(reached("$name:$port", $by{off}), '502', "CONNECT: $name is a name");
}

###############################################################################
# $connect_addr

reached('unix.example:443', $by{'unix:%%TESTDIR%%/unix.sock'});
is(addr_of($t, 'unix.example'), "200 unix:$unix", 'the address of a unix socket');

asked("asked.example:$port", 'name.example');
is(addr_of($t, 'asked.example'), "200 127.0.0.1:$port", 'the address of a name');

asked("garbage.example:$port", ':443');
is(addr_of($t, 'garbage.example'), '502 -', 'no address');

###############################################################################

# The status and $connect_addr of the CONNECT to that host, once they are in the log.
sub addr_of {
	my ($t, $host) = @_;
	return wait_for_line($t, qr/^\Q$host\E /, 'addr.log') =~ s/^\S+ //r;
}

# Where a tunnel led: what the upstream says of itself, or the status.
sub reached {
	my ($authority, $port, @fields) = @_;
	my $socket = client(port => $port);

	my $status = status_of(
		$socket->send(connect_request($authority, @fields))->read_header());
	return $status unless $status eq 200;

	my $where = $socket->half_close()->read_to_end();
	$socket->close();
	return $where =~ s/\.$//r;
}

# The same, for an address in a header field.
sub asked {
	my ($authority, $address) = @_;
	return reached($authority, port(8080),
		defined $address ? "Address: $address" : ());
}

# The one line of ours, beginning with these words.
sub is_logged {
	my ($t, $words) = @_;
	my @lines = log_lines($t, qr/proxy_connect: /);

	return ok(@lines == 1
		&& $lines[0] =~ /\[error\] \d+#\d+: \*\d+ proxy_connect: \Q$words\E(?: while .*)?, client: 127\.0\.0\.1, /,
		"in the log: $words") || diag(@lines);
}

###############################################################################
