#!/usr/bin/perl

# A worker that is killed takes its own tunnels with it and no others.

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

use constant WORKERS => 2;

# As many tunnels as it takes to have some in each worker.
use constant TUNNELS => 40;

my $t = Test::Nginx->new()->has(qw/http http_ssl socket_ssl/)->todo_alerts();

$t->plan(10)->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;
worker_processes 2;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    server {
        # Each worker has a queue of its own, so that none gets all.
        listen       127.0.0.1:8080 reuseport;
        listen       127.0.0.1:8443 ssl reuseport;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        proxy_connect_response  "HTTP/1.1 200 OK\r\nX-Worker: $pid\r\n\r\n";
    }
}

EOF

certificate($t, 'localhost');
$t->run();

wait_until('nginx.pid stayed empty', sub { -s $t->testdir() . '/nginx.pid' });
my ($victim, $other) = wait_for_workers($t, WORKERS);
my $listener = listener(port(8081));
my %tunnels;

for my $number (1 .. TUNNELS) {
	my @tls = $number % 2 ? (port => port(8443), tls => plain_tls()) : ();
	my ($client, $upstream, $header) = pair($listener, @tls);
	push @{$tunnels{header_of($header, 'X-Worker')}}, [ $client, $upstream ];
}

is_deeply([ sort keys %tunnels ], [ sort $victim, $other ], 'both workers have tunnels');

###############################################################################

kill 'KILL', $victim;
wait_for_line($t, qr/\Q$victim\E exited on signal 9/);

is(scalar(grep { !ends(@$_) } @{$tunnels{$victim}}), 0, 'the tunnels of the killed worker end');
is(scalar(grep { !lives(@$_) } @{$tunnels{$other}}), 0, 'those of the other go on');

is_deeply([ cross(@{$tunnels{$other}[0]}, noise(2 ** 20), noise(2 ** 20)) ],
	[ noise(2 ** 20), noise(2 ** 20) ], 'with all they have to say');

my ($new) = grep { $_ != $other } wait_for_workers($t, WORKERS);
ok($new, 'a new worker');
isnt($new, $victim, 'which is another');

my %served;
for (1 .. TUNNELS) {
	my ($client, $upstream, $header) = pair($listener);
	$served{header_of($header, 'X-Worker')}++ if lives($client, $upstream);
	$_->close() for $client, $upstream;
}

is($served{$new} + $served{$other}, TUNNELS, 'new tunnels stand');
ok($served{$new}, 'the new worker has some of them');
is(scalar(grep { !lives(@$_) } @{$tunnels{$other}}), 0, 'the old ones still go on');

is_deeply([ grep { !/exited on signal 9/ } log_lines($t, qr/\[(alert|emerg|crit)\]/) ], [],
	'nothing else is wrong');

$_->close() for map { @$_ } map { @$_ } values %tunnels;

###############################################################################

sub ends {
	my ($client, $upstream) = @_;
	return eval { $client->ending() && $upstream->ending() };
}

sub lives {
	my ($client, $upstream) = @_;
	return eval { join ',', cross($client, $upstream, 'up', 'down') } eq 'up,down';
}

###############################################################################
