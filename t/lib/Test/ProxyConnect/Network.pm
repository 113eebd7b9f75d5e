package Test::ProxyConnect::Network;

# Network namespaces: one that a test has for itself, with whatever addresses it likes, and another beside it. Nothing
# leaves the machine.

use warnings;
use strict;

use base 'Exporter';

use Carp qw/ croak /;
use IO::Handle;
use POSIX ();
use Test::More;

use Test::ProxyConnect::Wait qw/ wait_until /;

our @EXPORT = qw/ own_network add_address remove_address neighbour in_network /;

# CLONE_NEWNET.
use constant NEW_NETWORK => 0x40000000;

# System calls of Linux that Perl has no names for: unshare() and setns().
my %CALLS = (x86_64 => [ 272, 308 ], aarch64 => [ 97, 268 ], riscv64 => [ 97, 268 ]);

# Puts the test, and all that it starts, into a network of its own, with the loopback addresses only. It is to be called
# before anything has a socket. Skips the test where that is not allowed.
sub own_network {
	my $calls = $CALLS{(POSIX::uname())[4]};

	plan(skip_all => 'no network namespaces') unless $^O eq 'linux' && $calls;
	plan(skip_all => 'no iproute2') unless grep { -x "$_/ip" } qw!/sbin /usr/sbin /bin /usr/bin!;
	plan(skip_all => "no network of its own: $!") if syscall($calls->[0], NEW_NETWORK) != 0;

	$ENV{PATH} .= ':/sbin:/usr/sbin';
	ip('link', 'set', 'lo', 'up');
}

# Gives this host an address, at an interface.
sub add_address {
	my ($address, $interface) = @_;
	ip('addr', 'add', $address, 'dev', $interface // 'lo', $address =~ /:/ ? 'nodad' : ());

	# The system takes an address of IPv6 for its own a moment later.
	my ($bare) = $address =~ m!^([^/]+)!;
	wait_until("$address is not there", sub { `ip route get $bare 2>&1` =~ /^local / });
}

# Takes it away.
sub remove_address {
	my ($address, $interface) = @_;
	ip('addr', 'del', $address, 'dev', $interface // 'lo');
}

# Another network beside the own one, joined to it, that has these addresses, each with its prefix length. Returns what
# in_network() takes.
sub neighbour {
	my ($t, @addresses) = @_;
	my ($unshare) = @{$CALLS{(POSIX::uname())[4]}};
	my $file = $t->testdir() . '/network.pid';

	$t->run_daemon(sub {
		syscall($unshare, NEW_NETWORK) == 0 or die "Can't have another network: $!\n";
		open my $told, '>', $file or die "Can't write $file: $!\n";
		$told->syswrite("$$\n");
		sleep 1 while 1;
	});

	wait_until('There is no other network', sub { -s $file });
	my ($pid) = $t->read_file('network.pid') =~ /(\d+)/;

	ip('link', 'add', 'near', 'type', 'veth', 'peer', 'name', 'far', 'netns', $pid);
	ip('link', 'set', 'near', 'up');
	add_address('198.51.100.1/24', 'near');
	add_address('2001:db8::1/64', 'near');

	in_network($pid, sub {
		ip('link', 'set', $_, 'up') for qw/ lo far /;
		add_address('198.51.100.2/24', 'far');
		add_address('2001:db8::2/64', 'far');
		add_address($_) for @addresses;
	});

	ip('route', 'add', $_, 'via', /:/ ? '2001:db8::2' : '198.51.100.2') for @addresses;

	return $pid;
}

# Has a sub run in that network. Sockets that it opens stay there.
sub in_network {
	my ($pid, $work) = @_;

	open my $own, '<', "/proc/$$/ns/net" or croak "Can't open the own network: $!\n";
	enter("/proc/$pid/ns/net");
	my $done = eval { $work->(); 1 };
	my $error = $@;
	setns($own);

	croak $error unless $done;
	return;
}

sub enter {
	my ($path) = @_;
	open my $other, '<', $path or croak "Can't open $path: $!\n";
	setns($other);
}

sub setns {
	my ($handle) = @_;
	my (undef, $setns) = @{$CALLS{(POSIX::uname())[4]}};
	syscall($setns, fileno $handle, NEW_NETWORK) == 0 or croak "Can't enter a network: $!\n";
}

sub ip {
	my (@words) = @_;
	system('ip', @words) == 0 or croak "ip @words failed\n";
}

1;
