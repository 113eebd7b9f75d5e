package Test::ProxyConnect::Socket;

# One end of a connection, a client's or an upstream's: it sends, reads up to a mark, and ends
# with an end of file or with a reset. Whatever it waits for has a deadline.

use warnings;
use strict;

use Carp qw/ croak /;
use Errno qw/ EAGAIN EINTR EWOULDBLOCK /;
use IO::Socket;
use Socket qw/
	IPPROTO_TCP SHUT_WR SOL_SOCKET SO_LINGER SO_RCVBUF SO_SNDBUF TCP_NODELAY
/;
use Time::HiRes ();

use Test::ProxyConnect::Wait qw/ deadline left TIME /;

use constant CHUNK => 65536;

# Who has nobody left to send to hears of it where he sends. TLS sends wherever it likes, when it goes too.
$SIG{PIPE} = 'IGNORE';

# With "patience", the seconds that a wait may take.
sub new {
	my ($class, $handle, %options) = @_;

	$handle->blocking(0);
	setsockopt $handle, IPPROTO_TCP, TCP_NODELAY, 1;

	return bless {
		handle => $handle,
		input => '',
		received => 0,
		ending => undef,
		patience => $options{patience} // TIME,
	}, $class;
}

sub handle { return $_[0]{handle} }

# How many bytes came in so far.
sub received { return $_[0]{received} }

# "127.0.0.1:443", "[::1]:443", or "unix:".
sub peer { return address($_[0]{handle}, 'peer') }
sub local { return address($_[0]{handle}, 'sock') }

sub address {
	my ($handle, $side) = @_;
	my ($host, $port) = map { "$side$_" } qw/ host port /;

	return 'unix:' unless $handle->can($host);

	# One that was reset already has no peer.
	my @address = map { $handle->$_() // '' } $host, $port;
	return join ':', $address[0] =~ /:/ ? "[$address[0]]" : $address[0], $address[1];
}

###############################################################################
# Sending

sub send {
	my ($self, $bytes) = @_;
	my $deadline = deadline($self->{patience});
	my $sent = 0;

	while ($sent < length $bytes) {
		my $n = $self->{handle}->syswrite($bytes, CHUNK, $sent);

		if (defined $n) {
			$sent += $n;
		} else {
			$self->may_go_on('send') or croak "Can't send: $!\n";
			$self->wait_for('write', $deadline)
				or croak "Only $sent bytes of " . length($bytes)
					. " could be sent within $self->{patience} s\n";
		}
	}

	return $self;
}

# Sends pieces of that size, each in a packet of its own as far as the system lets us.
sub send_in_pieces {
	my ($self, $bytes, $size, $pause) = @_;

	for my $piece (unpack "(a$size)*", $bytes) {
		$self->send($piece);
		Time::HiRes::sleep($pause // 0.001);
	}

	return $self;
}

###############################################################################
# Reading

sub read_bytes {
	my ($self, $size) = @_;
	$self->read_while(sub { length $self->{input} < $size }, "$size bytes");
	return substr $self->{input}, 0, $size, '';
}

# The header of an answer, the empty line included.
sub read_header {
	my ($self) = @_;
	$self->read_while(sub { $self->{input} !~ /\x0d\x0a\x0d\x0a/ }, 'a header');
	$self->{input} =~ s/^(.*?\x0d\x0a\x0d\x0a)//s;
	return $1;
}

# What comes until the connection ends; ending() then tells how.
sub read_to_end {
	my ($self) = @_;
	my $deadline = deadline($self->{patience});

	1 while $self->more($deadline);
	$self->{ending}
		or croak "The connection did not end within $self->{patience} s, after "
			. length($self->{input}) . " bytes\n";

	return substr $self->{input}, 0, length $self->{input}, '';
}

# The next bytes, whatever they are; undef at the end.
sub read_some {
	my ($self) = @_;

	$self->more(deadline($self->{patience})) if $self->{input} eq '';
	return undef if $self->{input} eq '' && $self->{ending};
	return substr $self->{input}, 0, length $self->{input}, '';
}

# How the connection ended: "eof" or "reset". What comes before that is dropped.
sub ending {
	my ($self) = @_;
	$self->read_to_end() unless $self->{ending};
	return $self->{ending};
}

# Whether nothing comes, no end either, for so long.
sub is_quiet {
	my ($self, $seconds) = @_;
	return $self->{input} eq '' && !$self->{ending}
		&& !$self->more(deadline($seconds)) && !$self->{ending};
}

sub read_while {
	my ($self, $lacks, $what) = @_;
	my $deadline = deadline($self->{patience});

	while ($lacks->()) {
		next if $self->more($deadline);
		my $why = $self->{ending} ? "came before the $self->{ending}"
			: "came within $self->{patience} s";
		croak "Not $what $why, but only \""
			. substr($self->{input}, 0, 200) . "\"\n";
	}
}

# Reads once. False at the end of the connection and at the deadline.
sub more {
	my ($self, $deadline) = @_;

	until ($self->{ending}) {
		my $n = $self->{handle}->sysread($self->{input}, CHUNK,
			length $self->{input});

		if ($n) {
			$self->{received} += $n;
			return 1;
		}

		if (defined $n) {
			$self->{ending} = 'eof';
		} elsif (!$self->may_go_on()) {
			$self->{ending} = 'reset';
		} elsif (!$self->wait_for('read', $deadline)) {
			return 0;
		}
	}

	return 0;
}

sub may_go_on {
	return $! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR;
}

sub wait_for {
	my ($self, $event, $deadline) = @_;
	my $bits = '';
	vec($bits, fileno $self->{handle}, 1) = 1;

	my ($reads, $writes) = $event eq 'read' ? ($bits, undef) : (undef, $bits);
	my $found = select $reads, $writes, undef, left($deadline);
	return $found > 0 || ($found < 0 && $! == EINTR);
}

###############################################################################
# TLS, and the end

sub start_tls {
	my ($self, %options) = @_;
	require IO::Socket::SSL;

	$self->{handle}->blocking(1);
	IO::Socket::SSL->start_SSL(
		$self->{handle},
		SSL_verify_mode => IO::Socket::SSL::SSL_VERIFY_NONE(),
		Timeout => $self->{patience},
		%options
	) or croak 'No TLS: ' . IO::Socket::SSL::errstr() . "\n";
	$self->{handle}->blocking(0);

	return $self;
}

# No byte more will be sent; reading goes on.
sub half_close {
	my ($self) = @_;
	shutdown $self->{handle}, SHUT_WR or croak "Can't shut down: $!\n";
	return $self;
}

sub close {
	my ($self) = @_;
	CORE::close $self->{handle};
	return;
}

# Ends the connection with a reset.
sub reset {
	my ($self) = @_;
	setsockopt $self->{handle}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0
		or croak "Can't set SO_LINGER: $!\n";

	# Over TLS no close_notify may go out.
	$self->{handle}->can('get_cipher')
		? $self->{handle}->close(SSL_no_shutdown => 1)
		: CORE::close $self->{handle};
	return;
}

# Makes the system's buffers small, so that they are full soon.
sub shrink_buffers {
	my ($self, $size) = @_;
	setsockopt $self->{handle}, SOL_SOCKET, $_, $size for SO_RCVBUF, SO_SNDBUF;
	return $self;
}

1;
