#!/usr/bin/perl

# CONNECT over HTTP/2 in early data of TLS 1.3: nobody is asked for anything until the client's Finished is there.
# Other streams of the connection don't wait with it.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Flight;
use Test::ProxyConnect::HTTP2 qw/ END_STREAM END_HEADERS PREFACE block as_frame http2_on /;
use Test::ProxyConnect::Program;

use constant { DATA => 0, HEADERS => 1, RST_STREAM => 3, SETTINGS => 4, WINDOW_UPDATE => 8 };

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl http_v2 rewrite socket_ssl/)->has_daemon('openssl');

plan(skip_all => 'CONNECT over HTTP/2 needs nginx 1.22 or newer') unless $t->has_version('1.22.0');
plan(skip_all => 'no early data in this openssl')
	unless `openssl s_client -help 2>&1` =~ /-early_data/;

my $on = http2_on($t);
my $patience = 1 * SLOWNESS;

$t->plan(20)->write_file_expand('nginx.conf', <<'EOF' =~ s/%%HTTP2%%/$on/gr =~ s/%%PATIENCE%%/${patience}s/r);

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;
    ssl_protocols        TLSv1.3;
    ssl_early_data       on;

    log_format  early  "$request $status";
    access_log  %%TESTDIR%%/early.log early;

    proxy_connect_http2_window  64k;

    server {
        listen       127.0.0.1:8443 ssl%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  %%PORT_8081%% %%PORT_8082%%;

        location / {
            return 200 "here\n";
        }
    }

    # an impatient one
    server {
        listen       127.0.0.1:8444 ssl%%HTTP2%%;
        server_name  localhost;

        client_header_timeout  %%PATIENCE%%;

        proxy_connect;
        proxy_connect_allow  %%PORT_8081%% %%PORT_8082%%;
    }
}

EOF

certificate($t, 'localhost');
upstream($t, echo(), port($_)) for 8081, 8082;
$t->run();

my $to = '127.0.0.1:' . port(8081);
my %session = map { $_ => session($t, port($_)) } 8443, 8444;

###############################################################################

my ($flight, $h2) = early($t, 8443, headers(1, $to), as_frame(DATA, 0, 1, 'early, '));
is(asked($t), 0, 'early data: nobody is asked');

my ($end, $finished) = $flight->finish();
$flight->pass($end);
is(asked($t), 0, 'the end of early data: nobody is asked');

$flight->pass($finished)->open();
is($h2->status(1), 200, 'the Finished: the tunnel');
is(asked($t), 1, 'the Finished: the upstream is asked');
$h2->data(1, 'late', END_STREAM);
is($h2->read_to_end(1), 'early, late', 'bytes of both kinds');
is(wait_for_line($t, qr/\Q$to\E /, 'early.log'), "CONNECT $to HTTP/2.0 200", 'the access log');
$flight->close();

# Two of them, and others beside.
($flight, $h2) = early($t, 8443, headers(1, $to), get(3), as_frame(DATA, END_STREAM, 1, 'one'),
	headers(5, $to), headers(7, '127.0.0.1:1'), headers(9, $to), as_frame(RST_STREAM, 0, 9, pack 'N', 8));
is($h2->read_to_end(3), "here\n", 'a GET in early data: answered at once');
is(asked($t), 0, 'CONNECTs beside it: nobody is asked');
is(wait_for_line($t, qr/ 499/, 'early.log'), "CONNECT $to HTTP/2.0 499", 'one that is reset meanwhile');

$flight->pass($flight->finish())->open();
is($h2->read_to_end(1), 'one', 'the first one');
is($h2->status(7), 403, 'one that is refused');
$h2->data(5, 'two', END_STREAM);
is($h2->read_to_end(5), 'two', 'the second one');
is(asked($t), 2, 'the upstream is asked twice');
$flight->close();

# More than the window.
($flight, $h2) = early($t, 8443, headers(1, $to), map { as_frame(DATA, 0, 1, 'x' x 1000) } 1 .. 10);
$flight->pass($flight->finish())->open();
is($h2->read_bytes(1, 10_000), 'x' x 10_000, 'many bytes');
$flight->close();

###############################################################################
# Clients that leave, and those that are slow

for my $leave (qw/ close reset /) {
	($flight, $h2) = early($t, 8443, headers(1, $to));
	is(asked($t), 0, "$leave: nobody is asked");
	$flight->close($leave);
	is(wait_for_line($t, qr/ 499/, 'early.log'), "CONNECT $to HTTP/2.0 499", "$leave: the access log");
}

($flight, $h2) = early($t, 8444, headers(1, $to));
is(wait_for_line($t, qr/ 408/, 'early.log'), "CONNECT $to HTTP/2.0 408", 'no Finished in time');
is(asked($t), 0, 'no Finished in time: nobody is asked');
$flight->close();

###############################################################################

sub headers {
	my ($id, $authority) = @_;
	return as_frame(HEADERS, END_HEADERS, $id, block(':method' => 'CONNECT', ':authority' => $authority));
}

sub get {
	my ($id) = @_;
	return as_frame(HEADERS, END_HEADERS | END_STREAM, $id, block(':method' => 'GET', ':scheme' => 'https',
		':path' => '/', ':authority' => 'localhost'));
}

# A client that has sent these frames, and what hears the answers.
sub early {
	my ($t, $port, @frames) = @_;
	log_mark($t, $_) for qw/ upstream.log early.log /;

	my $flight = flight($t, port($port), session => $session{$port}, alpn => 'h2',
		early => join '', PREFACE, as_frame(SETTINGS, 0, 0, ''), @frames);
	my $h2 = Test::ProxyConnect::HTTP2->over(Heard->new($flight));

	$h2->new_stream() for 1 .. 5;
	$flight->pass($flight->early());
	return ($flight, $h2);
}

# How often the upstream was asked, once another CONNECT that came later is through.
sub asked {
	my ($t) = @_;
	my $client = Test::ProxyConnect::HTTP2->new(port => port(8443));
	my $id = $client->tunnel('127.0.0.1:' . port(8082));
	$client->data($id, 'through', END_STREAM);
	$client->read_to_end($id);

	return scalar upstream_lines($t, qr/:@{[ port(8081) ]} accepted/);
}

# A file with a session, for which a server of nginx takes early data.
sub session {
	my ($t, $port) = @_;
	my $file = $t->testdir() . "/session.$port";

	# It is no preface.
	$t->write_file('request', 'x' x 100);
	run_program($t, ['openssl', 's_client', '-connect', "127.0.0.1:$port", '-tls1_3', '-ign_eof',
		'-alpn', 'h2', '-sess_out', $file], input => 'request');

	return $file;
}

# What a client of the flight gets, while all goes on.
package Heard;

sub new {
	my ($class, $flight) = @_;
	return bless { flight => $flight, input => '', patience => $flight->server()->{patience} }, $class;
}

sub send { return $_[0]{flight}->send($_[1]) }

sub more {
	my ($self, $deadline) = @_;
	my $program = $self->{flight}{program};

	while (1) {
		$self->{flight}->relay();
		$program->more(Time::HiRes::time() + 0.01);

		if ($program->{input} ne '') {
			$self->{input} .= substr $program->{input}, 0, length $program->{input}, '';
			return 1;
		}

		return 0 if Time::HiRes::time() > $deadline;
	}
}
