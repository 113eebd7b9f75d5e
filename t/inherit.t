#!/usr/bin/perl

# What stands in http and holds for all servers: each directive that may stand there, where a server
# says nothing, where it has its own, and where it takes it back.

use warnings;
use strict;

use Test::More;
use Time::HiRes qw/ time /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Hello;
use Test::ProxyConnect::Parent;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant LATE => 1.5 * SLOWNESS;

my $linux = $^O eq 'linux';

my $t = Test::Nginx->new()->has(qw/http rewrite/)->plan($linux ? 41 : 39);

my $conf = <<'EOF';
%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  ends  "$server_name $status $proxy_connect_connect_timeout "
                      "$proxy_connect_data_timeout $proxy_connect_read_timeout "
                      "$proxy_connect_send_timeout $proxy_connect_close_reason "
                      "sni=$proxy_connect_sni";
    access_log  %%TESTDIR%%/ends.log ends;

    server {
        listen       127.0.0.1:8080;
        server_name  before;

        proxy_connect;
        proxy_connect_allow  all;
    }

    proxy_connect_connect_timeout  500ms;
    proxy_connect_read_timeout     600ms;
    proxy_connect_send_timeout     7s;
    proxy_connect_address          $http_to;
    proxy_connect_bind             127.0.0.2;
    proxy_connect_response         "HTTP/1.1 200 Http\r\nX-Host: $connect_host\r\n\r\n";
    proxy_connect_splice           SPLICE;
    proxy_connect_send_lowat       1k;
    proxy_connect_verify_sni       on;
    proxy_connect_preread_timeout  300ms;
    proxy_connect_ssl_preread      on;

    proxy_connect_pass_user             user http;
    proxy_connect_pass_buffer_size      256;
    proxy_connect_set_header            X-Of http;
    proxy_connect_set_header            X-More http;
    proxy_connect_next_upstream         off;
    proxy_connect_next_upstream_tries   1;

    upstream parents {
        server  127.0.0.1:%%PORT_8093%%  max_fails=0;
        server  127.0.0.1:%%PORT_8094%%;
    }

    # behind the directives, or before them: a server gets them
    server {
        listen       127.0.0.1:8082;
        server_name  behind;

        proxy_connect;
        proxy_connect_allow  all;
    }

    server {
        listen       127.0.0.1:8083;
        server_name  own;

        proxy_connect;
        proxy_connect_allow            all;
        proxy_connect_connect_timeout  900ms;
        proxy_connect_data_timeout     30s;
        proxy_connect_send_timeout     8s;
        proxy_connect_address          127.0.0.1:%%PORT_8090%%;
        proxy_connect_bind             127.0.0.3;
        proxy_connect_response         "HTTP/1.1 200 Own\r\n\r\n";
        proxy_connect_splice           off;
        proxy_connect_send_lowat       0;
        proxy_connect_verify_sni       off;
        proxy_connect_preread_timeout  100ms;
    }

    server {
        listen       127.0.0.1:8084;
        server_name  none;

        proxy_connect;
        proxy_connect_allow     all;
        proxy_connect_address   off;
        proxy_connect_bind      off;
        proxy_connect_response  "";

        proxy_connect_verify_sni   off;
        proxy_connect_ssl_preread  off;
    }

    server {
        listen       127.0.0.1:8086;
        server_name  parent-behind;

        proxy_connect;
        proxy_connect_pass       127.0.0.1:%%PORT_8094%%;
        proxy_connect_verify_sni off;
    }

    server {
        listen       127.0.0.1:8087;
        server_name  parent-own;

        proxy_connect;
        proxy_connect_pass                 parents;
        proxy_connect_pass_user            user own;
        proxy_connect_pass_buffer_size     8k;
        proxy_connect_set_header           X-Of own;
        proxy_connect_next_upstream        error;
        proxy_connect_next_upstream_tries  2;
    }

    server {
        listen       127.0.0.1:8088;
        server_name  parent-none;

        proxy_connect;
        proxy_connect_pass       127.0.0.1:%%PORT_8094%%;
        proxy_connect_pass_user  off;
    }

    # what opens a proxy is not for all
    server {
        listen       127.0.0.1:8085;
        server_name  ports;

        proxy_connect;
    }

    server {
        listen       127.0.0.1:8085;
        server_name  closed;

        location / {
            return 200 "here";
        }
    }
}

EOF

my $splice = $linux ? 'on' : 'off';
$t->write_file_expand('nginx.conf', $conf =~ s/SPLICE/$splice/r);

upstream($t, answers($t, 'HTTP/1.1 200 OK' . "\x0d\x0aX: " . 'x' x 300 . "\x0d\x0a\x0d\x0a"), port(8094));

# The send timeout has its warning, and where there is no low-water mark that has one, too.
run_quietly($t);

my $worker = lone_worker($t);
my $listener = listener(port(8090));
my $to = 'To: 127.0.0.1:' . port(8090);

my ($client, $upstream, $header, $begin);

###############################################################################
# One with its own

log_mark($t, 'ends.log');
my $pipes = pipes($worker);
($client, $upstream, $header) = pair($listener, port => port(8083), authority => 'some.example:1',
	fields => [ 'To: 127.0.0.1:' . port(8092) ]);
is($header, "HTTP/1.1 200 Own\x0d\x0a\x0d\x0a", 'own: the response');
like($upstream->peer(), qr/^127\.0\.0\.3:/, 'own: the local address');
ok($client->is_quiet(1), 'own: the data timeout');

is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ], 'own: the tunnel');

is(pipes($worker), $pipes, 'own: no pipe') if $linux;
$_->close() for $client, $upstream;
is_logged($t, qr/^own 200 900 30000 30000 8000 /, 'own: the variables');

###############################################################################
# A server without its own

for my $server ([ 'before', port(8080) ], [ 'behind', port(8082) ]) {
	my ($name, $port) = @$server;

	log_mark($t, 'ends.log');
	($client, $upstream, $header) = pair($listener, port => $port, authority => 'some.example:1',
		fields => [ $to ]);
	is($header, "HTTP/1.1 200 Http\x0d\x0aX-Host: some.example\x0d\x0a\x0d\x0a", "$name: the response");
	like($upstream->peer(), qr/^127\.0\.0\.2:/, "$name: the local address");

	is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ], "$name: the tunnel");

	$begin = time();
	is($client->read_to_end() . $upstream->read_to_end(), '', "$name: nothing more is said");
	ok(between(0.6, time() - $begin), "$name: the data timeout");
	is_logged($t, qr/^$name 200 500 600 600 7000 timeout sni=-$/, "$name: the variables");
	$_->close() for $client, $upstream;
}

my $queue = full_backlog(port(8091));

$begin = time();
is(status_of(exchange(connect_request('some.example:1', 'To: 127.0.0.1:' . port(8091)))), '504',
	'no connection');
ok(between(0.5, time() - $begin), 'the connect timeout');

cmp_ok(pipes($worker), '>', $pipes, 'pipes') if $linux;

# An empty value leads to the CONNECT's own host, as in a server.
($client, $upstream) = pair($listener);
like($upstream->peer(), qr/^127\.0\.0\.2:/, 'an address that turns out empty');
$_->close() for $client, $upstream;

###############################################################################
# One that takes it back

log_mark($t, 'ends.log');
($client, $upstream, $header) = pair($listener, port => port(8084),
	fields => [ 'To: 127.0.0.1:' . port(8092) ]);
is($header, "HTTP/1.1 200 Connection Established\x0d\x0aProxy-agent: nginx\x0d\x0a\x0d\x0a",
	'taken back: the response');
like($upstream->peer(), qr/^127\.0\.0\.1:/, 'taken back: the local address');
$_->close() for $client, $upstream;
is_logged($t, qr/^none 200 500 600 600 7000 /, 'taken back: the rest holds');

###############################################################################
# What a client says first: a server that checks it, one that reads it for the log, and one that does neither

for my $server ([ 'behind', port(8082), 0, 'a.example', 'sni_mismatch' ], [ 'own', port(8083), 1, 'a.example', '\S+' ],
	[ 'none', port(8084), 1, '-', '\S+' ])
{
	my ($name, $port, $passes, $sni, $reason) = @$server;
	my $hello = hello(name => 'a.example');

	log_mark($t, 'ends.log');
	($client, $upstream) = pair($listener, port => $port, fields => [ $to ],
		$name eq 'none' ? () : (authority => 'some.example:1'));
	$client->send($hello);
	is(eval { $upstream->read_bytes(length $hello) } // '', $passes ? $hello : '', "$name: what a client says first");
	$_->close() for $client, $upstream;
	is_logged($t, qr/^$name 200 .* ${\ ($reason \/\/ '\S+')} sni=\Q$sni\E$/, "$name: is told");
}

for my $server ([ 'behind', port(8082), '' ], [ 'own', port(8083), "\x16" ]) {
	my ($name, $port, $got) = @$server;
	($client, $upstream) = pair($listener, port => $port, authority => 'some.example:1', fields => [ $to ]);
	$client->send("\x16");
	is($got ? $upstream->read_bytes(1) : $upstream->read_to_end(), $got, "$name: the time that it has");
	$_->close() for $client, $upstream;
}

###############################################################################
# What a parent is told

for my $server ([ 'behind', port(8086), '502 Basic dXNlcjpodHRw|X-Of: http|X-More: http||' ],
	[ 'own', port(8087), '200 Basic dXNlcjpvd24=|X-Of: own||' ], [ 'own, again', port(8087), '200 Basic dXNlcjpvd24=|X-Of: own||' ])
{
	my ($name, $port, $told) = @$server;
	my $status = status_of(client(port => $port)->send(connect_request('some.example:443'))->read_header());
	my ($asked) = (asked($t, port(8094)))[-1] =~ /Proxy-Authorization: (.*)/;
	is("$status $asked", $told, "$name: a parent");
}

client(port => port(8088))->send(connect_request('some.example:443'))->read_to_end();
is((asked($t, port(8094)))[-1], 'CONNECT some.example:443 HTTP/1.1|Host: some.example:443|X-Of: http|X-More: http||',
	'none: a parent is told of no user');
ok(log_lines($t, qr/sent too large an answer, raise "proxy_connect_pass_buffer_size"/), 'the size of its answer');

###############################################################################
# What is not for all

is(status_of(exchange(connect_request('ports:444'), port => port(8085))), '403',
	'the ports are those of the server');
is(status_of(exchange(connect_request('closed:443'), port => port(8085))), '405',
	'and so is whether it takes CONNECT');
is(body_of(exchange("GET / HTTP/1.0\x0d\x0aHost: closed\x0d\x0a\x0d\x0a", port => port(8085))), 'here',
	'GET there');

###############################################################################

sub between {
	my ($least, $value) = @_;
	return $value > $least - 0.05 && $value < $least + LATE || !diag("$value s in place of $least s");
}

###############################################################################
