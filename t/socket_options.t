#!/usr/bin/perl

# proxy_connect_socket_keepalive, _sndbuf, _rcvbuf and _mark: what the socket of the upstream's connection is told, and what
# is said where the system does not take it.

use warnings;
use strict;

use Test::More;
use Socket qw/ IPPROTO_TCP SOL_SOCKET SO_KEEPALIVE SO_RCVBUF SO_SNDBUF /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Check;
use Test::ProxyConnect::Kernel;
use Test::ProxyConnect::Program;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# Linux's numbers; Perl's Socket does not have the names everywhere.
use constant {
	TCP_KEEPIDLE => 4,
	SO_MARK => 36,
};

plan(skip_all => 'options of another process\'s sockets are for Linux') if $^O ne 'linux';

my $t = Test::Nginx->new()->has(qw/http unix/);

my $is_root = $> == 0;
my $mark = $is_root ? 'proxy_connect_socket_mark 0x1f;' : '';

$t->plan(47);

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  ends  "$status $proxy_connect_error";
    access_log  %%TESTDIR%%/ends.log ends;

    proxy_connect_socket_keepalive  on;
    proxy_connect_socket_sndbuf     20000;
    proxy_connect_socket_rcvbuf     30000;
    MARK

    # nothing of its own
    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
    }

    server {
        listen       127.0.0.1:8081;
        listen       127.0.0.1:8082 so_keepalive=7m::;
        listen       127.0.0.1:8083 so_keepalive=off;
        server_name  on;

        proxy_connect;
        proxy_connect_allow             all;
        proxy_connect_socket_keepalive  on;
        proxy_connect_socket_sndbuf     off;
        proxy_connect_socket_rcvbuf     10k;
        proxy_connect_socket_mark       off;
    }

    server {
        listen       127.0.0.1:8084;
        listen       127.0.0.1:8085 so_keepalive=on;
        server_name  off;

        proxy_connect;
        proxy_connect_allow             all;
        proxy_connect_socket_keepalive  off;
        proxy_connect_socket_sndbuf     1;
        proxy_connect_socket_rcvbuf     1;
    }

    server {
        listen       127.0.0.1:8086;
        server_name  unix;

        proxy_connect;
        proxy_connect_address           unix:%%TESTDIR%%/upstream.sock;
        proxy_connect_socket_keepalive  on;
        proxy_connect_socket_sndbuf     10k;
        proxy_connect_socket_rcvbuf     10k;
    }
}

EOF

$conf =~ s/MARK/$mark/g;
$t->write_file_expand('nginx.conf', $conf);
$t->run();

# Where nginx logs unless told.
mkdir $t->testdir() . '/logs';

my $worker = lone_worker($t);
my $listener = listener(port(8090));
my ($client, $upstream);

my %option = (
	keepalive => [ SOL_SOCKET, SO_KEEPALIVE ],
	sndbuf => [ SOL_SOCKET, SO_SNDBUF ],
	rcvbuf => [ SOL_SOCKET, SO_RCVBUF ],
	idle => [ IPPROTO_TCP, TCP_KEEPIDLE ],
	mark => [ SOL_SOCKET, SO_MARK ],
);

###############################################################################
# The system doubles sizes, and has a least one of each.

my ($least_sndbuf, $least_rcvbuf) = (4608, 2304);

my %expected = (
	8080 => { keepalive => 1, sndbuf => 40000, rcvbuf => 60000, $is_root ? (mark => 31) : () },
	8081 => { keepalive => 1, rcvbuf => 20480, mark => 0 },
	8082 => { keepalive => 1, rcvbuf => 20480, idle => 420 },
	8083 => { keepalive => 1, rcvbuf => 20480 },
	8084 => { keepalive => 0, sndbuf => $least_sndbuf, rcvbuf => $least_rcvbuf, $is_root ? (mark => 31) : () },
	8085 => { keepalive => 0, sndbuf => $least_sndbuf, rcvbuf => $least_rcvbuf },
);

for my $number (sort keys %expected) {
	my %values = %{$expected{$number}};

	($client, $upstream) = pair($listener, port => port($number));
	my ($far) = $upstream->peer() =~ /(\d+)$/;

	SKIP: {
		skip 'the system does not let us look into nginx', 1 unless can_look($worker);

		is_deeply({ map { $_ => option($far, $_) } keys %values }, \%values, "$number: the options");
	}

	# The smallest socket for receiving takes some bytes, and more of them only now and then.
	my ($up, $down) = map { noise($_) } $number < 8084 ? (300_000, 200_000) : (20_000, 100);
	my ($got_up, $got_down) = cross($client, $upstream, $up, $down);
	ok(same($got_up, $up) && same($got_down, $down), "$number: the tunnel");
	$_->close() for $client, $upstream;
}

SKIP: {
	skip 'the system does not let us look into nginx', 1 unless can_look($worker);

	($client, $upstream) = pair($listener, port => port(8081));
	my ($far) = $upstream->peer() =~ /(\d+)$/;
	cmp_ok(option($far, 'sndbuf'), '>', 60000, 'a size that is taken back');
}

my $local = listener('unix:' . $t->testdir() . '/upstream.sock');
($client, $upstream) = pair($local, port => port(8086), authority => 'some.example:443');
is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ], 'a unix socket');

is_deeply([ log_lines($t, qr/setsockopt/) ], [], 'nothing to complain of');

###############################################################################
# What the system can't

my ($wmem, $rmem) = map { limit_of($_) } qw/ wmem rmem /;

for ([ sndbuf => $wmem, 'wmem' ], [ rcvbuf => $rmem, 'rmem' ]) {
	my ($name, $limit, $sysctl) = @$_;
	my $directive = "proxy_connect_socket_$name";

	is_fine((check($t, "$directive $limit"))[0], "$name: as much as the system gives");
	my ($output, $line) = check($t, "$directive 2000m");
	like($output, qr/\[emerg\] .*"2000m" in the "$directive" directive is more than the system gives, which is $limit bytes: .*net\.core\.${sysctl}_max.* in \S+check\.conf:$line$/m,
		"$name: more");
	unlike($output, qr/syntax is ok/, "$name: more is refused");
}

my $setpriv = installed('setpriv');
my $binary = $Test::Nginx::NGINX;

SKIP: {
	skip 'no superuser', 14 unless $is_root;

	is_fine((check($t, "proxy_connect_socket_mark $_"))[0], "a mark: $_") for qw/ 1 4294967295 0xFFffFFff 0x0001 /;

	skip 'no setpriv', 10 unless $setpriv;

	as($t, '--bounding-set', '-net_admin,-net_raw');
	my ($output, $line) = check($t, 'proxy_connect_socket_mark 7');
	like($output, qr/\[emerg\] .*the system does not take "7" of the "proxy_connect_socket_mark" directive: .*start nginx as root, or with CAP_NET_ADMIN in \S+check\.conf:$line$/m,
		'a mark without the right to it');
	unlike($output, qr/syntax is ok/, 'a mark without the right to it is refused');
	is_fine((check($t, 'proxy_connect_socket_mark off'))[0], 'no mark needs no right');

	# Workers that are somebody else have kept the right that is enough for Linux 5.17.
	# A tunnel would keep its worker.
	$_->close() for $client, $upstream;
	$t->stop();
	as($t);
	rewrite($t, 'nobody');
	$t->run();

	SKIP: {
		skip 'marks need CAP_NET_ADMIN before Linux 5.17', 1 if release() < 5.17;
		skip 'no rights for workers of others before nginx 1.13.8', 1 unless $t->has_version('1.13.8');

		($client, $upstream) = pair($listener, port => port(8084));
		is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ], 'a mark of another user');
	}

	# One that did not get it to keep can't set a mark, and says so; nothing goes out without it.
	$_->close() for $client, $upstream;
	$t->stop();
	as($t, '--bounding-set', '-net_raw');
	rewrite($t, 'nobody');
	$t->run();

	log_mark($t);
	log_mark($t, 'ends.log');
	my $answer = exchange(connect_request('127.0.0.1:' . port(8090)), port => port(8084));
	is(status_of($answer), '500', 'a mark that can\'t be set');
	wait_for_line($t, qr/^500 proxy_internal_error$/, 'ends.log');
	is(unaccepted($listener), 0, 'a mark that can\'t be set: nobody is connected to');
	my @lines = log_lines($t, qr/proxy_connect: /);
	is(@lines, 1, 'a mark that can\'t be set: one line');
	like($lines[0], qr/\[error\] .* upstream connect failed \(peer:127\.0\.0\.1:${\ port(8090)}\), SO_MARK can't be set: the worker needs CAP_NET_ADMIN, .* \(1: /,
		'a mark that can\'t be set: what it says');

	($client, $upstream) = pair($listener, port => port(8081));
	is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ], 'others go on');

	my $pid = worker_pid($t);
	my $fds = steady_fds($pid);
	exchange(connect_request('127.0.0.1:' . port(8090)), port => port(8084)) for 1 .. 20;
	cmp_ok(settled_fds($pid, $fds), '<=', $fds, 'failures leave nothing open');
}

###############################################################################

sub option {
	my ($far, $name) = @_;
	my $value = socket_option($worker, $far, port(8090), @{$option{$name}});
	return $name eq 'keepalive' ? 0 + !!$value : $value;
}

sub limit_of {
	my ($name) = @_;
	open my $file, '<', "/proc/sys/net/core/${name}_max" or die "Can't read net.core.${name}_max: $!\n";
	return 0 + readline $file;
}

# The kernel's version as a number.
sub release {
	my ($major, $minor) = (POSIX::uname())[2] =~ /^(\d+)\.(\d+)/;
	return $major + $minor / 100;
}

# Has nginx started with these options of setpriv.
sub as {
	my ($t, @options) = @_;
	$Test::Nginx::NGINX = $binary;
	return unless @options;

	my $path = $t->testdir() . '/nginx.sh';
	$t->write_file('nginx.sh', "#!/bin/sh\nexec $setpriv @options $binary \"\$@\"\n");
	chmod 0755, $path;
	$Test::Nginx::NGINX = $path;
}

# The same configuration, with workers of another user.
sub rewrite {
	my ($t, $user) = @_;
	my $globals = $t->test_globals() =~ s/\buser \w+;//r;
	my $group = getgrgid((getpwnam $user)[3]);
	$t->write_file_expand('nginx.conf', $conf =~ s/%%TEST_GLOBALS%%/$globals user $user $group;/r);
}

###############################################################################
