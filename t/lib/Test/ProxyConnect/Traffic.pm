package Test::ProxyConnect::Traffic;

# Much traffic through many tunnels at once: each end sends a stream of its own in segments of
# random sizes, then its end of file, and checks what it reads, byte for byte and by a digest.
# Nothing of it is kept in memory.

use warnings;
use strict;

use base 'Exporter';

use Carp qw/ croak /;
use Digest::SHA;
use Time::HiRes qw/ time /;

use Test::ProxyConnect::Wait qw/ deadline left /;

our @EXPORT_OK = qw/ make_block stream_end run_ends /;

# All streams are parts of one block, over and over, each from a place of its own. The length is
# prime, and far beyond what a tunnel may hold in a buffer.
use constant BLOCK => 2 ** 23 - 15;

# The longest segment, a power of two.
use constant LONGEST => 18;

# A reader rests now and then, so that what it does not read is held on the way: one time in so
# many, for so many seconds at most.
use constant { RESTS => 500, REST => 0.02 };

my $block;

# Makes the block with the random numbers that srand() began.
sub make_block {
	$block = pack 'L*', map { int rand 2 ** 32 } 1 .. BLOCK / 4 + 1;
	$block = substr $block, 0, BLOCK;
	$block .= substr $block, 0, 2 ** LONGEST;
	return;
}

# One end of a tunnel: it sends "send" bytes of the stream that begins at "from" in the block, and
# expects "expect" bytes of the one at "at". "finish" sends the end of file.
sub stream_end {
	my ($socket, %options) = @_;

	return {
		%options,
		handle => $socket->handle(),
		socket => $socket,
		sent => 0,
		got => 0,
		segment => 0,
		finished => 0,
		after => 0,
		ending => '',
		rests_until => 0,
		wrong => undef,
		digests => { map { $_ => Digest::SHA->new(256) } qw/ sent got / },
	};
}

# Lets all ends send and read until each has sent all and is at its end of file, or until the time
# is over. Returns for each what became of it.
sub run_ends {
	my ($seconds, @ends) = @_;
	my $deadline = deadline($seconds);
	local $SIG{PIPE} = 'IGNORE';

	while (my @open = grep { !$_->{ending} || !$_->{finished} } @ends) {
		last unless left($deadline);
		my ($readable, $writable) = ready(@open);
		read_segment($_) for @$readable;
		write_segment($_) for @$writable;
	}

	return map { outcome($_) } @ends;
}

sub outcome {
	my ($end) = @_;

	return {
		(map { $_ => $end->{$_} } qw/ number sent got after finished ending wrong error /),
		map { $_ . '_digest' => $end->{digests}{$_}->hexdigest() } qw/ sent got /,
	};
}

# The ends that can be read from, and those that can be written to. TLS may hold bytes that no
# event announces.
sub ready {
	my (@ends) = @_;
	my ($reads, $writes) = ('', '');
	my $now = time();
	my @readers = grep { !$_->{ending} && $_->{rests_until} <= $now } @ends;
	my @writers = grep { !$_->{finished} } @ends;
	my %held = map { $_->{number} => 1 }
		grep { $_->{handle}->can('pending') && $_->{handle}->pending() } @readers;

	vec($reads, fileno $_->{handle}, 1) = 1 for @readers;
	vec($writes, fileno $_->{handle}, 1) = 1 for @writers;

	my $found = select $reads, $writes, undef, %held ? 0 : REST;
	return ([ grep { $held{$_->{number}} } @readers ], []) if $found <= 0;

	return (
		[ grep { $held{$_->{number}} || vec $reads, fileno $_->{handle}, 1 } @readers ],
		[ grep { vec $writes, fileno $_->{handle}, 1 } @writers ],
	);
}

# Sizes of all orders of magnitude.
sub random_size {
	return 1 + int 2 ** rand LONGEST;
}

sub least {
	my ($one, $other) = @_;
	return $one < $other ? $one : $other;
}

sub read_segment {
	my ($end) = @_;
	my $n = $end->{handle}->sysread(my $bytes, random_size());

	return broken($end, 'reading') unless defined $n;
	return $end->{ending} = 'eof' if $n == 0;

	check($end, $bytes) unless defined $end->{wrong};
	$end->{digests}{got}->add($bytes);
	$end->{got} += $n;
	$end->{after} += $n if $end->{finished};
	$end->{rests_until} = time() + rand REST if rand(RESTS) < 1;
	return;
}

# The place of the first byte that is not the one expected. Bytes behind the last are found by
# their number.
sub check {
	my ($end, $bytes) = @_;
	my $expected = substr $block, ($end->{at} + $end->{got}) % BLOCK, length $bytes;
	return if $bytes eq $expected;

	($bytes ^ $expected) =~ /[^\0]/ or croak "A segment is longer than it may be\n";
	$end->{wrong} = $end->{got} + $-[0];
	return;
}

# A segment that was not taken whole is tried again from where it stopped: TLS wants that.
sub write_segment {
	my ($end) = @_;

	$end->{segment} ||= least(random_size(), $end->{send} - $end->{sent});
	return finish($end) unless $end->{segment};

	my $at = ($end->{from} + $end->{sent}) % BLOCK;
	my $n = $end->{handle}->syswrite($block, $end->{segment}, $at);
	return broken($end, 'sending') unless defined $n;

	$end->{digests}{sent}->add(substr $block, $at, $n);
	$end->{sent} += $n;
	$end->{segment} -= $n;
	finish($end) if $end->{sent} == $end->{send};
	return;
}

sub finish {
	my ($end) = @_;
	$end->{finish}->($end->{socket});
	$end->{finished} = 1;
	return;
}

sub broken {
	my ($end, $doing) = @_;
	return if $end->{socket}->may_go_on();
	$end->{error} = "$doing: $!";
	$end->{ending} = 'broken';
	$end->{finished} = 1;
	return;
}

1;
