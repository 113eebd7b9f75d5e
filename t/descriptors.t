#!/usr/bin/perl

# Without a descriptor for a socket a CONNECT fails, or waits to be accepted; what stands goes on,
# and the worker serves again when there are some.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant MB => 2 ** 20;

plan(skip_all => 'no prlimit') unless eval { limit($$, 'nofile') };

# nginx tells of a socket that it doesn't get with an alert.
my $t = Test::Nginx->new()->has(qw/http/)->todo_alerts();

$t->plan(14)->write_file_expand('nginx.conf', ipv4_only($t, quietly($t, <<'EOC', 'info')));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
    worker_connections  1024;
}

http {
    %%TEST_GLOBALS_HTTP%%

    resolver  127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    log_format  ends  "$status $proxy_connect_close_reason";
    access_log  %%TESTDIR%%/ends.log ends;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
    }
}

EOC

name_server($t, 8980, 'many.example' => [ map { "127.0.0.$_" } 1 .. 9 ]);
$t->run();

my $worker = lone_worker($t);
my $listener = listener(port(8081));
my $request = connect_request('127.0.0.1:' . port(8081));

###############################################################################

# The name is known from now on: nobody needs to be asked for it.
my $many = connect_request('many.example:' . port(8081));
exchange($many =~ s/example:\d+/'example:' . port(8082)/er);

# The client has the last descriptor, and the upstream none.
my @standing = (pair($listener))[0, 1];
my $before = sockets($worker);
my $client = client();
is_deeply([ cross(@standing, 'up', 'down') ], [ 'up', 'down' ], 'a tunnel stands');

my $sockets = wait_until('The client was not accepted',
	sub { sockets($worker) > $before && sockets($worker) });
my $limit = limit($worker, 'nofile', lowest_free($worker));

log_mark($t);
$client->send($many);
my $answer = $client->read_to_end();

is(status_of($answer), 500, 'no descriptor: the client is told');
like(join("\n", log_lines($t, qr/socket\(\) failed/)), qr/\[alert\] .*socket\(\) failed \(24: /,
	'nginx tells the error log');

my @told = log_lines($t, qr/proxy_connect: /);
is(scalar @told, 1, 'the module tells it once, whatever other addresses there are')
	or diag(join "\n", @told);
like($told[0], qr/\[error\] .*proxy_connect: upstream connect failed \(peer:127\.0\.0\.[1-9]:\d+\), no descriptor is left, raise "worker_rlimit_nofile" or the system's limit \(24: .*\) while connecting to upstream, /,
	'and what to do');
is_logged($t, qr/^500 /, 'and the access log');
is_deeply([ cross(@standing, noise(4 * MB), noise(4 * MB)) ], [ noise(4 * MB), noise(4 * MB) ],
	'the tunnel that stands goes on');

# One that the worker can't even accept waits, and is served later.
my $holder = client();
wait_until('The descriptor was not taken', sub { sockets($worker) == $sockets });
my $waiting = client();
$waiting->send($request);
ok($waiting->is_quiet(0.3), 'no descriptor for a client: it waits') or diag($waiting->{input});

limit($worker, 'nofile', $limit);
like(eval { $waiting->read_header() } // '', qr/ 200 /, 'until there are descriptors again');
is_deeply([ cross($waiting, accept_end($listener), 'up', 'down') ], [ 'up', 'down' ],
	'and is served');
is_deeply([ cross((pair($listener))[0, 1], 'up', 'down') ], [ 'up', 'down' ], 'so are others');

is(lone_worker($t), $worker, 'it is the worker that it was');
is_deeply([ cross(@standing, 'up', 'down') ], [ 'up', 'down' ], 'with its tunnel');
is_deeply([ grep { !/\(24: / } log_lines($t, qr/\[(alert|emerg|crit)\]/) ], [],
	'nothing else is wrong');

###############################################################################

# The number that the next descriptor of a process will have.
sub lowest_free {
	my ($pid) = @_;
	my %used = map { m!(\d+)$! ? ($1 => 1) : () } glob "/proc/$pid/fd/*";
	my $number = 0;
	$number++ while $used{$number};
	return $number;
}
