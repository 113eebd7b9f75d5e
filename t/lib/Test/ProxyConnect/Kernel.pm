package Test::ProxyConnect::Kernel;

# What the kernel knows of nginx's processes and their sockets: options, states, memory, time.

use warnings;
use strict;

use base 'Exporter';

use Carp qw/ croak /;
use POSIX ();
use Time::HiRes ();

our @EXPORT = qw/
	socket_option can_look connections held unacknowledged memory_of busy_share
/;

# System calls of Linux that Perl has no names for; the same numbers on every architecture.
use constant {
	SYS_PIDFD_OPEN => 434,
	SYS_PIDFD_GETFD => 438,
};

# A request of ioctl(), by its number on x86 and ARM.
use constant TIOCOUTQ => 0x5411;

# States of a TCP connection as /proc/net/tcp has them.
my %STATE = ('01' => 'established', '02' => 'connecting', '08' => 'half-closed');

# Connections over IPv4 between two ports of this machine; either may be undef. Each is a hash of
# local, remote, state and inode.
sub connections {
	my ($local, $remote) = @_;

	open my $table, '<', '/proc/net/tcp' or croak "Can't read /proc/net/tcp: $!\n";
	readline $table;

	return grep {
		(!defined $local || $_->{local} == $local)
			&& (!defined $remote || $_->{remote} == $remote)
	} map { parse($_) } <$table>;
}

sub parse {
	my ($line) = @_;
	my (undef, $local, $remote, $state, undef, undef, undef, undef, undef, $inode)
		= split ' ', $line;

	return {
		(map { $_->[0] => hex +($_->[1] =~ /:(.+)/)[0] }
			[ local => $local ], [ remote => $remote ]),
		state => $STATE{$state} // $state,
		inode => $inode,
	};
}

# How many connections to a remote port a process holds, in a state if one is given.
sub held {
	my ($pid, $remote, $state) = @_;

	my %own = map { (readlink // '') =~ /^socket:\[(\d+)\]/ ? ($1 => 1) : () }
		glob "/proc/$pid/fd/*";

	# The kernel lists them in pieces, and may list one twice that moves meanwhile.
	my %held = map { $_->{inode} => 1 }
		grep { $own{$_->{inode}} && (!$state || $_->{state} eq $state) } connections(undef, $remote);

	return scalar keys %held;
}

# How many bytes of an end of the test's own its peer's system has not acknowledged.
sub unacknowledged {
	my ($end) = @_;
	my $count = pack 'i', 0;

	ioctl $end->handle(), TIOCOUTQ, $count or croak "ioctl: $!\n";
	return unpack 'i', $count;
}

# An option, an integer, of the socket that a process has between two ports.
sub socket_option {
	my ($pid, $local, $remote, $level, $option) = @_;

	my ($connection) = connections($local, $remote)
		or croak "No connection from $local to $remote\n";
	my $handle = borrow($pid, $connection->{inode});

	return unpack 'i', getsockopt($handle, $level, $option) // croak "getsockopt: $!\n";
}

# A copy of another process's descriptor.
sub borrow {
	my ($pid, $inode) = @_;

	for my $path (glob "/proc/$pid/fd/*") {
		next unless (readlink $path // '') eq "socket:[$inode]";
		my ($number) = $path =~ /(\d+)$/;
		return copy($pid, $number);
	}

	croak "Process $pid does not have the socket $inode\n";
}

sub copy {
	my ($pid, $number) = @_;

	# syscall() takes what looks like a string for the address of one.
	my $process = syscall SYS_PIDFD_OPEN, int $pid, 0;
	croak "pidfd_open: $!\n" if $process < 0;
	open my $keeper, '<&=', $process or croak "Can't keep a pidfd: $!\n";

	my $fd = syscall SYS_PIDFD_GETFD, $process, int $number, 0;
	croak "pidfd_getfd: $!\n" if $fd < 0;
	open my $handle, '+<&=', $fd or croak "Can't keep a copy of a descriptor: $!\n";

	return $handle;
}

# Whether the kernel lets the test look at a process's descriptors.
sub can_look {
	my ($pid) = @_;
	return eval { copy($pid, 0); 1 };
}

# The resident memory of a process in KiB.
sub memory_of {
	my ($pid) = @_;
	return content("/proc/$pid/status") =~ /^VmRSS:\s*(\d+)/m ? $1 : 0;
}

# Which part of so many seconds a process spends running: near 0 when it only waits, near 1 when
# it spins.
sub busy_share {
	my ($pid, $seconds) = @_;

	my ($from, $begin) = (cpu_time($pid), Time::HiRes::time());
	Time::HiRes::sleep($seconds);
	return (cpu_time($pid) - $from) / (Time::HiRes::time() - $begin);
}

# User and system time together, in seconds; the fields are counted behind the process's name.
sub cpu_time {
	my ($pid) = @_;
	my ($fields) = content("/proc/$pid/stat") =~ /.*\) (.*)/s;
	my ($user, $system) = (split ' ', $fields)[11, 12];
	return ($user + $system) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

sub content {
	my ($file) = @_;
	open my $handle, '<', $file or croak "Can't read $file: $!\n";
	local $/;
	return <$handle>;
}

1;
