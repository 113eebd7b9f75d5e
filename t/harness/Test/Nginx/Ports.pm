package Test::Nginx::Ports;

# Ports for a test: each number that a test names stands for a port that is free, and that no
# test running beside it takes.

use warnings;
use strict;

use base 'Exporter';

use IO::Socket::INET;

our @EXPORT_OK = qw/ port /;

# A port is looked for among as many neighbours of the number.
use constant BLOCK => 500;
use constant TRIES => 50;

my %taken;

# The port that stands for a number. With "socket", the socket that holds it: a TCP port is held
# by a UDP socket on the same port, and the other way round.
sub port {
	my ($number, %options) = @_;

	my $entry = $taken{$number} //= take($number, $options{udp});
	return $options{socket} ? $entry->{holder} : $entry->{port};
}

sub take {
	my ($number, $udp) = @_;
	my $port = $number;

	for (1 .. TRIES) {
		my $holder = hold($port, $udp);
		return { port => $port, holder => $holder } if $holder;
		$port = $number - $number % BLOCK + int rand BLOCK;
	}

	die "No free port near $number\n";
}

sub hold {
	my ($port, $udp) = @_;
	my @sockets = (\&udp_socket, \&tcp_socket);
	my ($holder_of, $try) = $udp ? reverse @sockets : @sockets;

	my $holder = $holder_of->($port) or return undef;
	return $try->($port) ? $holder : undef;
}

sub tcp_socket {
	return IO::Socket::INET->new(
		Proto => 'tcp', LocalAddr => '127.0.0.1', LocalPort => $_[0],
		Listen => 1, ReuseAddr => 1,
	);
}

sub udp_socket {
	return IO::Socket::INET->new(
		Proto => 'udp', LocalAddr => '127.0.0.1', LocalPort => $_[0],
	);
}

1;
