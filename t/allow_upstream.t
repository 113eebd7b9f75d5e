#!/usr/bin/perl

# proxy_connect_allow_upstream: strings that say of each address whether it is connected to, and
# $proxy_connect_last_addr that they are made of.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http rewrite map geo unix/)->plan(45);

my $port = port(8081);
my $unix = $t->testdir() . '/unix.sock';

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format last  '$connect_host $status $proxy_connect_verdict $proxy_connect_error '
                     '$proxy_connect_last_addr $by_geo $by_map $kept';
    access_log %%TESTDIR%%/last.log last;

    resolver 127.0.0.1:%%PORT_8981_UDP%% ipv6=off;

    geo $proxy_connect_last_addr $by_geo {
        default         0;
        127.0.0.2/31    1;
        127.0.0.4       "";
    }

    map $proxy_connect_last_addr $by_map {
        default         "";
        127.0.0.1       yes;
        ::1             yes;
        ~^unix:/        yes;
    }

    # one of another
    map $by_geo$http_by $by_both {
        default         0;
        1               1;
        1some           1;
        0other          1;
    }

    server {
        listen       127.0.0.1:8080;
        server_name  geo;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_allow_upstream $by_geo;
        set $kept kept;
    }

    server {
        listen       127.0.0.1:8082;
        server_name  several;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_allow_upstream $by_geo $by_map $http_pass;
        set $kept kept;
    }

    # what was asked before there was an address does not stay
    server {
        listen       127.0.0.1:8083;
        server_name  early;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_allow_upstream $by_both;

        set $kept "kept:$by_both:$by_geo:$proxy_connect_last_addr";
    }

    # what set has put there does
    server {
        listen       127.0.0.1:8084;
        server_name  set;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_allow_upstream $kept;

        set $kept "";
        if ($http_pass) {
            set $kept $http_pass;
        }
    }

    # out of a regular expression, too
    server {
        listen       127.0.0.1:8085;
        server_name  ~^(?<part>\w+)\.by\.name$;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_address 127.0.0.1:%%PORT_8081%%;
        proxy_connect_allow_upstream "${part}x";
        set $kept $part;
    }

    server {
        listen       127.0.0.1:8086;
        server_name  constant;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_allow_upstream 0 "";
        set $kept "";
    }

    server {
        listen       127.0.0.1:8087;
        server_name  with_rules;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_deny_address 127.0.0.3;
        proxy_connect_allow_upstream $by_geo;
        set $kept "";
    }

    server {
        listen       127.0.0.1:8089;
        server_name  path;

        proxy_connect;
        proxy_connect_address unix:%%TESTDIR%%/unix.sock;
        proxy_connect_allow_upstream $by_map;
        set $kept "";
    }

    server {
        listen       127.0.0.1:8090;
        server_name  report;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_allow_upstream $by_geo;
        proxy_connect_report_only on;
        set $kept "";
    }

    # of no list at all
    server {
        listen       127.0.0.1:8091;
        server_name  free;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_deny_host evil.example;
        set $kept "";

        location / {
            return 200 "[$proxy_connect_last_addr|$by_geo]";
        }
    }
}

EOF

$t->write_file_expand('nginx.conf', ipv4_only($t, $conf));

name_server($t, 8981,
	'mixed.example' => [ map { "127.0.0.$_" } 1, 2 ],
	'bad.example' => [ map { "127.0.0.$_" } 1, 4, 5 ],
	'closed.example' => [ map { "127.0.0.$_" } 1, 3 ],
	'fine.example' => '127.0.0.2',
);

# Of some servers the variables are made of nothing.
run_quietly($t);

# Nobody listens at 127.0.0.3.
upstream($t, greet("at $_"), "127.0.0.$_:$port") for 1, 2, 4, 5;
upstream($t, greet('at 6'), "[::1]:$port");
upstream($t, greet('at u'), "unix:$unix");

###############################################################################

SKIP: {
	skip NO_REWRITE, 45 unless runs_rewrite($t);

log_mark($t, 'last.log');
is(outcome("127.0.0.2:$port"), '200 at 2', 'geo: an address that it allows');
is(told($t, '127.0.0.2'), "127.0.0.2 200 allowed  127.0.0.2 1  kept", 'geo: the variables');

log_mark($t);
log_mark($t, 'last.log');
is(outcome("127.0.0.1:$port"), '403', 'geo: another');
my @lines = log_lines($t, qr/proxy_connect: /);
is(@lines, 1, 'geo: one line in the log');
like($lines[0], qr/\[error\] .*proxy_connect: the address 127\.0\.0\.1:$port is not allowed by "proxy_connect_allow_upstream" while connecting to upstream, client: /,
	'geo: it names address and directive');
is(told($t, '127.0.0.1'), '127.0.0.1 403 denied:upstream destination_ip_prohibited 127.0.0.1 0 yes kept',
	'geo: the variables of a refusal');

is(outcome("127.0.0.4:$port"), '403', 'geo: an empty value');
is(outcome("[::ffff:127.0.0.2]:$port"), '200 at 2', 'geo: a mapped address');
is(outcome("[::ffff:7f00:1]:$port"), '403', 'geo: a mapped address that it does not allow');
is(outcome("[::1]:$port"), '403', 'geo: an address of IPv6');

# Each address has an answer of its own.
log_mark($t);
log_mark($t, 'last.log');
is(outcome("mixed.example:$port"), '200 at 2', 'geo: the good address of a mixed answer');
is(scalar(log_lines($t, qr/is not allowed by "proxy_connect_allow_upstream"/)),
	scalar(log_lines($t, qr/\[error\]/)), 'geo: no other error');
is(told($t, 'mixed.example'), 'mixed.example 200 allowed  127.0.0.2 1  kept', 'geo: the variables, of the last');
is(outcome("bad.example:$port"), '403', 'geo: no good address');
is(outcome("closed.example:$port"), '502', 'geo: the good one refuses');

###############################################################################
# Several strings

is(outcome("127.0.0.1:$port", 8082), '200 at 1', 'several: the second says yes');
is(outcome("127.0.0.2:$port", 8082), '200 at 2', 'several: the first does');
is(outcome("127.0.0.5:$port", 8082), '403', 'several: none does');
is(outcome("127.0.0.5:$port", 8082, 'Pass: 0'), '403', 'several: a "0" is no yes');
is(outcome("127.0.0.5:$port", 8082, 'Pass: 00'), '200 at 5', 'several: all else is');
is(outcome("[::1]:$port", 8082), '200 at 6', 'several: an address of IPv6');
is(outcome("[0:0::1]:$port", 8082), '200 at 6', 'several: written otherwise');

###############################################################################
# What was asked for before

log_mark($t, 'last.log');
is(outcome("127.0.0.2:$port", 8083), '200 at 2', 'early: the address counts');
is(told($t, '127.0.0.2'), '127.0.0.2 200 allowed  127.0.0.2 1  kept:0:0:', 'early: and not what was before');
is(outcome("127.0.0.1:$port", 8083), '403', 'early: another address');
is(outcome("127.0.0.1:$port", 8083, 'By: other'), '200 at 1', 'early: a map of both');
is(outcome("mixed.example:$port", 8083), '200 at 2', 'early: each address');
is(outcome("mixed.example:$port", 8083, 'By: other'), '200 at 1', 'early: the first');
is(outcome("mixed.example:$port", 8083, 'By: some'), '200 at 2', 'early: the second');

###############################################################################
# What stays

is(outcome("127.0.0.1:$port", 8084, 'Pass: 1'), '200 at 1', 'set: yes');
is(outcome("127.0.0.1:$port", 8084), '403', 'set: no');

log_mark($t, 'last.log');
is(outcome('a.by.name:443', 8085), '200 at 1', 'a named capture');
like(told($t, 'a.by.name'), qr/ a$/, 'a named capture stays');

###############################################################################
# With other rules

is(outcome("127.0.0.1:$port", 8086), '403', 'constants that say no');
is(outcome("127.0.0.2:$port", 8087), '200 at 2', 'with rules: both allow');
is(outcome("127.0.0.3:$port", 8087), '403', 'with rules: the rules deny');
is(outcome("127.0.0.1:$port", 8087), '403', 'with rules: the strings do');

is(outcome('some.example:443', 8089), '200 at u', 'a unix socket');

log_mark($t);
log_mark($t, 'last.log');
is(outcome("127.0.0.1:$port", 8090), '200 at 1', 'report only: the tunnel is built');
like((log_lines($t, qr/proxy_connect: /))[0],
	qr/\[warn\] .*the address 127\.0\.0\.1:$port is not allowed by "proxy_connect_allow_upstream", let pass by/,
	'report only: what would have happened');
is(told($t, '127.0.0.1'), '127.0.0.1 200 reported:upstream  127.0.0.1 0 yes', 'report only: the variables');

###############################################################################
# Without lists

is(outcome("127.0.0.5:$port", 8091), '200 at 5', 'free: any address');
is(outcome("fine.example:$port", 8091), '200 at 2', 'free: any name');
is(outcome("evil.example:$port", 8091), '403', 'free: but the one that is denied');
is(body_of(exchange("GET / HTTP/1.0\x0d\x0a\x0d\x0a", port => port(8091))), '[|0]', 'free: no CONNECT has no address');

}

###############################################################################

# The line of the access log, once it is there.
sub told {
	my ($t, $host) = @_;
	return wait_for_line($t, qr/^\Q$host\E /, 'last.log') =~ s/ $//r;
}

# The status, and what the upstream says.
sub outcome {
	my ($authority, $number, @fields) = @_;
	my $socket = client(port => port($number // 8080));

	my $status = status_of($socket->send(connect_request($authority, @fields))->read_header());
	$status .= ' ' . $socket->read_bytes(4) if $status eq 200;
	$socket->close();

	return $status;
}

###############################################################################
