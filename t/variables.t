#!/usr/bin/perl

# The variables: what each tells of a CONNECT, in every phase and in every outcome, and what
# setting one does.

use warnings;
use strict;

use Test::More;
use Time::HiRes;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http rewrite map/)->plan(81);

$t->write_file_expand('nginx.conf', ipv4_only($t, <<'EOF'));

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    resolver          127.0.0.1:%%PORT_8981_UDP%% ipv6=off;
    resolver_timeout  5s;

    log_format target   '$connect_host|$connect_port|$connect_addr';
    log_format timeout  '$proxy_connect_connect_timeout|$proxy_connect_data_timeout'
                        '|$proxy_connect_read_timeout|$proxy_connect_send_timeout';
    log_format time     '$status|$proxy_connect_resolve_time'
                        '|$proxy_connect_connect_time|$proxy_connect_first_byte_time';
    log_format response '$proxy_connect_response';

    # a GET is in the log once it is answered
    lingering_close  off;

    access_log %%TESTDIR%%/target.log target;
    access_log %%TESTDIR%%/timeout.log timeout;
    access_log %%TESTDIR%%/time.log time;
    access_log %%TESTDIR%%/response.log response;

    # a server as it is without a directive
    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow all;

        location / {
            return 200 "GET|$connect_host|$connect_port|$connect_addr|$proxy_connect_connect_timeout|$proxy_connect_data_timeout|$proxy_connect_resolve_time|$proxy_connect_connect_time|$proxy_connect_first_byte_time|$proxy_connect_response|\n";
        }
    }

    # with directives
    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow            all;
        proxy_connect_connect_timeout  10s;
        proxy_connect_data_timeout     1m;
        proxy_connect_send_timeout     7s;
        proxy_connect_response         "HTTP/1.1 200 Directive\r\n\r\n";
    }

    # what is known in the rewrite phase
    server {
        listen       127.0.0.1:8083;
        server_name  localhost;

        proxy_connect;
        proxy_connect_connect_timeout  10s;

        return 200 "$connect_host|$connect_port|$connect_addr|$proxy_connect_connect_timeout|$proxy_connect_data_timeout|$proxy_connect_read_timeout|$proxy_connect_send_timeout|$proxy_connect_resolve_time|$proxy_connect_connect_time|$proxy_connect_first_byte_time|$proxy_connect_response|";
    }

    # each is set, over a directive
    server {
        listen       127.0.0.1:8084;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow            all;
        proxy_connect_connect_timeout  10s;
        proxy_connect_data_timeout     10s;
        proxy_connect_send_timeout     10s;
        proxy_connect_response         "HTTP/1.1 200 Directive\r\n\r\n";

        set $proxy_connect_connect_timeout  "1s";
        set $proxy_connect_data_timeout     "2500ms";
        set $proxy_connect_send_timeout     "1m30s";
        set $proxy_connect_response         "HTTP/1.1 200\r\nProxy-agent: set\r\n\r\n";

        location / {
            return 200 "GET|$proxy_connect_data_timeout|\n";
        }
    }

    # nothing useful is set
    server {
        listen       127.0.0.1:8085;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow            all;
        proxy_connect_connect_timeout  10s;
        proxy_connect_data_timeout     20s;
        proxy_connect_send_timeout     30s;

        set $proxy_connect_connect_timeout  $http_connect;
        set $proxy_connect_data_timeout     $http_data;
        set $proxy_connect_send_timeout     $http_send;
        set $proxy_connect_response         $http_response;

        location / {
            return 200 "GET\n";
        }
    }

    # which server, and how long, is decided in the rewrite phase
    map $connect_port $data_timeout {
        default  30s;
        1        100ms;
        2        200ms;
    }

    map $connect_host $where {
        default     127.0.0.1:%%PORT_8086%%;
        full        127.0.0.1:%%PORT_8087%%;
    }

    server {
        listen       127.0.0.1:8088;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow            all;
        proxy_connect_connect_timeout  30s;
        proxy_connect_address          $where;

        set $proxy_connect_data_timeout $data_timeout;

        if ($connect_port = 3) {
            set $proxy_connect_read_timeout     "300ms";
        }

        if ($connect_host = full) {
            set $proxy_connect_connect_timeout  "300ms";
        }

        if ($connect_host ~ "^return(.*)$") {
            return 200 "$1";
        }
    }

    # a time that a set leaves as it was
    server {
        listen       127.0.0.1:8089;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow            all;
        proxy_connect_data_timeout     300ms;

        set $proxy_connect_data_timeout     "never";
        set $proxy_connect_send_timeout     "1ms";
    }

    # an answer of error_page has them still
    server {
        listen       127.0.0.1:8090;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
        error_page           400 502 /error;

        location /error {
            return 502 "$connect_host|$connect_port|$connect_addr|$proxy_connect_resolve_time|$proxy_connect_connect_time|$proxy_connect_first_byte_time|";
        }
    }
}

EOF

name_server($t, 8981,
	'echo.example' => '127.0.0.1',
	'slow.example' => { addrs => '127.0.0.1', delay => 0.3 },
);

run_quietly($t);

my $echo = port(8086);
my $full = full_backlog(port(8087));
my $refused = port(8091);
my $default = 'HTTP/1.1 200 Connection Established\x0D\x0AProxy-agent: nginx\x0D\x0A\x0D\x0A';

upstream($t, echo(), $echo);
upstream($t, sub {
	my ($socket) = @_;
	select undef, undef, undef, 0.3;
	$socket->send('late');
	$socket->read_to_end();
}, my $late = port(8092));

###############################################################################
# Where it goes

my $number = qr/\d+\.\d{3}/;

my %log = logged($t, sub { through("Echo.example:0$echo") });
is($log{target}, "echo.example|$echo|127.0.0.1:$echo", 'a name is one name, a port one port');
like($log{time}, qr/^200\|$number\|$number\|$number$/, 'times of a tunnel');

%log = logged($t, sub { through("127.0.0.1:$echo") });
is($log{target}, "127.0.0.1|$echo|127.0.0.1:$echo", 'an IPv4 address');
like($log{time}, qr/^200\|0\.000\|$number\|$number$/, 'nothing to resolve: 0.000');

%log = logged($t, sub { exchange(connect_request("[::1]:$refused")) });
is($log{target}, "[::1]|$refused|[::1]:$refused", 'an IPv6 address');

###############################################################################
# Times

%log = logged($t, sub { body_of(http_get('/')) });
is($log{time}, '200|||', 'GET: empty');
is($log{timeout}, '|||', 'GET: no timeouts, and empty, too');
is($log{target}, '-|-|-', 'GET: no target');
is($log{response}, '-', 'GET: no response');

is(body_of(http_get('/')), "GET||||||||||\n", 'GET: all are empty in a string');

SKIP: {
	skip NO_REWRITE, 3 unless runs_rewrite($t);

	%log = logged($t, sub { exchange(connect_request('x:1'), port => port(8083)) });
	is($log{time}, '200|-|-|-', 'answered by return: nothing was done');
	is($log{timeout}, '10000|60000|60000|60000', 'answered by return: the timeouts');
	is($log{target}, 'x|1|-', 'answered by return: no address');
}

%log = logged($t, sub { exchange(connect_request('x:1', 'Content-Length: 1') . 'x') });
is($log{time}, '400|-|-|-', 'refused before anything began: nothing was done');
is($log{timeout}, '60000|60000|60000|60000', 'refused before anything began: the timeouts');

%log = logged($t, sub { exchange(connect_request('nobody.example:1')) });
is($log{time}, '502|-|-|-', 'resolving failed');
is($log{target}, 'nobody.example|1|-', 'resolving failed: no address');

%log = logged($t, sub { exchange(connect_request("127.0.0.1:$refused")) });
is($log{time}, '502|0.000|-|-', 'connecting failed');
is($log{target}, "127.0.0.1|$refused|127.0.0.1:$refused",
	'connecting failed: the address that was tried');

%log = logged($t, sub { exchange(connect_request("echo.example:$refused")) });
like($log{time}, qr/^502\|$number\|-\|-$/, 'connecting to a name failed');

%log = logged($t, sub { tunnel("127.0.0.1:$echo")->close() });
like($log{time}, qr/^200\|0\.000\|$number\|-$/, 'no byte of the upstream');

%log = logged($t, sub { through("slow.example:$echo") });
ok(between(0.3, $log{time} =~ /^200\|($number)/, 5), 'time of a slow resolver')
	or diag($log{time});

%log = logged($t, sub {
	my $socket = tunnel("127.0.0.1:$late");
	$socket->read_bytes(4);
	$socket->close();
});
ok(between(0.3, $log{time} =~ /($number)$/, 5), 'time of a late first byte')
	or diag($log{time});
my ($connect, $first_byte) = $log{time} =~ /\|($number)\|($number)$/;
ok(between(0, $connect, $first_byte - 0.1), 'the time of the connect is apart from it')
	or diag($log{time});

my $knocks = knocks(port(8087));
%log = logged($t, sub {
	my $socket = client();
	$socket->send(connect_request('127.0.0.1:' . port(8087)));
	wait_until('nginx did not try to connect', sub { knocks(port(8087)) > $knocks });
	$socket->close();
});
is($log{time}, '499|0.000|-|-', 'the client left while connecting');

###############################################################################
# Timeouts and the response, as they are

%log = logged($t, sub { through("127.0.0.1:$echo") });
is($log{timeout}, '60000|60000|60000|60000', 'defaults');
is($log{response}, $default, 'default response');

%log = logged($t, sub { through("127.0.0.1:$echo", port => port(8082)) });
is($log{timeout}, '10000|60000|60000|7000', 'directives');
is($log{response}, 'HTTP/1.1 200 Directive\x0D\x0A\x0D\x0A', 'response of a directive');

SKIP: {
	skip NO_REWRITE, 1 unless runs_rewrite($t);

	is(body_of(exchange(connect_request('x.example:443'), port => port(8083))),
		"x.example|443||10000|60000|60000|60000|-|-|-|"
		. "HTTP/1.1 200 Connection Established\x0d\x0aProxy-agent: nginx\x0d\x0a\x0d\x0a|",
		'in the rewrite phase');
}

###############################################################################
# Setting them

SKIP: {
	skip NO_REWRITE, 37 unless runs_rewrite($t);

	my $socket = client(port => port(8084));
	%log = logged($t, sub {
		$socket->send(connect_request("127.0.0.1:$echo"));
		is($socket->read_header(), "HTTP/1.1 200\x0d\x0aProxy-agent: set\x0d\x0a\x0d\x0a",
			'set $proxy_connect_response');
		is($socket->send('echo')->read_bytes(4), 'echo', 'the tunnel behind it');
		$socket->close();
	});
	is($log{timeout}, '1000|2500|2500|90000', 'set timeouts');
	is($log{response}, 'HTTP/1.1 200\x0D\x0AProxy-agent: set\x0D\x0A\x0D\x0A', 'set response');

	is(body_of(http_get('/', PeerAddr => '127.0.0.1:' . port(8084))), "GET||\n",
		'a set does nothing for GET');

	%log = logged($t, sub { through("127.0.0.1:$echo", port => port(8085)) });
	is($log{timeout}, '10000|20000|20000|30000', 'set to nothing: directives hold');
	is($log{response}, $default, 'set to nothing: the response too');

	my @garbage = ('soon', '-1', '10x', '1.5s', '10s 20s', '99999999999999999999s', "\xff");

	for my $garbage (@garbage) {
		log_mark($t);
		%log = logged($t, sub {
			through("127.0.0.1:$echo", port => port(8085), fields => [
				map { "$_: $garbage" } qw/ Connect Data Send / ]);
		});
		is($log{timeout}, '10000|20000|20000|30000',
			'garbage: directives hold, ' . printable($garbage));

		for my $name (qw/ connect data send /) {
			my @lines = log_lines($t, qr/\[error\] .*\$proxy_connect_${name}_timeout/);
			my $shown = printable($garbage);
			ok(@lines == 1 && $lines[0] =~ /: \*\d+ proxy_connect: .*"\Q$shown\E".*, client: /i,
				"garbage: $name in the log, $shown") or diag(@lines);
		}
	}

	is(body_of(http_get('/', PeerAddr => '127.0.0.1:' . port(8085))), "GET\n",
		'garbage is nothing to GET');

	%log = logged($t, sub {
		through("127.0.0.1:$echo", port => port(8085), fields => [
			'Connect: 0', 'Data: 5', 'Send: 1d', 'Response: HTTP/1.1 200 Header' ],
			raw => 1);
	});
	is($log{timeout}, '0|5000|5000|86400000', 'set from a header field');
}

###############################################################################
# What is set holds

SKIP: {
	skip NO_REWRITE, 6 unless runs_rewrite($t);

	ok(between(0.1, idle_time('x:1'), 5), 'a data timeout by map and set');
	ok(between(0.3, idle_time('x:3'), 5), 'a data timeout by its old name');
	ok(between(0.3, idle_time("127.0.0.1:$echo", port(8089)), 5),
		'garbage: the directive still counts');

	my $start = Time::HiRes::time();
	is(status_of(exchange(connect_request('full:443'), port => port(8088))), '504',
		'a connect timeout by if and set');
	ok(between(0.3, Time::HiRes::time() - $start, 5), 'and not later');

	is(body_of(exchange(connect_request('return.me:1'), port => port(8088))), '.me',
		'if and return');
}

###############################################################################
# After an internal redirect

my $answer = exchange(connect_request("127.0.0.1:$refused"), port => port(8090));
is(body_of($answer), "127.0.0.1|$refused|127.0.0.1:$refused|0.000|-|-|",
	'error_page: connecting failed');
%log = logged($t, sub { exchange(connect_request('nobody.example:1'), port => port(8090)) });
is($log{time}, '502|-|-|-', 'error_page: resolving failed, in the log');

# The core makes a GET of them.
for my $case (
	[ 'a body', connect_request('x:1', 'Content-Length: 1') . 'x' ],
	[ 'no authority', connect_request('x:0') ],
	[ 'no port', connect_request('x') ],
) {
	my ($name, $request) = @$case;
	%log = logged($t, sub { exchange($request, port => port(8090)) });
	is($log{time} =~ s/^\d+//r, '|-|-|-', "error_page: $name, in the log");
	is($log{timeout}, '60000|60000|60000|60000', "error_page: $name, the timeouts");
}

###############################################################################

# What the access logs say of the one request that the code makes.
sub logged {
	my ($t, $code) = @_;
	my @logs = qw/ target timeout time response /;

	log_mark($t, "$_.log") for @logs;
	$code->();
	return map { $_ => (access_lines($t, 1, "$_.log"))[0] } @logs;
}

sub through {
	my ($authority, %options) = @_;
	my $socket = client(%options);

	$socket->send(connect_request($authority, @{$options{fields} // []}));

	# An answer of one line has no empty line behind it.
	$options{raw} ? $socket->read_bytes(length 'HTTP/1.1 200 Header')
		: $socket->read_header();
	$socket->send('echo')->read_bytes(4);
	$socket->close();
}

# How long, in seconds, an idle tunnel stands, and what it takes to get it.
sub idle_time {
	my ($authority, $port) = @_;
	my $start = Time::HiRes::time();
	my $socket = tunnel($authority, port => $port // port(8088));

	$socket->read_to_end();
	$socket->close();
	return Time::HiRes::time() - $start;
}

sub between {
	my ($least, $value, $most) = @_;
	return defined $value && $least <= $value + 0.005 && $value <= $most;
}

sub printable {
	my ($text) = @_;
	return $text =~ s/([^\x20-\x7e])/sprintf '\\x%02x', ord $1/ger;
}

###############################################################################
