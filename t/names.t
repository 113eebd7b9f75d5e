#!/usr/bin/perl

# A name is one name, and a CONNECT has no path: whatever a rule looks at, and however a client spells where it
# wants to go, the rule sees the same.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# Other spellings of blocked.test:25.
my @spellings = map { my $host = $_; map { "$host:$_" } qw/ 25 025 0000000025 / }
	qw/ blocked.test BLOCKED.test blocked.test. Blocked.TEST. /;

# How each of them is sent.
my %request = (
	'HTTP/1.1' => sub { connect_request($_[0]) },
	'HTTP/1.0' => sub { "CONNECT $_[0] HTTP/1.0\x0d\x0a\x0d\x0a" },
	'spaces' => sub { "CONNECT    $_[0]   HTTP/1.1\x0d\x0aHost: a\x0d\x0a\x0d\x0a" },
	'another Host' => sub { connect_request($_[0], 'Host: free.test:443') },
);

# Each rule refuses blocked.test, or port 25, by what stands in its place.
my @rules = (
	[ '=, host', 'if ($connect_host = blocked.test) { return 403; }' ],
	[ '=, port', 'if ($connect_port = 25) { return 403; }' ],
	[ '=, $host', 'if ($host = blocked.test) { return 403; }' ],
	[ 'a regex that minds case', 'if ($connect_host ~ ^blocked\.test$) { return 403; }' ],
	[ 'a regex for a port', 'if ($connect_port ~ ^25$) { return 403; }' ],
	[ 'a map', 'if ($mapped) { return 403; }' ],
	[ 'a map of both', 'if ($both) { return 403; }' ],
	[ 'a map that minds case', 'if ($regex) { return 403; }' ],
	[ 'set', 'set $there "$connect_host:$connect_port"; if ($there = blocked.test:25) { return 403; }' ],
	[ 'a file', 'if (-f %%TESTDIR%%/lists/$connect_host) { return 403; }' ],
	[ 'a subrequest', 'auth_request /auth;' ],
);

my $t = Test::Nginx->new()->has(qw/http map rewrite auth_request proxy limit_conn/);

my $servers = join '', map { <<EOF } 0 .. $#rules;

    server {
        listen       127.0.0.1:%%PORT_@{[ 8080 + $_ ]}%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow    all;
        proxy_connect_address  127.0.0.1:%%PORT_8100%%;

        $rules[$_][1]

        location = /auth {
            internal;
            proxy_pass        http://127.0.0.1:%%PORT_8102%%;
            proxy_method      GET;
            proxy_set_header  X-There \$connect_host:\$connect_port;
            proxy_set_header  X-Path "\$request_uri";
        }
    }
EOF

$t->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  line  "\$request|\$connect_host|\$connect_port|\$status";
    access_log  %%TESTDIR%%/line.log line;

    map \$connect_host \$mapped {
        default       0;
        blocked.test  1;
    }

    map \$connect_host:\$connect_port \$both {
        default          0;
        blocked.test:25  1;
    }

    map \$connect_host \$regex {
        default             0;
        "~^blocked\\.test\$"  1;
    }

    # nginx before 1.7.6 takes one variable for a key
    map \$connect_host:\$connect_port \$there {
        default               0;
        limited.test:443      here;
        limited.test:444      there;
    }

    limit_conn_zone  \$there  zone=there:1m;
$servers

    # what the subrequests ask
    server {
        listen       127.0.0.1:8102;
        server_name  localhost;

        location / {
            if (\$http_x_path) {
                return 500;
            }
            if (\$http_x_there = blocked.test:25) {
                return 403;
            }
            return 204;
        }
    }

    # one tunnel for each destination, and a log for each
    server {
        listen       127.0.0.1:8103;
        server_name  localhost;

        access_log   %%TESTDIR%%/lists/\$connect_host-\$connect_port.log line;

        limit_conn   there 1;

        proxy_connect;
        proxy_connect_allow    all;
        proxy_connect_address  127.0.0.1:%%PORT_8100%%;
    }

    # no path
    server {
        listen       127.0.0.1:8104;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow    all;
        proxy_connect_address  127.0.0.1:%%PORT_8100%%;

        rewrite  ^/\$  http://elsewhere.test/ permanent;
        rewrite  ^/    /nowhere last;

        if (\$uri = "/") {
            return 404;
        }

        if (\$document_uri = "/") {
            return 404;
        }

        if (\$request_uri) {
            return 404;
        }

        try_files  /none =404;

        set \$path "[\$uri\$request_uri\$document_uri]";
        proxy_connect_response  "HTTP/1.1 200 OK\\r\\nX-Path: \$path\\r\\n\\r\\n";
    }

    # what rewrites every path rewrites the empty one
    server {
        listen       127.0.0.1:8105;
        server_name  localhost;

        error_page  403 \@named;

        proxy_connect;

        rewrite  ^(.*)\$  "/\$1found" ;

        if (\$uri != "/found") {
            return 500;
        }

        return  403;

        location \@named {
            return 200 "named \$uri\\n";
        }
    }
}

EOF

mkdir($t->testdir() . '/lists') or die "Can't make a folder: $!\n";
chmod 0777, $t->testdir() . '/lists';
$t->write_file('lists/blocked.test', '');

$t->plan(@rules * (2 + keys %request) + 14)->run();

my $upstream = upstream($t, greet('hello'), port(8100));

###############################################################################
# Rules

for my $number (0 .. $#rules) {
	SKIP: {
		my ($name, $rule) = @{$rules[$number]};
		my $port = port(8080 + $number);

		skip NO_REWRITE, 2 + keys %request unless $rule =~ /auth_request/ || runs_rewrite($t);

		for my $how (sort keys %request) {
			my @past = grep { status($request{$how}->($_), $port) ne '403' } @spellings;
			is("@past", '', "$name, $how: no spelling gets past it");
		}

		is(status(connect_request('free.test:443'), $port), '200', "$name: another name");
		is(status(connect_request('blocked.test.free.test:2525'), $port), '200', "$name: a longer name");
	}
}

my @lines = grep { /blocked\.test/i && !/free/ } split /\n/, $t->read_file('line.log');
my $protocol = OVER_HTTP2 ? qr/\Q${\PROTOCOL}\E/ : qr/HTTP\/1\.[01]/;
is(scalar(grep { /^CONNECT +(\S+) +$protocol\|blocked\.test\|25\|403$/ } @lines), scalar @lines,
	'the log has the one form beside what the client sent');
my %sent = map { (split /\s+/)[1], 1 } @lines;
is_deeply([ sort keys %sent ], [ sort @spellings ], 'and that in each of its spellings');

###############################################################################
# Keys and files

my $first = client(port => port(8103))->send(connect_request('Limited.test.:0443'));
is(status_of($first->read_header()), '200', 'a key: the first tunnel');
for my $spelling (qw/ limited.test:443 LIMITED.test:443 limited.test.:00443 /) {
	is(status(connect_request($spelling), port(8103)), '503', "a key: $spelling");
}
is(status(connect_request('limited.test:444'), port(8103)), '200', 'a key: another port');
$first->close();

ok(wait_for_line($t, qr/^CONNECT Limited\.test\.:0443 \Q${\PROTOCOL}\E\|limited\.test\|443\|200$/,
	'lists/limited.test-443.log'), 'the name of a log');
ok(wait_for_line($t, qr/\|limited\.test\|444\|200$/, 'lists/limited.test-444.log'),
	'the name of another');
is_deeply([ sort map { /([^\/]+)\.log$/ } glob $t->testdir() . '/lists/*.log' ],
	[ 'limited.test-443', 'limited.test-444' ], 'no other log');

###############################################################################
# No path

SKIP: {
	skip NO_REWRITE, 4 unless runs_rewrite($t);

	my $client = client(port => port(8104))->send(connect_request('a.test:443'));
	my $header = $client->read_header();
	is(status_of($header) . ' ' . header_of($header, 'X-Path'), '200 []', 'rules for a path do not catch a tunnel');
	is($client->read_bytes(5), 'hello', 'and it stands');
	$client->close();

	like(exchange("GET / HTTP/1.0\x0d\x0a\x0d\x0a", port => port(8104)),
		qr/^HTTP\/1\.1 301 .*Location: http:\/\/elsewhere\.test\//s, 'they catch GET');
	like(exchange(connect_request('a.test:443'), port => port(8105)),
		qr/^HTTP\/1\.1 403 .*named \/found\n$/s, 'a rule for every path has an empty one');
}

###############################################################################

sub status {
	my ($request, $port) = @_;
	my $client = client(port => $port)->send($request);

	my $status = status_of($client->read_header());
	$client->close();

	return $status;
}

###############################################################################
