#!/usr/bin/perl

# Early data of TLS 1.3: a CONNECT in them can be sent again by anyone who saw them. Nobody is asked for
# anything until the client's Finished is there; then it is a CONNECT as any other.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Flight;
use Test::ProxyConnect::Program;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl auth_request proxy/)->has_daemon('openssl');

plan(skip_all => 'no early data in this nginx') unless $t->has_version('1.15.4');
plan(skip_all => 'no early data in this openssl')
	unless `openssl s_client -help 2>&1` =~ /-early_data/;

# After how long, in seconds, nginx gives up a client of the impatient server.
use constant PATIENCE => 1 * SLOWNESS;

# How many bytes of early data nginx takes.
use constant MAX_EARLY_DATA => 16384;

my $conf = <<'EOF_CONF';

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;
worker_shutdown_timeout 1s;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;
    ssl_protocols        TLSv1.3;
    ssl_early_data       on;

    resolver  127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    log_format  early  "$request_method $connect_host $status";
    log_format  auth   "$http_x_host";

    # whoever is asked for a CONNECT
    server {
        listen       127.0.0.1:8085;
        server_name  localhost;

        access_log  %%TESTDIR%%/auth.log auth;

        location / {
            return  204;
        }
    }

    server {
        listen       127.0.0.1:8443 ssl;
        listen       127.0.0.1:8080;
        server_name  localhost;

        access_log  %%TESTDIR%%/early.log early;

        proxy_connect;
        proxy_connect_allow  %%PORT_8081%% %%PORT_8082%% %%PORT_8083%%;

        auth_request  /auth;
        error_page    400 /auth;

        location = /auth {
            proxy_pass                 http://127.0.0.1:8085;
            proxy_set_header           X-Host "host $connect_host";
            proxy_ignore_client_abort  on;
        }

        location = /page {
            auth_request  off;
            return        200 "a page";
        }
    }

    # an impatient one
    server {
        listen       127.0.0.1:8444 ssl;
        server_name  localhost;

        access_log  %%TESTDIR%%/early.log early;

        client_header_timeout  %%PATIENCE%%;

        proxy_connect;
        proxy_connect_allow  all;

        auth_request  /auth;
        post_action   /after;

        location = /auth {
            proxy_pass        http://127.0.0.1:8085;
            proxy_set_header  X-Host "host $connect_host";
        }

        location = /after {
            auth_request      off;
            proxy_pass        http://127.0.0.1:8085;
            proxy_method      GET;
            proxy_set_header  X-Host "after $connect_host";
        }
    }
}

EOF_CONF

$conf =~ s/%%PATIENCE%%/PATIENCE . 's'/e;
$t->plan(54)->write_file_expand('nginx.conf', $conf);

certificate($t, 'localhost');
name_server($t, 8980, 'slow.example' => { addrs => '127.0.0.1', delay => 0.4 },
	map { ("early$_.example" => '127.0.0.1') } 1 .. 9);
$t->run();

my %upstream = map { $_ => '127.0.0.1:' . port($_) } 8081 .. 8083;
upstream($t, echo(), $upstream{$_}) for 8081, 8082;
upstream($t, answer_at_eof(), $upstream{8083});

my %session = map { $_ => session($t, port($_)) } 8443, 8444;
my $flight;

###############################################################################
# A tunnel, as any other

my ($early) = authority('slow.example', 8081);
$flight = flight($t, port(8443), session => $session{8443},
	early => connect_request($early) . 'early, ');
$flight->open();

like($flight->read_header(), qr/^HTTP.1\.1 200 /, 'a CONNECT in early data');
is($flight->send('late')->read_bytes(11), 'early, late', 'bytes of both kinds');
$flight->close();
is_in_log($t, 'CONNECT slow.example 200', 'the access log');

# The largest that there may be. It needs more room than the header.
my $request = connect_request(authority('early1.example', 8081));
my $noise = noise(MAX_EARLY_DATA - length $request);
$flight = flight($t, port(8443), session => $session{8443}, early => $request . $noise);
$flight->open();

like($flight->read_header(), qr/^HTTP.1\.1 200 /, 'as much early data as there may be');
same($flight->read_bytes(length $noise), $noise, 'all of them');
is($flight->send('more')->read_bytes(4), 'more', 'and what follows');
$flight->close();

# Only a part of the header is early.
$flight = flight($t, port(8443), session => $session{8443}, early => substr $request, 0, 20);
$flight->open();
$flight->send(substr($request, 20) . 'late');
like($flight->read_header(), qr/^HTTP.1\.1 200 /, 'a header that is early in part');
is($flight->read_bytes(4), 'late', 'a header that is early in part: the tunnel');
$flight->close();

###############################################################################
# Nobody is asked before the Finished

$flight = begin($t, 2, 'early, ');
is(asked($t, 2), '0 0 0', 'early data: nobody is asked');

my ($end, $finished) = $flight->finish();
$flight->pass($end);
is(asked($t, 2), '0 0 0', 'the end of early data: nobody is asked');

$flight->pass($finished)->open();
like($flight->read_header(), qr/^HTTP.1\.1 200 /, 'the Finished: the tunnel');
is($flight->send('late')->read_bytes(11), 'early, late', 'the Finished: bytes, once and in order');
is(asked($t, 2), '1 1 1', 'the Finished: all are asked, once');
$flight->close();

# All that the client says comes at once, its end of file too.
for my $case ([ 3, 'early, ', 'late' ], [ 4, 'early', '' ], [ 5, '', 'late' ]) {
	my ($number, $before, $behind) = @$case;
	my $name = "\"$before$behind\" and the end";

	$flight = begin($t, $number, $before, 8083);
	my @rest = $flight->finish();
	push @rest, $flight->send($behind)->data() if $behind;
	$flight->pass(@rest)->end();

	like($flight->read_header(), qr/^HTTP.1\.1 200 /, "$name: the tunnel");
	is($flight->read_to_end(), "$before$behind", "$name: bytes");
	is_in_log($t, "CONNECT early$number.example 200", "$name: the access log");
}

# Behind another request.
$flight = flight($t, port(8443), session => $session{8443}, early => page_request()
	. connect_request(authority('early6.example', 8081)) . 'early');
log_mark($t, $_) for qw/ upstream.log auth.log dns.log early.log /;
$flight->pass($flight->early());
($end, $finished) = $flight->finish();
like($flight->read_header(), qr/^HTTP.1\.1 200 /, 'a GET in early data: answered at once');
is($flight->read_bytes(6), 'a page', 'a GET in early data: its page');
is(asked($t, 6), '0 0 0', 'a CONNECT behind it: nobody is asked');
$flight->pass($end, $finished)->open();
like($flight->read_header(), qr/^HTTP.1\.1 200 /, 'a CONNECT behind it: the tunnel');
is($flight->read_bytes(5), 'early', 'a CONNECT behind it: bytes');
$flight->close();

###############################################################################
# Refused

my %refused = (
	'400 for its authority' => connect_request('early7.example:0'),
	'400 for its line' => "CONNECT early7.example HTTP/1.1\x0d\x0aHost: x\x0d\x0a\x0d\x0a",
	'403 for its port' => connect_request('early7.example:' . port(8085)),
);

for my $name (sort keys %refused) {
	log_mark($t, $_) for qw/ upstream.log auth.log dns.log early.log /;
	$flight = flight($t, port(8443), session => $session{8443}, early => $refused{$name});
	$flight->pass($flight->early());
	my @rest = $flight->finish();

	pass_by($t);
	is(log_lines($t, qr/^host(?! 127)/, 'auth.log'), 0, "$name: nobody is asked for a page either");

	$flight->pass(@rest);
	my ($status) = $name =~ /^(\d+)/;
	is(status_of($flight->read_to_end()), $status, $name);
}

###############################################################################
# Clients that leave

for my $leave (qw/ close reset /) {
	for my $when ('early data', 'end of early data') {
		my $name = "$leave after the $when";
		log_mark($t, 'error.log');

		$flight = begin($t, 8);
		$flight->pass(($flight->finish())[0]) if $when =~ /end/;
		is(asked($t, 8), '0 0 0', "$name: nobody is asked");
		$flight->close($leave);

		is_in_log($t, 'CONNECT early8.example 499', "$name: the access log");
		like(wait_for_line($t, qr/client prematurely closed/),
			qr/\[info\].* proxy_connect: client prematurely closed connection.* while SSL handshaking, client: /,
			"$name: the error log");
	}
}

###############################################################################
# Replays

log_mark($t, $_) for qw/ upstream.log auth.log dns.log early.log error.log /;
my $seen = flight($t, port(8444), session => $session{8444},
	early => connect_request(authority('early9.example', 8081)) . 'early');
my $head = $seen->early();
$seen->pass($head);
my @tail = $seen->finish();

# All of it at once, and as it came.
my %replay = (
	'early data' => [ $head ],
	'early data and their end' => [ "$head$tail[0]" ],
	'early data, then their end' => [ $head, $tail[0] ],
	'the whole flight' => [ join '', $head, @tail ],
	'the whole flight, in two parts' => [ $head, join '', @tail ],
	'the whole flight, in three parts' => [ $head, @tail ],
);

my %ends = map { $_ => client(port => port(8444)) } keys %replay;

for my $part (0 .. 2) {
	$ends{$_}->send($replay{$_}[$part] // '') for keys %ends;
	pass_by($t);
}

$_->ending() for values %ends;
$seen->read_to_end();

is(asked($t, 9), '0 0 0', 'replays: nobody is asked');
is_deeply([ sort(wait_for_lines($t, 7, qr/ early9/, 'early.log')) ],
	[ ('CONNECT early9.example 408') x 4, ('CONNECT early9.example 499') x 3 ],
	'replays: the access log');
is(log_lines($t, qr/\[info\].* proxy_connect: client timed out \(110: .*\) while SSL handshaking, client: /),
	4, 'replays: the error log');

# It was one that may pass.
$flight = flight($t, port(8444), session => $session{8444},
	early => connect_request(authority('early9.example', 8081)) . 'early');
$flight->open();
like($flight->read_header(), qr/^HTTP.1\.1 200 /, 'no replay');
is($flight->read_bytes(5), 'early', 'no replay: bytes');
$flight->close();
is(eval { wait_for_line($t, qr/^after /, 'auth.log') }, 'after early9.example', 'no replay: what follows it');

###############################################################################
# A worker that has to go

$flight = begin($t, 8);
is(asked($t, 8), '0 0 0', 'shutdown: nobody is asked');
kill 'QUIT', master_pid($t);
is($flight->read_to_end(), '', 'shutdown: the connection is closed');
is_in_log($t, 'CONNECT early8.example 000', 'shutdown: the access log');
wait_for_exit($t);

###############################################################################

# A file with a session, for which a server of nginx takes early data.
sub session {
	my ($t, $port) = @_;
	my $file = $t->testdir() . "/session.$port";

	$t->write_file('request', page_request('Connection: close'));
	run_program($t, ['openssl', 's_client', '-connect', "127.0.0.1:$port", '-tls1_3', '-ign_eof',
		'-sess_out', $file], input => 'request');

	return $file;
}

sub page_request {
	return join "\x0d\x0a", 'GET /page HTTP/1.1', 'Host: localhost', @_, '', '';
}

sub authority {
	my ($name, $number) = @_;
	return "$name:" . port($number);
}

# A client whose early data nginx has, which ask for a name with this number.
sub begin {
	my ($t, $number, $behind, $upstream) = @_;

	log_mark($t, $_) for qw/ upstream.log auth.log dns.log early.log /;
	my $flight = flight($t, port(8443), session => $session{8443},
		early => connect_request(authority("early$number.example", $upstream // 8081)) . ($behind // ''));

	return $flight->pass($flight->early());
}

# How often the name server, the server of auth_request, and the upstream were asked, once another CONNECT
# that came later is through.
sub asked {
	my ($t, $number) = @_;
	pass_by($t);

	return join ' ', scalar queries($t, qr/ early$number\./),
		scalar(log_lines($t, qr/ early$number\./, 'auth.log')),
		scalar upstream_lines($t, qr/:@{[ port(8081) ]} accepted/);
}

sub pass_by {
	my ($t) = @_;
	my $tunnel = tunnel('127.0.0.1:' . port(8082), early => 'through');

	$tunnel->read_bytes(7);
	$tunnel->close();
	return;
}

sub is_in_log {
	my ($t, $line, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(eval { wait_for_line($t, qr/^\Q$line\E$/, 'early.log') }, $line, $name)
		or diag(join "\n", log_lines($t, qr/^/, 'early.log'));
	return;
}

###############################################################################
