#!/usr/bin/perl

# Nothing is told to a client before the upstream is connected. A name has an address that is refused
# when an event says so, one that fails at once, and one that shows nothing: where nginx hands out one
# connection three times within that event, what is left of it looks like one of the last.

use warnings;
use strict;

use Test::More;
use Time::HiRes qw/ time /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# How often each name is asked for: nginx's resolver begins with any of the addresses.
use constant TIMES => 15;

# How many ask at the same time.
use constant CROWD => 40;

# The connect timeout, in seconds, and how late anything may be.
use constant TIMEOUT => 0.3;
use constant LATE => 2 * SLOWNESS;

# All of these are on this machine. The last is a broadcast address: the system refuses to connect to
# it without asking anybody.
use constant {
	REFUSED => '127.0.0.2',
	SILENT => '127.0.0.3',
	WORKING => '127.0.0.4',
	AT_ONCE => '127.255.255.255',
};

my $t = Test::Nginx->new()->has(qw/http/);

my $conf = ipv4_only($t, quietly($t, <<'EOF', 'info'));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
    worker_connections  1024;
    use                 %%METHOD%%;
}

http {
    %%TEST_GLOBALS_HTTP%%

    resolver  127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    log_format  ends  "$connect_host $status $connect_addr";
    access_log  %%TESTDIR%%/ends.log ends;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow            all;
        proxy_connect_connect_timeout  300ms;
    }

    server {
        listen       127.0.0.1:8081;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow            all;
        proxy_connect_connect_timeout  20s;
    }
}

EOF

my @methods = qw/ epoll poll select /;

$t->plan(@methods * 9);

my $port = port(8087);
my $queue = full_backlog(SILENT . ":$port");
my $listener = listener(WORKING . ":$port");

name_server($t, 8980,
	'silent.example' => [ REFUSED, AT_ONCE, SILENT ],
	'works.example' => [ REFUSED, AT_ONCE, SILENT, WORKING ],
	'fails.example' => [ REFUSED, AT_ONCE ],
);

for my $method (@methods) {
	SKIP: {
		skip "no $method in this nginx", 9 unless starts($t, $conf, $method);
		tests_of($t, $method);
		$t->stop();
	}
}

###############################################################################

# Whether nginx knows the method. epoll is not named by what configured it.
sub starts {
	my ($t, $conf, $method) = @_;

	return 0 unless $method eq 'epoll' || $t->has_module("${method}_module");

	$t->write_file_expand('nginx.conf', $conf =~ s/%%METHOD%%/$method/r);
	$t->run();
	return 1;
}

sub tests_of {
	my ($t, $method) = @_;
	log_mark($t, $_) for 'error.log', 'ends.log';

	# One after the other, so that nginx has one connection to hand out.
	my $begin = time();
	is_deeply([ map { status_of(ask("silent.example:$port")) } 1 .. TIMES ], [ (504) x TIMES ],
		"$method: nobody is told of a tunnel");
	cmp_ok(time() - $begin, '>', TIMES * (TIMEOUT - 0.05), "$method: the connect timeout holds");
	is(scalar(eval { wait_for_lines($t, TIMES, qr/^silent\.example 504 /, 'ends.log') }), TIMES,
		"$method: the access log");
	is(scalar log_lines($t, qr/upstream connect timed out \(peer:${\ SILENT}:$port\)/), TIMES,
		"$method: the error log has the one that shows nothing");

	# All at the same time.
	$begin = time();
	my @clients = map { knock(undef, authority => "silent.example:$port") } 1 .. CROWD;
	is_deeply([ map { status_of($_->read_header()) } @clients ], [ (504) x CROWD ],
		"$method, a crowd: nobody is told of a tunnel");
	cmp_ok(time() - $begin, '<', TIMEOUT + LATE, "$method, a crowd: the connect timeout holds");

	# The one that works is reached, wherever it stands.
	is_deeply([ map { reached("works.example:$port") } 1 .. TIMES ], [ ('200 up down') x TIMES ],
		"$method: the address that works is reached");

	is_deeply([ map { status_of(ask("fails.example:$port")) } 1 .. TIMES ], [ (502) x TIMES ],
		"$method: where all fail the client is told so");
	is(unaccepted($listener), 0, "$method: nobody else connected");
}

# The header of what a CONNECT gets.
sub ask {
	my ($authority) = @_;
	my $client = knock(undef, authority => $authority);
	my $answer = eval { $client->read_header() } // '';
	$client->close();
	return $answer;
}

# The status, and what goes through the tunnel to the upstream and back.
sub reached {
	my ($authority) = @_;
	my $client = knock(undef, authority => $authority, port => port(8081));
	my $status = status_of(eval { $client->read_header() });

	return $status unless $status eq 200;

	my $upstream = eval { accept_end($listener, 2) } // return "$status, and no upstream";
	my @got = cross($client, $upstream, 'up', 'down');
	$_->close() for $client, $upstream;
	return "$status @got";
}

###############################################################################
