#!/usr/bin/perl

# The points that perf and bpftrace watch: the module names them as docs/observability.md does, and the programs of that
# page run and see tunnels, where bpftrace is there and may look.

use warnings;
use strict;

use POSIX ();
use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# bpftrace reads its programs, and has the kernel check them.
use constant PATIENCE => 30;

plan(skip_all => 'Linux only') if $^O ne 'linux';
plan(skip_all => 'no readelf') unless `readelf --version 2>&1` =~ /readelf/;

my ($module) = ($ENV{TEST_NGINX_GLOBALS} // '') =~ /load_module\s+(\S+proxy_connect\S*);/;
$module //= $ENV{TEST_NGINX_BINARY};

my $t = Test::Nginx->new()->has(qw/http/);

$t->plan(12)->write_file_expand('nginx.conf', quietly($t, <<'EOC', 'info'));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  ends  "$proxy_connect_close_reason";
    access_log  %%TESTDIR%%/ends.log  ends;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow          %%PORT_8090%% %%PORT_8091%%;
        proxy_connect_download_rate  100k;
    }
}

EOC

my $page = read_file('../docs/observability.md');
my @points = $page =~ /^\| `(\w+)` \| .*/gm;
@points = grep { /^(?:opened|dial_\w+|established|refused|failed|throttled|closed)$/ } @points;
my ($programs) = $page =~ /^```bpftrace\n(.*?)^```/ms;

###############################################################################
# What the file says

my %arguments;
my $provider = '';

for (`readelf -n -W '$module'`) {
	$provider = $1 if /Provider: (\S+)/;
	my $name = $provider eq 'proxy_connect' && /Name: (\S+)/ ? $1 : next;
	$arguments{$name}++;
}

is_deeply([ sort keys %arguments ], [ sort @points ], 'the points of the page');
is(scalar(@points), 8, 'all of them');

my %used = map { $_ => 1 } $programs =~ /proxy_connect:(\w+)/g;
is_deeply([ sort keys %used ], [ sort @points ], 'each has a program');

###############################################################################
# What bpftrace sees

$t->run();
my $listener = listener(port(8090));
my $tracer = start_bpftrace($t, lone_worker($t), $programs =~ s/^#/\/\/ #/gmr =~ s/\bMODULE\b/$module/gr);

SKIP: {
	skip('no bpftrace, or it may not look', 9) unless $tracer;

	my ($client, $upstream) = pair($listener);
	$client->send('four');
	is($upstream->read_bytes(4), 'four', 'a tunnel');
	$upstream->send(noise(30 * 1024));
	is(length($client->read_bytes(30 * 1024)), 30 * 1024, 'with a rate');
	$client->close();
	$upstream->read_to_end();
	$upstream->close();
	wait_for_line($t, qr/client_eof/, 'ends.log');
	is(status_of(exchange(connect_request('127.0.0.1:' . port(8091)))), 502, 'one that fails');
	is(status_of(exchange(connect_request('127.0.0.1:' . port(8092)))), 403, 'one that is refused');

	my $seen = end_bpftrace($t, $tracer);
	like($seen, qr/^\@closed\[client_eof\]: 1$/m, 'the end of the tunnel');
	like($seen, qr/^\@dialed\[127\.0\.0\.1\]: 2$/m, 'the attempts');
	like($seen, qr/^\@errno\[0\]: 1$/m, 'what one came to');
	like($seen, qr/^\@failed\[502, connection_refused\]: 1$/m, 'and the other');
	like($seen, qr/^\@refused\[403, http_request_denied\]: 1$/m, 'the refusal');
}

###############################################################################

# The pid of a bpftrace that looks at a worker. Nothing where there is none that may.
sub start_bpftrace {
	my ($t, $worker, $program) = @_;
	$t->write_file('program.bt', "$program\nBEGIN { printf(\"begun\\n\"); }\n");
	my $output = $t->testdir() . '/bpftrace.out';
	return unless `bpftrace --version 2>&1` =~ /bpftrace/;

	my $pid = fork() // die "Can't fork: $!\n";

	if ($pid == 0) {
		open STDOUT, '>', $output or POSIX::_exit(1);
		open STDERR, '>&', \*STDOUT or POSIX::_exit(1);
		exec 'bpftrace', '-p', $worker, $t->testdir() . '/program.bt' or POSIX::_exit(1);
	}

	my $is_begun = eval {
		wait_until('bpftrace did not begin', sub {
			die "it is gone\n" if waitpid($pid, POSIX::WNOHANG()) > 0;
			-e $output && read_file($output) =~ /^begun/m;
		}, PATIENCE);
	};

	return $pid if $is_begun;
	diag(read_file($output)) if -e $output;
	kill 'KILL', $pid;
	waitpid $pid, 0;
	return;
}

sub end_bpftrace {
	my ($t, $pid) = @_;
	kill 'INT', $pid;
	waitpid $pid, 0;
	return read_file($t->testdir() . '/bpftrace.out');
}

sub read_file {
	my ($file) = @_;
	open my $handle, '<', $file or die "Can't read $file: $!\n";
	local $/;
	return <$handle>;
}

###############################################################################
