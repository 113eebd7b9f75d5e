package Test::ProxyConnect::Flight;

# A client of TLS 1.3 that sends early data, and a relay between it and nginx: what the client sends goes
# on record by record, when the test says so. What nginx sends goes on by itself, while the test waits.
#
#   my $flight = flight($t, port(8443), session => FILE, early => BYTES);     and alpn => PROTOCOL
#   $flight->pass($flight->early());      the ClientHello and the early data
#   my ($end, $finished) = $flight->finish();
#   $flight->pass($end);                  the EndOfEarlyData, which are the last that can be replayed
#   $flight->pass($finished);             the client's Finished
#   $flight->open();                      from now on all goes on by itself
#   $flight->read_header();

use warnings;
use strict;

use base 'Exporter';

use Carp qw/ croak /;
use Time::HiRes qw/ time /;

use Test::ProxyConnect::Client qw/ client /;
use Test::ProxyConnect::Program;
use Test::ProxyConnect::Tunnel qw/ listener accept_end /;
use Test::ProxyConnect::Wait qw/ wait_until /;

our @EXPORT = qw/ flight /;

# Types of records (RFC 8446, section 5.1), and what protection adds to the length of one.
use constant { CHANGE_CIPHER_SPEC => 20, APPLICATION_DATA => 23, PROTECTION => 17 };

my $number = 0;

sub flight {
	my ($t, $port, %options) = @_;

	my $listener = listener('127.0.0.1:0');
	my $file = 'early.' . ++$number;
	$t->write_file($file, $options{early});

	my ($program) = piped_program($t, ['openssl', 's_client', '-quiet', '-tls1_3',
		'-connect', '127.0.0.1:' . $listener->sockport(),
		$options{alpn} ? ('-alpn', $options{alpn}) : (),
		'-sess_in', $options{session}, '-early_data', $t->testdir() . "/$file"]);

	return bless {
		program => $program,
		client => accept_end($listener),
		server => client(port => $port),
		early => length $options{early},
	}, __PACKAGE__;
}

# nginx's end of the relay.
sub server { return $_[0]{server} }

###############################################################################
# What the client sends, as bytes of records

# All up to the last of the early data.
sub early {
	my ($self) = @_;
	my ($bytes, $left) = ('', $self->{early});

	while ($left > 0) {
		my ($type, $record) = $self->record();
		$left -= length($record) - 5 - PROTECTION if $type == APPLICATION_DATA;
		$bytes .= $record;
	}

	return $bytes;
}

# Its EndOfEarlyData, and its Finished.
sub finish {
	my ($self) = @_;
	return map { $self->data() } 1 .. 2;
}

# The next record with data.
sub data {
	my ($self) = @_;

	while (1) {
		my ($type, $record) = $self->record();
		return $record if $type == APPLICATION_DATA;
		croak "A record of type $type\n" if $type != CHANGE_CIPHER_SPEC;
	}
}

sub record {
	my ($self) = @_;
	my $client = $self->{client};

	wait_until('No record came from the client', sub {
		$self->answer();
		$client->more(time);

		return length $client->{input} >= 5
			&& length $client->{input} >= 5 + unpack 'x3 n', $client->{input};
	});

	my ($type, $length) = unpack 'C x2 n', $client->{input};
	return ($type, $client->read_bytes(5 + $length));
}

###############################################################################
# What goes on

# Bytes that the client sent, to nginx.
sub pass {
	my ($self, @bytes) = @_;
	$self->{server}->send(join '', @bytes);
	return $self;
}

# No byte more goes to nginx, but the end of file.
sub end {
	my ($self) = @_;
	$self->{server}->half_close();
	return $self;
}

# All that the client sends from now on.
sub open {
	my ($self) = @_;
	$self->{is_open} = 1;
	return $self;
}

# What nginx has sent, to the client.
sub answer {
	my ($self) = @_;
	forward(@{$self}{qw/ server client /});
	return;
}

sub forward {
	my ($from, $to) = @_;

	$from->more(time);
	return if $from->{input} eq '';

	# What has left hears no more.
	eval { $to->send(substr $from->{input}, 0, length $from->{input}, '') };
	return;
}

###############################################################################
# The client's own bytes

# Has it send more, once its handshake is finished.
sub send {
	my ($self, $bytes) = @_;
	$self->{program}->send($bytes);
	return $self;
}

# What it got: a header, or so many bytes.
sub read_header {
	my ($self) = @_;
	$self->wait_for('a header', sub { $_[0] =~ /\x0d\x0a\x0d\x0a/ });
	return $self->{program}->read_header();
}

sub read_bytes {
	my ($self, $size) = @_;
	$self->wait_for("$size bytes", sub { length $_[0] >= $size });
	return $self->{program}->read_bytes($size);
}

# All of it, when nginx has ended the connection.
sub read_to_end {
	my ($self) = @_;

	wait_until('The connection did not end', sub {
		$self->relay();
		return $self->{server}{ending};
	});

	$self->{client}->close();
	return $self->{program}->read_to_end();
}

sub wait_for {
	my ($self, $what, $is_there) = @_;
	my $program = $self->{program};

	wait_until("The client did not get $what", sub {
		$self->relay();
		$program->more(time);
		return $is_there->($program->{input});
	});
}

sub relay {
	my ($self) = @_;
	$self->answer();
	forward(@{$self}{qw/ client server /}) if $self->{is_open};
}

# Leaves: with an end of file, or with a reset.
sub close {
	my ($self, $how) = @_;
	my $leave = $how // 'close';

	$self->{server}->$leave();
	$self->{$_}->close() for qw/ client program /;
	return;
}

1;
