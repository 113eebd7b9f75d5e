#!/usr/bin/perl

# What the access log tells of tunnels: status, bytes, times and the rest, true in each of the ways
# that a tunnel can end; and when a line is written.

use warnings;
use strict;

use Test::More;
use Time::HiRes qw/ sleep time /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# How much longer than it should anything may take on a machine that has other things to do.
use constant LATE => 1 * SLOWNESS;

my $t = Test::Nginx->new()->has(qw/http/);

$t->plan(90)->write_file_expand('nginx.conf', ipv4_only($t, with_tls($t, <<'EOF')));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    resolver          127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    log_format  all  "status=$status bytes_sent=$bytes_sent body_bytes_sent=$body_bytes_sent "
                     "request_length=$request_length request_time=$request_time "
                     "request_completion=$request_completion "
                     "connection_requests=$connection_requests "
                     "request_method=$request_method request_uri=$request_uri uri=$uri "
                     "server_protocol=$server_protocol http_host=$http_host host=$host "
                     "connect_addr=$connect_addr "
                     "resolve_time=$proxy_connect_resolve_time "
                     "connect_time=$proxy_connect_connect_time "
                     "first_byte_time=$proxy_connect_first_byte_time";
    access_log  %%TESTDIR%%/all.log all;

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow            all;
        proxy_connect_connect_timeout  300ms;

        location / {
            root   %%TESTDIR%%;
            index  here;
        }
    }

    server {
        listen       127.0.0.1:8081;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow         all;
        proxy_connect_data_timeout  300ms;
        proxy_connect_response      "HTTP/1.1 299 Fine\r\nX-Long: and a long header\r\n\r\n";
    }
}

EOF

certificate($t, 'localhost');
name_server($t, 8980, 'slow.example' => { addrs => '127.0.0.1', delay => 0.3 });
$t->write_file('here', 'here');
$t->run();

my $listener = listener(port(8090));
my $authority = '127.0.0.1:' . port(8090);
my $queue = full_backlog(port(8091));

my ($client, $upstream, $header, $line, $begin);

###############################################################################
# A tunnel that ends as it should

SKIP: for my $way ([ 'plain' ], [ 'TLS', port => port(8443), tls => plain_tls() ]) {
	my ($name, %options) = @$way;
	skip NO_TLS, 19 if $options{tls} && !has_tls($t);
	log_mark($t, 'all.log');

	($client, $upstream, $header) = pair($listener, %options, early => 'early');
	$client->send(noise(1000));
	$upstream->read_bytes(1005);
	sleep 0.3;
	$upstream->send(noise(123456));
	$client->read_bytes(123456);
	is_deeply([ log_lines($t, qr/^/, 'all.log') ], [], "$name: no line while the tunnel stands");

	sleep 0.2;
	$_->half_close() for $upstream, $client;
	$line = line($t);

	is($line->{status}, 200, "$name: status");
	is($line->{bytes_sent}, length($header) + 123456, "$name: bytes_sent");
	is($line->{body_bytes_sent}, $line->{bytes_sent}, "$name: body_bytes_sent");
	is($line->{request_length}, length connect_request($authority), "$name: request_length");
	is_about($line->{request_time}, 0.5, "$name: request_time");
	is($line->{request_completion}, 'OK', "$name: request_completion");
	is($line->{connection_requests}, 1, "$name: connection_requests");
	is($line->{request_method}, 'CONNECT', "$name: request_method");
	is($line->{request_uri}, '', "$name: request_uri");
	is($line->{uri}, '', "$name: uri");
	is($line->{server_protocol}, 'HTTP/1.1', "$name: server_protocol");
	is($line->{http_host}, $authority, "$name: http_host");
	is($line->{host}, '127.0.0.1', "$name: host");
	is($line->{connect_addr}, $authority, "$name: connect_addr");
	is($line->{resolve_time}, '0.000', "$name: resolve_time");
	is_about($line->{connect_time}, 0, "$name: connect_time");
	is_about($line->{first_byte_time}, 0.3, "$name: first_byte_time");
	is(length +($line->{first_byte_time} =~ /\.(\d+)$/)[0], 3, "$name: in milliseconds");
}

# Behind another request, whose numbers are its own.
log_mark($t, 'all.log');
$client = client();
$client->send("GET / HTTP/1.1\x0d\x0aHost: localhost\x0d\x0a\x0d\x0a");
$client->read_header();
$client->read_bytes(4);
sleep 0.3;
$client->send(connect_request($authority));
$upstream = accept_end($listener);
$upstream->send('12345');
$client->read_header();
$client->read_bytes(5);
$_->close() for $client, $upstream;

$line = (lines($t, 2))[1];
is($line->{connection_requests}, 2, 'after another request: connection_requests');
is($line->{bytes_sent}, length($header) + 5, 'after another request: bytes_sent');
is_about($line->{request_time}, 0, 'after another request: request_time');

# With an answer of its own.
log_mark($t, 'all.log');
($client, $upstream) = eval { pair($listener, port => port(8081)) };
$client = knock($listener, port => port(8081));
$upstream = accept_end($listener);
$header = $client->read_header();
$_->close() for $client, $upstream;
$line = (lines($t, 2))[1];
is($line->{status}, 299, 'another answer: status');
is($line->{bytes_sent}, length $header, 'another answer: bytes_sent');
is($line->{body_bytes_sent}, length $header, 'another answer: body_bytes_sent');
is($line->{first_byte_time}, '-', 'an upstream that says nothing: first_byte_time');
is($line->{request_completion}, 'OK', 'an upstream that says nothing: request_completion');

# With a name.
log_mark($t, 'all.log');
($client, $upstream) = pair($listener, authority => 'SLOW.example:' . port(8090));
$_->close() for $client, $upstream;
$line = line($t);
is_about($line->{resolve_time}, 0.3, 'a name: resolve_time');
is_about($line->{connect_time}, 0, 'a name: connect_time');
is_about($line->{request_time}, 0.3, 'a name: request_time');
is($line->{request_uri}, '', 'a name: request_uri');
is($line->{host}, 'slow.example', 'a name: host');
is($line->{connect_addr}, $authority, 'a name: connect_addr');

###############################################################################
# Tunnels that end otherwise

my %end;
for my $side (qw/ client upstream /) {
	log_mark($t, 'all.log');
	@end{qw/ client upstream header /} = pair($listener);
	$end{upstream}->send('12345');
	$end{client}->read_bytes(5);
	$end{$side}->reset();

	$line = line($t);
	is($line->{status}, 200, "the $side resets: status");
	is($line->{bytes_sent}, length($end{header}) + 5, "the $side resets: bytes_sent");
	is($line->{request_completion}, '', "the $side resets: request_completion");
}

log_mark($t, 'all.log');
$client = knock($listener, port => port(8081));
$upstream = accept_end($listener);
$upstream->send('12345');
$header = $client->read_header();
$client->read_to_end();
$line = line($t);
is($line->{status}, 299, 'a timeout: status');
is($line->{bytes_sent}, length($header) + 5, 'a timeout: bytes_sent');
is($line->{request_completion}, '', 'a timeout: request_completion');
is_about($line->{request_time}, 0.3, 'a timeout: request_time');

# What nginx could not get rid of was not sent.
log_mark($t, 'all.log');
($client, $upstream, $header) = pair($listener);
$client->shrink_buffers(65536);
my $sent = fill($upstream, noise(64 * 2 ** 20));
$client->reset();
$line = line($t);
cmp_ok($line->{bytes_sent}, '>=', 65536, 'a client that does not read: bytes_sent');
cmp_ok($line->{bytes_sent}, '<', length($header) + $sent, 'a client that does not read: not all');

###############################################################################
# No tunnels

my %refused = (
	'no connection in time' => [ '127.0.0.1:' . port(8091), 504, '0.000', '-' ],
	'connection refused' => [ '127.0.0.1:' . port(8092), 502, '0.000', '-' ],
	'no such name' => [ 'nowhere.example:443', 502, '-', '-' ],
);

for my $case (sort keys %refused) {
	my ($authority, $status, $resolve_time, $connect_time) = @{$refused{$case}};
	log_mark($t, 'all.log');

	my $answer = exchange(connect_request($authority));
	is(status_of($answer), $status, "$case: the answer");
	$line = line($t);
	is($line->{status}, $status, "$case: status");
	is($line->{bytes_sent}, length $answer, "$case: bytes_sent");
	is($line->{body_bytes_sent}, length body_of($answer), "$case: body_bytes_sent");
	is($line->{resolve_time}, $resolve_time, "$case: resolve_time");
	is($line->{connect_time}, $connect_time, "$case: connect_time");
	is($line->{first_byte_time}, '-', "$case: first_byte_time");
	is_about($line->{request_time}, $status == 504 ? 0.3 : 0, "$case: request_time");
}

# Another method in the same server.
log_mark($t, 'all.log');
http_get('/');
$line = line($t);
is($line->{request_method} . $line->{status}, 'GET200', 'another method');
is(join(',', @$line{qw/ connect_addr resolve_time connect_time first_byte_time /}), '-,,,',
	'another method: nothing of tunnels');

###############################################################################

# Lines of the log, each as a hash.
sub lines {
	my ($t, $count) = @_;
	return map { { map { (split /=/, $_, 2)[0, 1] } split / (?=[a-z_]+=)/ } }
		access_lines($t, $count, 'all.log');
}

sub line { return (lines($_[0], 1))[0] }

# A time that can only be longer than it should, and not by much.
sub is_about {
	my ($time, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($time =~ /^\d+\.\d{3}$/ && $time > $expected - 0.02 && $time < $expected + LATE, $name)
		or diag("\"$time\" in place of $expected");
}

###############################################################################
