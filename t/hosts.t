#!/usr/bin/perl

# proxy_connect_allow_host, proxy_connect_deny_host: which hosts a CONNECT may name, before anybody is asked for their
# addresses.

use warnings;
use strict;

use Test::More;
use Time::HiRes qw/ time /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant MANY => 100_000;

# What a server says of a host: with the rule that the log names, where it is refused.
my %expected = (
	# names, suffixes and wildcards
	8080 => [
		[ 'a.example' ],
		[ 'A.Example' ],
		[ 'a.example.' ],
		[ 'x.a.example', 'not allowed' ],
		[ 'aa.example', 'not allowed' ],
		[ 'a.example.org', 'not allowed' ],
		[ 'example', 'not allowed' ],
		[ 'b.example' ],
		[ 'x.b.example' ],
		[ 'y.x.b.example' ],
		[ 'X.B.EXAMPLE.' ],
		[ 'xb.example', 'not allowed' ],
		[ 'c.example', 'not allowed' ],
		[ 'x.c.example' ],
		[ 'y.x.c.example' ],
		[ 'xn--bcher-kva.example' ],
		[ 'under_score.example' ],
		[ 'd1.example' ],
		[ 'd12.example', 'not allowed' ],
		[ 'listed.example' ],
		[ 'x.listed.example', 'not allowed' ],
		[ 'below.suffix.example' ],
		[ 'evil.example', 'not allowed' ],

		# what looks like one that is listed
		[ 'a.example_', 'not allowed' ],
		[ 'a.example-', 'not allowed' ],
		[ '-a.example', 'not allowed' ],

		# an address is no name
		[ '127.0.0.1', 'address' ],
		[ '[::1]', 'address' ],
		[ '[::ffff:127.0.0.1]', 'address' ],
		[ '127.0.0.2' ],
		[ '127.0.0.02' ],
		[ '127.0.0.2.' ],
		[ '[::ffff:127.0.0.2]' ],
		[ '[::ffff:7f00:2]' ],
		[ '127.0.0.3', 'address' ],
		[ '127.2', 'not allowed' ],
		[ '2130706434', 'not allowed' ],
	],

	# what is denied is
	8082 => [
		[ 'a.example' ],
		[ 'bad.a.example', 'deny_host bad.a.example' ],
		[ 'BAD.a.example.', 'deny_host bad.a.example' ],
		[ 'x.a.example' ],
		[ 'b.a.example', 'deny_host .b.a.example' ],
		[ 'x.b.a.example', 'deny_host .b.a.example' ],
		[ 'c.a.example' ],
		[ 'x.c.a.example', 'deny_host *.c.a.example' ],
		[ 'ads7.a.example', 'deny_host ~^ads[0-9]+\\\\.' ],
		[ 'other.example', 'not allowed' ],
		[ '127.0.0.2', 'deny_host 127.0.0.2' ],
		[ '[::ffff:127.0.0.2]', 'deny_host 127.0.0.2' ],
		[ '127.0.0.3' ],
	],

	# a list that any name is in
	8083 => [
		[ 'a.example', 'deny_host .a.example' ],
		[ 'b.example' ],
		[ '127.0.0.1' ],
		[ '[::1]', 'deny_host ::1' ],
		[ '[0:0:0:0:0:0:0:1]', 'deny_host ::1' ],
	],

	# the lists of http
	8084 => [
		[ 'http.example' ],
		[ 'a.example', 'not allowed' ],
		[ 'no.http.example', 'deny_host no.http.example' ],
	],

	# each list is inherited by itself
	8085 => [
		[ 'own.example' ],
		[ 'http.example', 'not allowed' ],
		[ 'no.http.example', 'deny_host no.http.example' ],
	],

	# an address that a rule allows passes, whatever it is written like
	8086 => [
		[ 'a.example' ],
		[ '127.0.0.2' ],
		[ '[::ffff:127.0.0.2]' ],
		[ '127.0.0.3', 'address' ],
		[ '127.0.0.1', 'address' ],
	],
);

my $cases = 0;
$cases += @$_ for values %expected;

my $t = Test::Nginx->new()->has(qw/http rewrite/)->plan(2 * $cases + 25);

my $port = port(8081);

# What a server is made of, beside where it leads.
my %rules = (
	8080 => <<'EOF',
        proxy_connect_allow_host A.example. .b.example *.c.example;
        proxy_connect_allow_host xn--bcher-kva.example under_score.example ~^d\d\.example$;
        proxy_connect_allow_host 127.0.0.2 file:hosts;
EOF
	8082 => <<'EOF',
        proxy_connect_deny_host  bad.a.example .b.a.example *.c.a.example "~^ads[0-9]+\." 127.0.0.2;
        proxy_connect_allow_host .a.example 127.0.0.2 127.0.0.3;
EOF
	8083 => <<'EOF',
        proxy_connect_allow_host ~. 127.0.0.1;
        proxy_connect_deny_host .a.example [::1];
EOF
	8084 => '',
	8085 => <<'EOF',
        proxy_connect_allow_host .own.example no.http.example;
EOF
	8086 => <<'EOF',
        proxy_connect_allow_host a.example;
        proxy_connect_allow_address 127.0.0.2;
        proxy_connect_deny_address 127.0.0.1;
EOF
);

my $servers = join '', map { <<"EOF" } sort keys %rules;
    server {
        listen       127.0.0.1:%%PORT_$_%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_address 127.0.0.2:$port;

$rules{$_}    }

EOF

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format verdict  '$connect_host $status $proxy_connect_verdict $proxy_connect_error';
    access_log %%TESTDIR%%/verdict.log verdict;

    proxy_connect_allow_host .http.example;
    proxy_connect_deny_host no.http.example;

SERVERS

    # what denies stands beside nothing that allows
    server {
        listen       127.0.0.1:8087;
        server_name  localhost;
        resolver     127.0.0.1:%%PORT_8981_UDP%%;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_allow_host .good.example;
        proxy_connect_deny_address 127.0.0.3;
    }

    # a list that is long
    server {
        listen       127.0.0.1:8088;
        server_name  localhost;

        proxy_connect;
        proxy_connect_address 127.0.0.2:%%PORT_8081%%;
        proxy_connect_allow_host file:many;
        proxy_connect_deny_host file:none;
    }

    # only told
    server {
        listen       127.0.0.1:8089;
        server_name  localhost;

        proxy_connect;
        proxy_connect_address 127.0.0.2:%%PORT_8081%%;
        proxy_connect_allow_host a.example;
        proxy_connect_report_only on;
    }

    # a regular expression that comes to no end
    server {
        listen       127.0.0.1:8090;
        server_name  localhost;

        proxy_connect;
        proxy_connect_address 127.0.0.2:%%PORT_8081%%;
        proxy_connect_allow_host .example;
        proxy_connect_deny_host "~^(([a-z])+.)+[A-Z0-9]([a-z])+$";
    }
}

EOF

$t->write_file('hosts', "# comment\nListed.Example # behind\r\n\n*.suffix.example\n");
$t->write_file('many', join '', map { ".host$_.example\n" } 1 .. MANY);
$t->write_file('none', "# nothing\n");
$t->write_file_expand('nginx.conf', $conf =~ s/^SERVERS\n/$servers/mr);

name_server($t, 8981,
	'x.good.example' => '127.0.0.2',
	'bad.good.example' => '127.0.0.3',
);

# The capital letters of one expression have a warning.
run_quietly($t);
upstream($t, greet('hello'), "127.0.0.2:$port");

###############################################################################
# The lists

for my $number (sort keys %expected) {
	for my $case (@{$expected{$number}}) {
		my ($host, $rule) = @$case;

		log_mark($t);
		is(outcome("$host:443", $number), $rule ? '403' : '200 hello', "$number: $host");
		is_told($t, $rule);
	}
}

###############################################################################
# What is told

log_mark($t);
log_mark($t, 'verdict.log');
my $answer = exchange(connect_request('evil.example:443'));
is(status_of($answer), '403', 'told: a refusal');
is(header_of($answer, 'Connection'), 'close', 'told: it closes the connection');
like((log_lines($t, qr/proxy_connect: /))[0],
	qr/\[error\] \d+#\d+: \*\d+ proxy_connect: the host "evil\.example" is not allowed by "proxy_connect_allow_host", client: 127\.0\.0\.1, server: localhost, request: "CONNECT evil\.example:443 HTTP\/1\.1"/,
	'told: the line names host and directive');
is(wait_for_line($t, qr/^evil/, 'verdict.log'), 'evil.example 403 denied:host http_request_denied',
	'told: the variables');

log_mark($t);
log_mark($t, 'verdict.log');
is(outcome('evil.example:443', 8089), '200 hello', 'report only: the tunnel is built');
like((log_lines($t, qr/proxy_connect: /))[0],
	qr/\[warn\] .*the host "evil\.example" is not allowed by "proxy_connect_allow_host", let pass by/,
	'report only: what would have happened');
is(wait_for_line($t, qr/^evil/, 'verdict.log'), 'evil.example 200 reported:host ',
	'report only: the variables');

###############################################################################
# Names and addresses

is(outcome("x.good.example:$port", 8087), '200 hello', 'both: a good name with a good address');
is(outcome("bad.good.example:$port", 8087), '403', 'both: a good name with a bad address');
is(outcome("evil.example:$port", 8087), '403', 'both: a bad name');
is(outcome("127.0.0.2:$port", 8087), '403', 'both: an address that no rule names');
is(scalar(queries($t, qr/evil/)), 0, 'both: nobody is asked for a name that is refused');
is(scalar(queries($t, qr/^A x\.good/)), 1, 'both: for one that is allowed they are');

###############################################################################
# Many

is(outcome('host1.example:443', 8088), '200 hello', 'many: the first');
is(outcome('x.y.host' . MANY . '.example:443', 8088), '200 hello', 'many: below the last');
is(outcome('host' . (MANY + 1) . '.example:443', 8088), '403', 'many: none of them');
is(outcome('a.' x 100 . 'host7.example:443', 8088), '200 hello', 'many: far below');

###############################################################################
# An expression that comes to no end

SKIP: {
	my $long = join('.', ('a' x 60) x 4) . '.example';
	log_mark($t);
	is(outcome("$long:443", 8090), '403', 'no end: refused');
	my ($line) = log_lines($t, qr/came to no end/);
	skip 'this PCRE comes to an end', 1 unless defined $line || !log_lines($t, qr/\[alert\]/);
	like($line // '', qr/the host "\Q$long\E" is not allowed, a regular expression of/, 'no end: told');
}
$t->todo_alerts();

###############################################################################
# A reload

$t->write_file('hosts', "later.example\n");
is(outcome('later.example:443'), '403', 'reload: not yet');
renew($t);
is(outcome('later.example:443'), '200 hello', 'reload: the new list');
is(outcome('listed.example:443'), '403', 'reload: and not the old one');

$t->write_file('hosts', "b\xc3\xbccher.example\n");
log_mark($t);
kill 'HUP', master_pid($t);
like(wait_for_line($t, qr/\[emerg\]/),
	qr!"b\\xc3\\xbccher\.example" in \S+/hosts:1 of the "proxy_connect_allow_host" directive is an internationalised name, write its A-labels.* in \S+/nginx\.conf:\d+$!,
	'reload: a bad list is told');
is(outcome('later.example:443'), '200 hello', 'reload: the old configuration lives');

unlink $t->testdir() . '/hosts';
log_mark($t);
kill 'HUP', master_pid($t);
like(wait_for_line($t, qr/\[emerg\]/),
	qr!the file "\S+/hosts" of the "proxy_connect_allow_host" directive can't be read: No such file!,
	'reload: a list that has vanished is told');

###############################################################################

# The status, and what the upstream says.
sub outcome {
	my ($authority, $number) = @_;
	my $socket = client(port => port($number // 8080));

	my $status = status_of($socket->send(connect_request($authority))->read_header());
	$status .= ' ' . $socket->read_bytes(5) if $status eq 200;
	$socket->close();

	return $status;
}

# The one line of ours says which rule it was.
sub is_told {
	my ($t, $rule) = @_;
	my @lines = log_lines($t, qr/proxy_connect: /);

	return ok(@lines == 0, 'nothing in the log') || diag(@lines) unless defined $rule;

	my $words = $rule eq 'not allowed' ? 'is not allowed by "proxy_connect_allow_host"'
		: $rule eq 'address' ? 'is an IP address, and not allowed by "proxy_connect_allow_host" or'
		: qq{is denied by "proxy_connect_$rule"};

	return ok(@lines == 1 && $lines[0] =~ /\[error\] .*proxy_connect: the host "\S+" \Q$words\E/, $rule)
		|| diag(@lines);
}

###############################################################################
