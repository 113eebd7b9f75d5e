#!/usr/bin/perl

# A tunnel that holds a reset back until what was said before it is acknowledged asks less and less
# often, up to the data timeout: each question costs, and there may be thousands of such tunnels.

use warnings;
use strict;

use List::Util qw/ min /;
use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Kernel;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant MB => 2 ** 20;

# The data timeout, and after how long nginx asks each time but the first, in milliseconds.
use constant TIMEOUT => 6000;
my @intervals = (100, 200, 400, 800, 1600, 2000);

my $t = Test::Nginx->new()->has(qw/http/);

plan(skip_all => 'only an nginx --with-debug tells of its timers')
	unless $t->has_module('--with-debug');

$t->plan(8)->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  ends  "$status $proxy_connect_close_reason $proxy_connect_duration";
    access_log  %%TESTDIR%%/ends.log ends;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow         all;
        proxy_connect_data_timeout  6s;
    }
}

EOF

$t->run();

my $worker = lone_worker($t);
my $listener = listener(port(8081));
my $before = steady_fds($worker);

###############################################################################
# Nobody reads

my ($client, $upstream) = parting($t, $listener);
my ($ended) = wait_for_line($t, qr/^200 /, 'ends.log');
my ($seconds) = $ended =~ /([\d.]+)$/;
my @asked = asked($t);

# The first, those after an interval, and the last, at the data timeout. On a busy machine each may be late.
cmp_ok(scalar @asked, '<=', 1 + @intervals + 1, 'it asks a few times, not all the time');
cmp_ok(scalar @asked, '>=', @intervals - 1, 'but it asks');

my @early = grep { $asked[$_ + 1] - $asked[$_] < $intervals[$_] } 0 .. min(@asked - 3, $#intervals);
is_deeply(\@early, [], 'each interval is twice as long, up to two seconds') or diag("@asked");
like($ended, qr/^200 upstream_reset /, 'the tunnel ends as it would have');
cmp_ok($seconds, '>=', TIMEOUT / 1000 - 0.05, 'not before the data timeout');
$client->close();

###############################################################################
# Somebody reads after a while

($client, $upstream) = parting($t, $listener);
wait_until('nginx did not ask again', sub { asked($t) >= 3 });
same($client->read_to_end(), noise(MB), 'who reads late gets all');
is($client->ending(), 'reset', 'and then the reset');
$client->close();

is(settled_fds($worker, $before), $before, 'nothing is left open');

###############################################################################

# A tunnel whose upstream has said more than its client reads, and reset.
sub parting {
	my ($t, $listener) = @_;
	my ($client, $upstream) = pair($listener);

	$client->shrink_buffers(65536);
	$upstream->send(noise(MB));
	wait_until('what was sent was not taken', sub { !unacknowledged($upstream) });

	log_mark($t, $_) for 'error.log', 'ends.log';
	$upstream->reset();
	return ($client, $upstream);
}

# When nginx has asked since, in milliseconds: no other timer runs out.
sub asked {
	my ($t) = @_;
	return map { /event timer del: \d+: (\d+)$/ } debug_lines($t, qr/event timer del: /);
}

###############################################################################
