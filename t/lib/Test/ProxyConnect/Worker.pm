package Test::ProxyConnect::Worker;

# nginx's processes, and what they hold open.

use warnings;
use strict;

use base 'Exporter';

use Test::ProxyConnect::Wait qw/ wait_until /;

our @EXPORT_OK = qw/
	run_quietly master_pid worker_pids worker_pid wait_for_workers fds pipes sockets steady_fds
	settled_fds size_of limit renew
/;

# Runs nginx; its warnings about the configuration go to the test's folder.
sub run_quietly {
	my ($t) = @_;

	open my $stderr, '>&', \*STDERR or die "Can't keep stderr: $!\n";
	open STDERR, '>', $t->testdir() . '/stderr.log' or die "Can't move stderr: $!\n";
	my $started = eval { $t->run(); 1 };
	open STDERR, '>&', $stderr or die "Can't restore stderr: $!\n";

	$started or die $t->read_file('stderr.log') . $@;
	return $t;
}

sub master_pid {
	my ($t) = @_;
	my ($pid) = $t->read_file('nginx.pid') =~ /(\d+)/;
	return $pid;
}

# The workers that take connections; not those that shut down, unless "all" is asked for. They are
# those of the running master, unless told.
sub worker_pids {
	my ($t, $all, $master) = @_;
	my @children = children($master // master_pid($t));

	return logged_workers($t, $all, @children) if $ENV{TEST_NGINX_VALGRIND};

	my $name = $all ? qr/worker process/ : qr/worker process(?! is shutting down)/;
	return grep { title($_) =~ $name } @children;
}

# Under valgrind a process can't change its title; the log tells, if it is one that has notices.
sub logged_workers {
	my ($t, $all, @children) = @_;
	my $log = $t->read_file('error.log');

	return @children unless $log =~ /start worker process/;

	my @workers = grep { $log =~ /start worker process $_$/m } @children;
	return $all ? @workers : grep { $log !~ / $_#\d+: gracefully shutting down$/m } @workers;
}

# The one worker.
sub worker_pid {
	my ($t) = @_;
	my @pids = worker_pids($t);
	die 'There is not one worker but ' . @pids . "\n" unless @pids == 1;
	return $pids[0];
}

# The workers, once there are so many.
sub wait_for_workers {
	my ($t, $count) = @_;

	my @pids;
	wait_until("There were not $count workers", sub {
		@pids = worker_pids($t);
		return @pids == $count;
	});

	return @pids;
}

# Reloads nginx, and waits until other workers take the connections.
sub renew {
	my ($t) = @_;
	my %old = map { $_ => 1 } worker_pids($t);

	$t->reload();
	wait_until('The old workers still take connections', sub {
		my @now = worker_pids($t);
		return @now && !grep { $old{$_} } @now;
	});

	return;
}

sub children {
	my ($parent) = @_;
	return grep { parent_of($_) == $parent }
		map { m!(\d+)$! } glob '/proc/[0-9]*';
}

# What follows the name, which stands in brackets and may hold anything.
sub parent_of {
	my ($pid) = @_;
	my ($parent) = content("/proc/$pid/stat") =~ /.*\) \S (\d+)/s;
	return $parent // 0;
}

sub title {
	my ($pid) = @_;
	return content("/proc/$pid/cmdline");
}

# A process may be gone in the meantime.
sub content {
	my ($file) = @_;
	open my $handle, '<', $file or return '';
	local $/;
	return <$handle> // '';
}

# How many descriptors a process has open, but for those of pipes: a worker keeps some of them,
# see pipes().
sub fds {
	my ($pid) = @_;
	return scalar grep { (readlink // '') !~ /^pipe:/ } glob "/proc/$pid/fd/*";
}

# How many pipes a process has open, a pipe being two descriptors.
sub pipes {
	my ($pid) = @_;
	return grep({ (readlink // '') =~ /^pipe:/ } glob "/proc/$pid/fd/*") / 2;
}

# The address space of a process in bytes.
sub size_of {
	my ($pid) = @_;
	open my $status, '<', "/proc/$pid/status" or die "Can't read the status of $pid: $!\n";
	my ($size) = join('', <$status>) =~ /^VmSize:\s*(\d+)/m or die "No size of $pid\n";
	return $size * 1024;
}

# Sets a soft limit of a process, where a value is given, and returns what it was. The name is
# one of prlimit(1).
sub limit {
	my ($pid, $name, $value) = @_;

	my $was = `prlimit --pid $pid --$name --output SOFT --noheadings`;
	die "Can't ask for the limits of $pid\n" if $?;

	if (defined $value) {
		system('prlimit', '--pid', $pid, "--$name=$value:") == 0
			or die "Can't set the limits of $pid\n";
	}

	return $was =~ s/\s//gr;
}

# How many sockets are among them.
sub sockets {
	my ($pid) = @_;
	return scalar grep { (readlink // '') =~ /^socket:/ } glob "/proc/$pid/fd/*";
}

# How many, once that no longer changes: what was closed a moment ago is gone by then.
sub steady_fds {
	my ($pid) = @_;
	my ($count, $same) = (-1, 0);

	wait_until("The descriptors of process $pid did not come to rest", sub {
		my $now = fds($pid);
		$same = $now == $count ? $same + 1 : 0;
		$count = $now;
		return $same >= 20;
	});

	return $count;
}

# Waits until a process has at most so many descriptors open, and returns how many it has.
sub settled_fds {
	my ($pid, $count) = @_;
	wait_until("Process $pid had more than $count descriptors open, "
		. fds($pid) . ' at first, and not fewer', sub { fds($pid) <= $count });
	return fds($pid);
}

1;
