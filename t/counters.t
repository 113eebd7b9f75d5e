#!/usr/bin/perl

# What the log tells of a tunnel that is over: what it moved, for how long it stood, and why it was
# closed.

use warnings;
use strict;

use Test::More;
use Time::HiRes qw/ sleep /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant MB => 2 ** 20;

my $t = Test::Nginx->new()->has(qw/http http_ssl socket_ssl rewrite access/);

$t->plan(32)->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;
worker_shutdown_timeout 100ms;

events {
    worker_connections  1024;
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    log_format  ends  "$request_method $status sent=$proxy_connect_bytes_sent "
                      "received=$proxy_connect_bytes_received "
                      "reason=$proxy_connect_close_reason duration=$proxy_connect_duration "
                      "client=$bytes_sent";
    access_log  %%TESTDIR%%/ends.log ends;

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        location / {
            return 200 "here";
        }
    }

    server {
        listen       127.0.0.1:8085;
        listen       127.0.0.1:8445 ssl;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_data_timeout  400ms;
    }

    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_splice  on;
    }

    server {
        listen       127.0.0.1:8083;
        server_name  localhost;

        proxy_connect;
        deny  all;
    }
}

EOF

certificate($t, 'localhost');
$t->run();

my $listener = listener(port(8081));
my ($client, $upstream, $header);

###############################################################################
# Why

for my $way ([ 'plain' ], [ 'TLS', port => port(8443), tls => plain_tls() ],
	[ 'splice', port => port(8082) ])
{
	my ($name, %options) = @$way;
	my %end;

	for my $side (qw/ client upstream /) {
		for my $how (qw/ eof reset /) {
			log_mark($t, 'ends.log');
			@end{qw/ client upstream /} = pair($listener, %options);
			my $other = $side eq 'client' ? 'upstream' : 'client';

			$end{client}->send('seven__');
			$end{upstream}->read_bytes(7);
			$end{upstream}->send('eleven_____');
			$end{client}->read_bytes(11);

			$how eq 'reset' ? $end{$side}->reset() : $end{$side}->close();
			$end{$other}->read_to_end();
			$end{$other}->close();

			# A side that closed is sent nothing more, so its end is an end of file.
			is_logged($t, qr/^CONNECT 200 sent=7 received=11 reason=${side}_$how duration=\d+\.\d{3} /,
				"$name: the $side ends with $how");
		}
	}
}

for my $way ([ 'plain', port => port(8085) ], [ 'TLS', port => port(8445), tls => plain_tls() ]) {
	my ($name, %options) = @$way;

	log_mark($t, 'ends.log');
	($client, $upstream) = pair($listener, %options);
	is($upstream->read_to_end(), '', "$name: nothing is said");
	is_logged($t, qr/^CONNECT 200 sent=0 received=0 reason=timeout duration=0\.[45]\d\d /,
		"$name: timeout");
	$_->close() for $client, $upstream;
}

###############################################################################
# How much

my ($much, $more, $most) = map { noise($_ * MB) } 3, 5, 64;

for my $way ([ 'plain' ], [ 'TLS', port => port(8443), tls => plain_tls() ],
	[ 'splice', port => port(8082) ])
{
	my ($name, %options) = @$way;

	log_mark($t, 'ends.log');
	($client, $upstream, $header) = pair($listener, %options, early => 'early');
	$upstream->read_bytes(5);
	my ($up, $down) = cross($client, $upstream, $much, $more);

	sleep 0.05;
	$client->close();
	$upstream->read_to_end();
	$upstream->close();

	# Comparing takes its time, and the data timeout is short.
	same($up, $much, "$name: what the upstream got");
	same($down, $more, "$name: what the client got");

	my ($sent, $received, $all) = (3 * MB + 5, 5 * MB, 5 * MB + length $header);
	is_logged($t, qr/^CONNECT 200 sent=$sent received=$received reason=client_eof duration=(?!0\.0[0-4])\S+ client=$all$/,
		"$name: much");
}

# What the upstream sent and the client never took was received all the same.
log_mark($t, 'ends.log');
($client, $upstream, $header) = pair($listener, port => port(8082));
my $taken = fill($upstream, $most);
$client->reset();
$upstream->read_to_end();
$upstream->close();

my $line = wait_for_line($t, qr/^CONNECT 200/, 'ends.log');
my ($received, $reached) = $line =~ /received=(\d+).*client=(\d+)/;
like($line, qr/ sent=0 received=\d+ reason=client_reset /, 'a client that takes nothing: why');
cmp_ok($received, '>', $reached - length $header, 'and what it did not take');

###############################################################################
# Where there is no tunnel

log_mark($t, 'ends.log');
exchange(connect_request('127.0.0.1:' . port(8089)));
is_logged($t, qr/^CONNECT 502 sent=0 received=0 reason=- duration=- /, 'no upstream');

log_mark($t, 'ends.log');
exchange(connect_request('127.0.0.1:0'));
is_logged($t, qr/^\S+ 400 sent=0 received=0 reason=- duration=- /, 'no authority');

log_mark($t, 'ends.log');
exchange(connect_request('127.0.0.1:443'), port => port(8083));
is_logged($t, qr/^CONNECT 403 sent=0 received=0 reason=- duration=- /, 'denied');

log_mark($t, 'ends.log');
http_get('/');
is_logged($t, qr/^GET 200 sent= received= reason= duration= /, 'no CONNECT');

###############################################################################
# A worker that shuts down

log_mark($t, 'ends.log');
($client, $upstream) = pair($listener, port => port(8082));
$client->send('seven__');
$upstream->read_bytes(7);

kill 'QUIT', worker_pid($t);
$client->read_to_end();
is_logged($t, qr/^CONNECT 200 sent=7 received=0 reason=shutdown duration=\d/, 'shutdown');
$_->close() for $client, $upstream;

###############################################################################
