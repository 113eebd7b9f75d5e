#!/usr/bin/perl

# A client that goes away before the tunnel stands: the work for it stops at once and leaves
# nothing. One that has only finished what it has to say is still there.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Kernel;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/);
my $auth_request = $t->has_module('auth_request');

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
    worker_connections  1024;
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    resolver          127.0.0.1:%%PORT_8980_UDP%% ipv6=off;
    resolver_timeout  30s;

    log_format  ends  "$status $bytes_sent $request_time";

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        server_name  localhost;

        access_log  %%TESTDIR%%/ends.log ends;

        proxy_connect;
        proxy_connect_allow  all;
    }

    # a server that waits before the module's turn comes: auth_request
    server {
        listen       127.0.0.1:8084;
        listen       127.0.0.1:8444 ssl;
        server_name  localhost;

        access_log  %%TESTDIR%%/ends.log ends;

        proxy_connect;
        proxy_connect_allow  all;
        auth_request         /auth;

        location = /auth {
            proxy_pass                 http://127.0.0.1:8085;
            proxy_ignore_client_abort  on;
        }
    }
}

EOF

# What is not there when auth_request is not.
$conf =~ s/ *# a server that waits.*?^    \}\n//ms unless $auth_request;

$t->plan(111)->write_file_expand('nginx.conf', ipv4_only($t, with_tls($t, $conf)));

certificate($t, 'localhost');
name_server($t, 8980,
	'silent.example' => 'drop',
	map { ("slow$_.example" => { addrs => '127.0.0.1', delay => 0.5 }) } 1 .. 9,
);
$t->run();

my $worker = lone_worker($t);
my $listener = listener(port(8081));

# A name that nginx does not know yet: it remembers those that it has asked for.
my $number = 0;
sub slow_name { return 'slow' . ++$number . '.example:' . port(8081) }

my $queue = full_backlog(port(8082));

# nginx keeps its socket to the name server.
my ($client, $upstream) = pair($listener, authority => slow_name());
my $before = fds($worker) - 2;
$_->close() for $client, $upstream;
settled_fds($worker, $before);

my %way = (
	plain => {},
	TLS => { port => port(8443), tls => plain_tls() },
);

###############################################################################
# Gone

my %phase = (
	resolve => [ 'silent.example:443', "resolving the upstream's name" ],
	connect => [ '127.0.0.1:' . port(8082), 'connecting to upstream' ],
);

my %leave = (
	'closes' => sub { $_[0]->close() },
	'resets' => sub { $_[0]->reset() },
	'ends' => sub { $_[0]->half_close() },
);

SKIP: for my $name (qw/ plain TLS /) {
	skip NO_TLS, 32 if $name eq 'TLS' && !has_tls($t);

	for my $phase (sort keys %phase) {
		my ($authority, $action) = @{$phase{$phase}};
		my $upstream = $phase eq 'connect' ? ', so upstream connection is closed too' : '';

		for my $leave (sort keys %leave) {
			my $case = "$name, $phase: the client $leave";
			log_mark($t, $_) for 'error.log', 'ends.log', 'dns.log';

			my $client = knock($listener, %{$way{$name}}, authority => $authority);
			wait_until("$case: too early", sub { is_at_work($t, $worker, $phase) });
			$leave{$leave}->($client);

			is_logged($t, qr/^499 0 \d\.\d+$/,
				"$case: the access log");
			like(wait_for_line($t, qr/proxy_connect: client/),
				qr/\[info\] \S+ \*\d+ proxy_connect: client prematurely closed connection$upstream( \(104: [^)]+\))? while /,
				"$case: the log");

			# Of a stream nginx has a line, too.
			is_deeply([ grep { !/ client canceled stream / } log_lines($t, qr/ while \Q$action, client: 127.0.0.1, server: localhost, /) ],
				[ log_lines($t, qr/proxy_connect: client/) ], "$case: what the log says it did");
			is(settled_fds($worker, $before), $before, "$case: nothing is left open");
			is(held($worker, port(8082)), 0, "$case: nobody tries on");
			is($client->read_to_end(), '', "$case: no answer") if $leave eq 'ends';
		}
	}
}

# Whether nginx is in the midst of it.
sub is_at_work {
	my ($t, $worker, $phase) = @_;
	return $phase eq 'connect' ? held($worker, port(8082), 'connecting')
		: queries($t, qr/silent/);
}

# A reset behind bytes that nginx has not read, or has.
for my $early ('', 'in one piece') {
	my $case = 'a reset behind early bytes' . ($early && ", $early");
	log_mark($t, 'ends.log');
	$client = knock($listener, authority => $phase{connect}[0], early => $early);
	wait_until("$case: too early", sub { held($worker, port(8082), 'connecting') });
	$client->send('in a piece of their own') unless $early;
	$client->reset();
	is_logged($t, qr/^499 0 /, "$case: the access log");
	is(held($worker, port(8082)), 0, "$case: nobody tries on");
}

# The client leaves while another module waits: nobody is asked for the tunnel.
my $auth = listener(port(8085));

SKIP: for my $name (qw/ plain TLS /) {
	skip 'no auth_request', 18 unless $auth_request;
	skip NO_TLS, 9 if $name eq 'TLS' && !has_tls($t);

	my %way = (%{$way{$name}}, port => port($name eq 'TLS' ? 8444 : 8084));

	for my $leave (sort keys %leave) {
		my $case = "$name, auth_request: the client $leave";
		log_mark($t, $_) for 'error.log', 'ends.log';

		my $client = knock($listener, %way);
		my $question = accept_end($auth);
		$question->read_header();
		$leave{$leave}->($client);
		wait_for_line($t, qr/ client canceled stream /) if OVER_HTTP2;
		$question->send("HTTP/1.1 204 No Content\x0d\x0aConnection: close\x0d\x0a\x0d\x0a")->close();

		# nginx itself ends a request whose stream was reset, when its subrequest is done.
		is_logged($t, OVER_HTTP2 ? qr/^000 0 / : qr/^499 0 /, "$case: the access log");
		is(scalar(log_lines($t, qr/proxy_connect: client prematurely closed connection(?!, so)/)), OVER_HTTP2 ? 0 : 1,
			"$case: the log");
		is(unaccepted($listener), 0, "$case: nobody connects");
	}
}

# The answer of the name server comes when nobody waits for it any longer.
log_mark($t, $_) for 'ends.log', 'dns.log';
my $slow = slow_name();
$client = knock($listener, authority => $slow);
wait_until('No query', sub { queries($t, qr/slow/) });
$client->close();
is_logged($t, qr/^499 0 0\.[0-3]/,
	'gone before the answer of the name server');
($client, $upstream) = pair($listener, authority => $slow);
is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ],
	'another client of the same name');

# One of two that wait for the same name.
$slow = slow_name();
my @both = map { knock($listener, authority => $slow, early => 'early') } 1, 2;
(shift @both)->reset();
$upstream = accept_end($listener);
is($upstream->read_bytes(5), 'early', 'the other of two that wait for the same name');
like($both[0]->read_header(), qr/ 200 /, 'and its answer');
$_->close() for $client, $upstream, @both;

###############################################################################
# Not gone

SKIP: for my $name (qw/ plain TLS /) {
	skip NO_TLS, 10 if $name eq 'TLS' && !has_tls($t);

	for my $pieces ('one piece', 'two pieces') {
		my $case = "$name, $pieces";
		$client = knock($listener, %{$way{$name}}, authority => slow_name(),
			early => $pieces eq 'one piece' ? 'question' : '');
		$client->send('question') unless $pieces eq 'one piece';
		finish($client);

		cmp_ok(busy_share($worker, 0.2), '<', 0.5,
			"$case: an end of file does not keep nginx busy");
		$upstream = accept_end($listener);
		is(eval { $upstream->read_to_end() }, 'question',
			"$case: early bytes before an end of file");
		$upstream->send('answer');
		like($client->read_header(), qr/ 200 /, "$case: the tunnel stands");
		is($client->read_bytes(6), 'answer', "$case: the client is still there");
		$upstream->close();
		is($client->read_to_end(), '', "$case: nothing more comes");
		$client->close();
	}
}

is(settled_fds($worker, $before), $before, 'nothing is left open');

###############################################################################

# Says that no more will come.
sub finish {
	my ($end) = @_;
	$end->handle()->can('get_cipher') ? send_close_notify($end) : $end->half_close();
}

###############################################################################
