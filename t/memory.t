#!/usr/bin/perl

# Without memory requests fail and tunnels end, but the worker lives, and serves again when there is
# some.

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

# As many as don't find room in what the worker has already.
use constant TUNNELS => 300;

plan(skip_all => 'no prlimit')
	unless eval { limit($$, 'as') };
plan(skip_all => 'what watches nginx takes memory of its own') if SLOWNESS > 1;

# nginx tells of malloc() that failed with an [emerg], which is no alert.
my $t = Test::Nginx->new()->has(qw/http/);

$t->plan(6)->write_file_expand('nginx.conf', quietly($t, <<'EOC', 'info'));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
    worker_connections  2048;
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  ends  "$status $proxy_connect_close_reason";
    access_log  %%TESTDIR%%/ends.log ends;

    server {
        listen       127.0.0.1:8080 backlog=1024;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_splice  off;
    }
}

EOC

$t->run();

my $worker = lone_worker($t);
my $listener = listener(port(8081));
my @standing = map { [ (pair($listener))[0, 1] ] } 1 .. 20;
my $request = connect_request('127.0.0.1:' . port(8081));

# Half of them are known to nginx before; they need memory for what follows the request.
my @begun = map { client() } 1 .. TUNNELS / 2;
$_->send(substr $request, 0, 12) for @begun;
my $accepted = 2 * @standing + @begun;
wait_until('They are not accepted', sub { sockets($worker) > $accepted });
is_deeply([ cross(@{$standing[0]}, 'up', 'down') ], [ 'up', 'down' ], 'they are read');

my $limit = limit($worker, 'as', size_of($worker));

# What stands and is not read needs memory of its own now.
fill_now($_->[1]) for @standing;
$_->send(substr $request, 12) for @begun;
my @clients = (@begun, map { knock($listener) } 1 .. TUNNELS / 2);

my %answers;
$answers{answer($_)}++ for @clients;
note(join ', ', map { "$answers{$_} times $_" } sort keys %answers);
my @failed = log_lines($t, qr/\(12: /);
note(scalar(grep { /"CONNECT / } @failed) . ' of them in a CONNECT');
note(scalar(@failed) . ' lines tell of no memory, such as ' . ($failed[0] // 'none'));

cmp_ok(scalar @failed, '>', 0, 'there is too little memory');
is(scalar(log_lines($t, qr/exited on signal/)), 0, 'no worker dies of it');

limit($worker, 'as', $limit);
$_->close() for @clients, map { @$_ } @standing;
ok(eval {
	my $client = client();
	$client->send(connect_request('127.0.0.1:' . port(8081), 'X-Last: 1'));
	like($client->read_header(), qr/ 200 /, 'memory again: a tunnel');
	$client->close();
	1;
}, 'it is served') or diag($@);
is((worker_pids($t))[0], $worker, 'by the worker that it was');

###############################################################################

# The status that a client gets, or how its connection ends.
sub answer {
	my ($client) = @_;
	my $header = eval { $client->read_header() };
	return status_of($header) || 'nothing' if defined $header;
	return $client->{ending} // 'no end';
}
