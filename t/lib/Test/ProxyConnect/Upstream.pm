package Test::ProxyConnect::Upstream;

# The servers that tunnels lead to. Each listens before upstream() returns, and serves each
# connection in a process of its own. What happens is told in the file upstream.log of the test's
# folder, a line each:
#
#   LISTENS-AT accepted PEER
#   LISTENS-AT closed after N bytes, eof|reset|open
#
# where "open" means that the client's side had not ended yet.

use warnings;
use strict;

use base 'Exporter';

use Carp qw/ croak /;
use IO::Handle;
use IO::Socket::IP;
use IO::Socket::UNIX;
use POSIX ();
use Socket qw/ SOCK_STREAM /;

use Test::ProxyConnect::Logs qw/ log_lines wait_for_line /;
use Test::ProxyConnect::Socket;

our @EXPORT_OK = qw/
	upstream full_backlog knocks upstream_lines wait_for_upstream
	echo discard source greet silent answer_at_eof half_close_after
	close_after reset_after reset_at_once pattern
/;

use constant NOTES => 'upstream.log';

# How long, in seconds, an upstream waits for its client.
use constant PATIENCE => 60;

###############################################################################
# Listening

# Starts a server: what it does is one of the subs below, or one of the test's own that gets the
# connection's end. An address is "PORT" of 127.0.0.1, "ADDRESS:PORT", "[ADDRESS]:PORT" or
# "unix:PATH". Returns the address in full.
sub upstream {
	my ($t, $behaviour, $address) = @_;

	$address = "127.0.0.1:$address" if $address =~ /^\d+$/;
	my $listener = listen_at($address, 511);
	my $notes = $t->testdir() . '/' . NOTES;

	$t->run_daemon(\&serve, $listener, $behaviour, $notes, $address);
	close $listener;

	return $address;
}

sub listen_at {
	my ($address, $backlog) = @_;
	my $listener;

	if ($address =~ /^unix:(.+)/) {
		$listener = IO::Socket::UNIX->new(
			Local => $1, Listen => $backlog, Type => SOCK_STREAM);
	} elsif ($address =~ /^\[?(.+?)\]?:(\d+)$/) {
		$listener = IO::Socket::IP->new(
			LocalHost => $1, LocalPort => $2, Listen => $backlog,
			ReuseAddr => 1, Type => SOCK_STREAM);
	}

	return $listener // croak "Can't listen at $address: $!\n";
}

# Listens at an address where no connection is ever accepted: the queue is full, and the system
# drops what knocks. Keep what it returns for as long as that is wanted.
sub full_backlog {
	my ($address) = @_;

	$address = "127.0.0.1:$address" if $address =~ /^\d+$/;
	my ($host, $port) = $address =~ /^\[?(.+?)\]?:(\d+)$/;
	my @sockets = (listen_at($address, 1));

	while (@sockets < 100) {
		my $socket = IO::Socket::IP->new(
			PeerHost => $host, PeerPort => $port, Blocking => 0,
			Type => SOCK_STREAM) or croak "Can't fill $address: $!\n";
		push @sockets, $socket;
		return \@sockets unless is_connected($socket);
	}

	croak "The queue of $address is never full\n";
}

sub is_connected {
	my ($socket) = @_;
	vec(my $bits = '', fileno $socket, 1) = 1;
	return select(undef, $bits, undef, 0.2) > 0;
}

# How many connections to a port of IPv4 are being made just now. With a full backlog that is one
# of its own, and those of nginx.
sub knocks {
	my ($port) = @_;
	my $remote = sprintf '%04X', $port;

	open my $tcp, '<', '/proc/net/tcp' or croak "Can't read /proc/net/tcp: $!\n";

	# 02 is SYN_SENT.
	return scalar grep { /^\s*\d+: \w+:\w+ \w+:$remote 02 / } <$tcp>;
}

###############################################################################
# Serving

sub serve {
	my ($listener, $behaviour, $notes, $address) = @_;

	# Those that serve go when the server goes.
	setpgrp 0, 0;
	local $SIG{TERM} = sub { $SIG{TERM} = 'IGNORE'; kill 'KILL', -$$ };
	local $SIG{CHLD} = 'IGNORE';

	while (1) {
		my $handle = $listener->accept() or next;
		my $pid = fork() // croak "Can't fork: $!\n";
		next if $pid != 0;

		$SIG{TERM} = 'DEFAULT';
		close $listener;
		serve_one($handle, $behaviour, $notes, $address);
		POSIX::_exit(0);
	}
}

sub serve_one {
	my ($handle, $behaviour, $notes, $address) = @_;

	my $socket = Test::ProxyConnect::Socket->new($handle, patience => PATIENCE);
	note($notes, "$address accepted " . $socket->peer());

	# A client that goes away in the middle is no failure of the server.
	eval { $behaviour->($socket) };

	note($notes, "$address closed after " . $socket->received() . ' bytes, '
		. ($socket->{ending} // 'open'));
	$socket->close();
}

sub note {
	my ($file, $line) = @_;
	open my $notes, '>>', $file or die "Can't write $file: $!\n";
	$notes->syswrite("$line\n");
}

# The lines of upstream.log that match.
sub upstream_lines {
	my ($t, $pattern) = @_;
	return log_lines($t, $pattern, NOTES);
}

# The first line of upstream.log that matches, once it is there.
sub wait_for_upstream {
	my ($t, $pattern) = @_;
	return wait_for_line($t, $pattern, NOTES);
}

###############################################################################
# What a server does with a connection

# Says what it hears, until the end of file.
sub echo {
	return sub {
		my ($socket) = @_;
		while (defined(my $bytes = $socket->read_some())) {
			$socket->send($bytes);
		}
	};
}

# Says something, then is an echo.
sub greet {
	my ($text) = @_;
	return sub {
		my ($socket) = @_;
		$socket->send($text);
		echo()->($socket);
	};
}

# Reads up to the end of file, and says nothing.
sub discard {
	return sub { $_[0]->read_to_end() };
}

sub silent { return discard() }

# Sends so many bytes of the pattern, then closes.
sub source {
	my ($size) = @_;
	return sub {
		my ($socket) = @_;
		$socket->send(pattern($size));
		$socket->half_close();
		$socket->read_to_end();
	};
}

# Reads up to the end of file, and only then says what it heard.
sub answer_at_eof {
	return sub {
		my ($socket) = @_;
		$socket->send($socket->read_to_end());
	};
}

# Says something and sends its end of file, then reads up to the client's.
sub half_close_after {
	my ($text) = @_;
	return sub {
		my ($socket) = @_;
		$socket->send($text);
		$socket->half_close();
		$socket->read_to_end();
	};
}

# Reads so many bytes, says something and closes.
sub close_after {
	my ($size, $text) = @_;
	return sub {
		my ($socket) = @_;
		$socket->read_bytes($size);
		$socket->send($text // '');
	};
}

# The same, with a reset.
sub reset_after {
	my ($size, $text) = @_;
	return sub {
		my ($socket) = @_;
		$socket->read_bytes($size);
		$socket->send($text // '');
		$socket->reset();
	};
}

sub reset_at_once { return reset_after(0) }

# Bytes in which no piece can be mistaken for another: each group of eight says where it is.
sub pattern {
	my ($size) = @_;
	my $groups = int(($size + 7) / 8);
	return substr join('', map { sprintf "%07x\n", $_ } 0 .. $groups), 0, $size;
}

1;
