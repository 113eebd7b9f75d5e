#!/usr/bin/perl

# The user of the workers has used up the memory that the system grants a user for pipes
# (fs.pipe-user-pages-soft): bytes are copied, and go through pipes again when there is some.
#
# Root is granted any amount, so that the workers are another user here, whom only root can choose.

use warnings;
use strict;

use IO::Handle;
use POSIX ();
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

# fcntl(2) of Linux.
use constant F_SETPIPE_SZ => 1031;

plan(skip_all => 'splice(2) is Linux only') unless $^O eq 'linux';
plan(skip_all => 'only root can choose the user of the workers') unless $> == 0;

my ($user, $uid, $gid) = (getpwnam 'nobody')[0, 2, 3];
plan(skip_all => 'no user "nobody"') unless defined $uid;
my $group = getgrgid $gid;

# What the tests are given for root's sake.
$ENV{TEST_NGINX_GLOBALS} = ($ENV{TEST_NGINX_GLOBALS} // '') =~ s/\buser\s+\w+;//r;

my $t = Test::Nginx->new()->has(qw/http/);

$t->plan(8)->write_file_expand('nginx.conf', quietly($t, <<"EOC", 'info'));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;
user $user $group;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
    }
}

EOC

$t->run();

my $worker = lone_worker($t);
my $listener = listener(port(8081));
my $before = pipes($worker);
my @pair = (pair($listener))[0, 1];

###############################################################################

my $holder = use_up_pages($uid, $gid);

ok(flooded(@pair), 'no memory for pipes: bytes are copied');
is(pipes($worker), $before, 'through no pipe');

like(join("\n", log_lines($t, qr/a pipe of/)),
	qr/\[notice\] \d+#\d+: \*\d+ proxy_connect: a pipe of 262144 bytes was refused, bytes are copied instead \(1: [^)]+\) while proxying connection, client: /,
	'the error log tells');
cmp_ok(scalar log_lines($t, qr/a pipe of/), '<=', 3, 'but not for each byte');

ok(flooded(reverse @pair), 'the other way too');

release($holder);
ok(flooded(@pair), 'memory for pipes again: bytes arrive');
ok(eval { wait_until('no pipe', sub { flooded(@pair); pipes($worker) > $before }) },
	'and after a while, through a pipe');
is(lone_worker($t), $worker, 'it is the worker that it was');

$_->close() for @pair;

###############################################################################

# Has a process of the user hold as much in pipes as the system gives.
sub use_up_pages {
	my ($uid, $gid) = @_;
	pipe my $ready, my $tell or die "pipe: $!\n";
	pipe my $until, my $let_go or die "pipe: $!\n";

	my $pid = fork // die "fork: $!\n";
	if ($pid) {
		close $_ for $tell, $until;
		my $told = <$ready>;
		die "The pages of pipes can't be used up: " . ($told // 'no word') unless ($told // '') eq "used up\n";
		return { pid => $pid, end => $let_go };
	}

	close $_ for $ready, $let_go;
	# A test's end is its parent's business.
	local $SIG{__DIE__} = sub { print {$tell} @_; $tell->flush(); POSIX::_exit(1) };
	($(, $)) = ($gid, "$gid $gid");
	($<, $>) = ($uid, $uid);

	my @held = hold_pages();
	print {$tell} "used up\n";
	$tell->flush();
	<$until>;
	POSIX::_exit(0);
}

# Pipes of a MiB while the system gives them, then smaller ones; 8 KiB it always gives.
sub hold_pages {
	my @held;

	for (my $size = MB; $size > 8192; $size /= 2) {
		while (1) {
			pipe my $out, my $in or die "pipe: $!\n";
			push @held, $out, $in;
			last unless fcntl $in, F_SETPIPE_SZ, int $size;
			die "The system has no limit\n" if @held > 2000;
		}
	}

	return @held;
}

sub release {
	my ($holder) = @_;
	close $holder->{end};
	waitpid $holder->{pid}, 0;
	return;
}
