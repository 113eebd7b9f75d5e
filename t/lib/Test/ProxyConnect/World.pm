package Test::ProxyConnect::World;

# Owns the world behind a proxy: a neighbour's network with whatever addresses a test wants to be there. There and
# here a server listens at some ports and tells in the file world.log who reached it:
#
#   local|world ADDRESS PORT connected
#   local|world ADDRESS PORT got BYTES          the first bytes that came, in hex

use warnings;
use strict;

use base 'Exporter';

use Carp qw/ croak /;
use IO::Select;
use IO::Socket::IP;
use Socket qw/ SOCK_STREAM /;

use Test::ProxyConnect::Logs qw/ log_lines log_mark wait_for_line /;
use Test::ProxyConnect::Network;

our @EXPORT = qw/ make_world reached mark_world /;
our @EXPORT_OK = qw/ serve /;

use constant NOTES => 'world.log';

# An address of the neighbour's.
use constant WORLD => '198.51.100.2';

# How many marks were set, and the port that they go to: of servers at which nothing else arrives.
my $marks = 0;
use constant MARK_PORT => 9;

# Makes the world, with these addresses in it, and servers there and here at these ports. The test is in a
# network of its own.
sub make_world {
	my ($t, %options) = @_;
	my $there = neighbour($t, map { $_ . (/:/ ? '/128' : '/32') } @{$options{addresses}});

	in_network($there, sub { start($t, 'world', MARK_PORT, @{$options{ports}}) });
	start($t, 'local', MARK_PORT, @{$options{local}});

	wait_for_line($t, qr/^$_ listens/, NOTES) for 'world', 'local';
	return;
}

# What was reached since the last mark, a line each. Whatever a server was told before is in its file when it
# has told of a connection of the test's own.
sub reached {
	my ($t) = @_;
	my %mark = (world => WORLD, local => '127.0.0.1');
	my $word = 'mark ' . ++$marks;

	for my $name (sort keys %mark) {
		my $socket = IO::Socket::IP->new(PeerHost => $mark{$name}, PeerPort => MARK_PORT, Type => SOCK_STREAM)
			or croak "Can't connect to $mark{$name}: $@\n";
		$socket->syswrite($word);
		my $bytes = unpack 'H*', $word;
		wait_for_line($t, qr/^$name \Q$mark{$name}\E ${\MARK_PORT} got $bytes$/, NOTES);
	}

	return log_lines($t, qr/^\w+ \S+ (?!${\MARK_PORT} )\d+ /, NOTES);
}

sub mark_world {
	my ($t) = @_;
	return log_mark($t, NOTES);
}

###############################################################################
# The servers

sub start {
	my ($t, $name, @ports) = @_;
	my $notes = $t->testdir() . '/' . NOTES;
	my @lib = map { "-I$_" } @INC;

	$t->run_daemon(sub {
		exec $^X, @lib, '-MTest::ProxyConnect::World=serve', '-e', 'serve(@ARGV)', $name, $notes, @ports;
	});
}

# Listens at all addresses of its namespace.
sub serve {
	my ($name, $notes, @ports) = @_;
	my %listener;

	for my $port (@ports) {
		for my $host ('0.0.0.0', '::') {
			my $socket = IO::Socket::IP->new(LocalHost => $host, LocalPort => $port, Listen => 100,
				ReuseAddr => 1, V6Only => 1, Type => SOCK_STREAM) or croak "Can't listen: $@\n";
			$listener{$socket} = 1;
			push @{$listener{all}}, $socket;
		}
	}

	note($notes, "$name listens");
	my $ready = IO::Select->new(@{$listener{all}});

	while (1) {
		for my $socket ($ready->can_read()) {
			if ($listener{$socket}) {
				my $client = $socket->accept() or next;
				note($notes, "$name " . $client->sockhost() . ' ' . $client->sockport() . ' connected');
				$ready->add($client);
			} elsif (!answer($name, $notes, $socket)) {
				$ready->remove($socket);
				$socket->close();
			}
		}
	}
}

# Tells what came, and sends it back. False at the end.
sub answer {
	my ($name, $notes, $socket) = @_;

	my $count = sysread $socket, my $bytes, 65536;
	return 0 unless $count;

	note($notes, "$name " . $socket->sockhost() . ' ' . $socket->sockport() . ' got '
		. unpack 'H64', $bytes);
	return syswrite $socket, $bytes;
}

sub note {
	my ($file, $line) = @_;
	open my $notes, '>>', $file or die "Can't write $file: $!\n";
	$notes->syswrite("$line\n");
}

1;
