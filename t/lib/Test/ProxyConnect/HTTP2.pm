package Test::ProxyConnect::HTTP2;

# A client of HTTP/2 that says what it is told, frame by frame, and keeps what it hears:
#
#   my $h2 = Test::ProxyConnect::HTTP2->new(port => port(8443));
#   my $id = $h2->connect('127.0.0.1:8081');
#   $h2->status($id);
#   $h2->data($id, 'hello', END_STREAM);
#   $h2->read_to_end($id);
#
# It opens its windows at once, unless "window" says what a stream's is at first, and "connection" what that of all. It speaks TLS, unless "cleartext"
# is set; "behind" are bytes that it sends in one piece with the preface, "pieces"
# the size of the pieces that the preface comes in. Other options are those of client(), "tls" more of TLS.

use warnings;
use strict;

use base 'Exporter';

use Carp qw/ croak /;

use Test::ProxyConnect::Client qw/ client /;
use Test::ProxyConnect::Wait qw/ deadline /;

our @EXPORT_OK = qw/ END_STREAM END_HEADERS PADDED PRIORITY PREFACE block as_frame http2_on /;

use constant PREFACE => "PRI * HTTP/2.0\x0d\x0a\x0d\x0aSM\x0d\x0a\x0d\x0a";

use constant { END_STREAM => 0x1, END_HEADERS => 0x4, PADDED => 0x8, PRIORITY => 0x20 };
use constant { DATA => 0, HEADERS => 1, RST_STREAM => 3, SETTINGS => 4, PING => 6, GOAWAY => 7,
	WINDOW_UPDATE => 8, CONTINUATION => 9 };

use constant LARGE => 0x7fffffff;

sub new {
	my ($class, %options) = @_;
	my ($window, $behind, $pieces) = delete @options{qw/ window behind pieces /};
	my $more = (delete $options{connection} // LARGE) - 65535;
	my %tls = %{delete $options{tls} // {}};
	my $is_clear = delete $options{cleartext};
	my $socket = client($is_clear ? () : (tls => { SSL_alpn_protocols => ['h2'], %tls }), %options);

	my $self = $class->over($socket);
	my $bytes = PREFACE . as_frame(SETTINGS, 0, 0, pack 'nN', 4, $window // LARGE)
		. ($more ? as_frame(WINDOW_UPDATE, 0, 0, pack 'N', $more) : '') . ($behind // '');
	$pieces ? $socket->send_in_pieces($bytes, $pieces) : $socket->send($bytes);
	$self->wait_for('settings', sub { $self->{is_set} });

	return $self;
}

# One that speaks over what it is given, something with the methods of Test::ProxyConnect::Socket, and says nothing by
# itself.
sub over {
	my ($class, $socket) = @_;
	return bless {
		socket => $socket, next => 1, streams => {}, window => 65535, initial => 65535, pings => 0,
	}, $class;
}

# What switches HTTP/2 on in a "listen" directive, without its semicolon.
sub http2_on {
	my ($t) = @_;
	return $t->has_version('1.25.1') ? '; http2 on' : ' http2';
}

###############################################################################
# What it says

sub frame {
	my ($self, $type, $flags, $id, $payload) = @_;
	$self->{socket}->send(as_frame($type, $flags, $id, $payload));
	return $self;
}

sub as_frame {
	my ($type, $flags, $id, $payload) = @_;
	return substr(pack('N', length $payload), 1) . pack('CCN', $type, $flags, $id) . $payload;
}

# A field block: pairs of names and values, as literals that are not indexed.
sub block {
	my $block = '';

	while (my ($name, $value) = splice @_, 0, 2) {
		$block .= "\0" . join '', map { string($_) } $name, $value;
	}

	return $block;
}

sub string {
	my ($text) = @_;
	my $len = length $text;
	return pack('C', $len) . $text if $len < 127;

	my $number = "\x7f";
	for ($len -= 127; $len > 127; $len >>= 7) {
		$number .= chr($len & 0x7f | 0x80);
	}

	return $number . chr($len) . $text;
}

# The number of a new stream.
sub new_stream {
	my ($self) = @_;
	my $id = $self->{next};

	$self->{next} += 2;
	$self->{streams}{$id} = { data => '', window => $self->{initial} };
	return $id;
}

# Sends HEADERS of a block, with flags beside END_HEADERS, and returns the stream.
sub headers {
	my ($self, $block, $flags) = @_;
	my $id = $self->new_stream();
	$self->frame(HEADERS, END_HEADERS | ($flags // 0), $id, $block);
	return $id;
}

sub connect {
	my ($self, $authority, @fields) = @_;
	return $self->headers(block(':method' => 'CONNECT', ':authority' => $authority, @fields));
}

# A tunnel that stands.
sub tunnel {
	my ($self, @arguments) = @_;
	my $id = $self->connect(@arguments);
	my $status = $self->status($id);
	croak "No tunnel, but \"$status\"" unless $status eq 200;
	return $id;
}

sub get {
	my ($self, $path, $host, @fields) = @_;
	return $self->headers(block(':method' => 'GET', ':scheme' => 'https', ':path' => $path,
		':authority' => $host, @fields), END_STREAM);
}

# Sends one DATA frame, whatever the windows are.
sub data {
	my ($self, $id, $bytes, $flags) = @_;
	my $stream = $self->{streams}{$id};
	$_ -= length $bytes for $self->{window}, $stream->{window};
	return $self->frame(DATA, $flags // 0, $id, $bytes);
}

# Sends what the windows have room for, in frames of 16 KiB, and waits for more room.
sub upload {
	my ($self, $id, $bytes, $flags) = @_;
	my $stream = $self->{streams}{$id};

	while (length $bytes) {
		$self->wait_for('room in a window', sub {
			$stream->{window} > 0 && $self->{window} > 0 || defined $stream->{code} || $self->{ending};
		});
		return if defined $stream->{code} || $self->{ending};

		my $len = 16384;
		for ($self->{window}, $stream->{window}, length $bytes) {
			$len = $_ if $_ < $len;
		}

		my $piece = substr $bytes, 0, $len, '';
		$self->data($id, $piece, length $bytes ? 0 : $flags // 0);
	}

	return $self;
}

# Sends until the window of a stream is full, for which it takes an upstream that reads nothing: some of it lies with
# nginx then. How much was sent.
sub fill_window {
	my ($self, $id) = @_;
	my $sent = 0;

	for (1 .. 2000) {
		my $window = $self->ping()->stream($id)->{window};
		last if $window <= 0;
		$window = 16384 if $window > 16384;
		$self->data($id, 'x' x $window);
		$sent += $window;
	}

	return $sent;
}

sub end { return $_[0]->frame(DATA, END_STREAM, $_[1], '') }
sub rst { return $_[0]->frame(RST_STREAM, 0, $_[1], pack 'N', $_[2] // 8) }
sub open_window { return $_[0]->frame(WINDOW_UPDATE, 0, $_[1], pack 'N', $_[2]) }

###############################################################################
# What it hears

sub stream { return $_[0]{streams}{$_[1]} }
sub data_of { return $_[0]{streams}{$_[1]}{data} }

# The status of the answer.
sub status {
	my ($self, $id) = @_;
	my $stream = $self->{streams}{$id};
	$self->wait_for("an answer on stream $id",
		sub { $stream->{status} || defined $stream->{code} || $self->{ending} });
	return $stream->{status} // '';
}

sub field {
	my ($self, $id, $name) = @_;
	$self->status($id);
	return $self->{streams}{$id}{fields}{$name};
}

# So many bytes of a stream.
sub read_bytes {
	my ($self, $id, $size) = @_;
	my $stream = $self->{streams}{$id};
	$self->wait_for("$size bytes on stream $id", sub { length $stream->{data} >= $size });
	return substr $stream->{data}, 0, $size, '';
}

# All bytes up to the end of a stream, however it ends: see ending().
sub read_to_end {
	my ($self, $id) = @_;
	my $stream = $self->{streams}{$id};
	$self->ending($id);
	return substr $stream->{data}, 0, length $stream->{data}, '';
}

# "end", "rst CODE", or that of the connection.
sub ending {
	my ($self, $id) = @_;
	my $stream = $self->{streams}{$id};
	$self->wait_for("the end of stream $id",
		sub { $stream->{has_ended} || defined $stream->{code} || $self->{ending} });
	return $stream->{has_ended} ? 'end'
		: defined $stream->{code} ? "rst $stream->{code}" : $self->{ending};
}

# The code of RST_STREAM, also behind the end.
sub code {
	my ($self, $id) = @_;
	my $stream = $self->{streams}{$id};
	$self->wait_for("RST_STREAM on stream $id", sub { defined $stream->{code} || $self->{ending} });
	return $stream->{code};
}

# How the connection ends: "eof" or "reset", and the code of GOAWAY.
sub closing {
	my ($self) = @_;
	$self->wait_for('the end', sub { $self->{ending} });
	return join ' ', $self->{ending}, $self->{goaway} // ();
}

# Hears all that nginx has said before it heard this.
sub ping {
	my ($self) = @_;
	my $pings = $self->{pings};
	$self->frame(PING, 0, 0, 'proxy_co');
	$self->wait_for('an answer to PING', sub { $self->{pings} > $pings || $self->{ending} });
	return $self;
}

sub wait_for {
	my ($self, $what, $is_there) = @_;
	my $deadline = deadline($self->{socket}{patience});

	until ($is_there->()) {
		next if $self->hear();
		$self->{socket}->more($deadline) and next;
		croak "The connection ended before $what came" if $self->{ending};
		$self->{ending} = $self->{socket}{ending} and next;
		croak "Not $what came within $self->{socket}{patience} s";
	}

	return $self;
}

# Takes one frame. False when none is whole.
sub hear {
	my ($self) = @_;
	my $input = \$self->{socket}{input};
	return 0 if length $$input < 9;

	my ($high, $len, $type, $flags, $id) = unpack 'CnCCN', $$input;
	$len += $high << 16;
	return 0 if length $$input < 9 + $len;

	substr $$input, 0, 9, '';
	$self->take($type, $flags, $id, substr $$input, 0, $len, '');
	return 1;
}

sub take {
	my ($self, $type, $flags, $id, $payload) = @_;
	my $stream = $self->{streams}{$id};

	# What counts as sent: the fields and the data, with the headers of their frames.
	$stream->{octets} += 9 + length $payload if $id && ($type == HEADERS || $type == DATA);

	if ($type == SETTINGS && !($flags & 1)) {
		my %settings = unpack '(nN)*', $payload;
		$self->{initial} = $settings{4} if defined $settings{4};
		$self->{is_set} = 1;
		$self->frame(SETTINGS, 1, 0, '');
	} elsif ($type == PING) {
		$self->{pings}++;
	} elsif ($type == GOAWAY) {
		(undef, $self->{goaway}) = unpack 'NN', $payload;
	} elsif ($type == WINDOW_UPDATE) {
		my $more = unpack 'N', $payload;
		$id ? ($stream->{window} += $more, $stream->{updates} += $more) : ($self->{window} += $more);
	} elsif ($type == RST_STREAM) {
		$stream->{code} = unpack 'N', $payload;
	} elsif ($type == HEADERS) {
		my @fields = fields_of($payload);
		my %fields = @fields;
		@$stream{qw/ lines fields status /} = (\@fields, \%fields, $fields{':status'});
	} elsif ($type == DATA) {
		$stream->{data} .= $payload;
		$stream->{frames}++;
	}

	$stream->{has_ended} = 1 if ($type == DATA || $type == HEADERS) && $flags & END_STREAM;
	return;
}

###############################################################################
# HPACK, as far as nginx uses it: no dynamic table

my @names = (qw/ :authority :method :method :path :path :scheme :scheme /, (':status') x 7,
	qw/ accept-charset accept-encoding accept-language accept-ranges accept
	access-control-allow-origin age allow authorization cache-control content-disposition
	content-encoding content-language content-length content-location content-range content-type
	cookie date etag expect expires from host if-match if-modified-since if-none-match if-range
	if-unmodified-since last-modified link location max-forwards proxy-authenticate
	proxy-authorization range referer refresh retry-after server set-cookie
	strict-transport-security transfer-encoding user-agent vary via www-authenticate /);
my @statuses = qw/ 200 204 206 304 400 404 500 /;

sub fields_of {
	my ($block) = @_;
	my @fields;

	while (length $block) {
		my $first = ord $block;

		if ($first & 0x80) {
			my $index = take_number(\$block, 0x7f);
			push @fields, $names[$index - 1], $statuses[$index - 8] // '';
		} elsif (($first & 0xe0) == 0x20) {
			take_number(\$block, 0x1f);
		} else {
			my $index = take_number(\$block, $first & 0x40 ? 0x3f : 0xf);
			push @fields, $index ? $names[$index - 1] : take_string(\$block);
			push @fields, take_string(\$block);
		}
	}

	return @fields;
}

sub take_number {
	my ($block, $mask) = @_;
	my $number = ord(substr $$block, 0, 1, '') & $mask;
	return $number if $number < $mask;

	for (my $shift = 0; ; $shift += 7) {
		my $byte = ord substr $$block, 0, 1, '';
		$number += ($byte & 0x7f) << $shift;
		return $number unless $byte & 0x80;
	}
}

sub take_string {
	my ($block) = @_;
	my $is_huffman = ord($$block) & 0x80;
	my $string = substr $$block, 0, take_number($block, 0x7f), '';
	return $is_huffman ? decode($string) : $string;
}

# The lengths of the codes of the bytes up to "~"; those of a length follow each other.
my @lengths = (13, 23, (28) x 7, 24, 30, 28, 28, 30, (28) x 8, 30, (28) x 9,
	6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
	5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
	13, 6, (7) x 22, 8, 7, 8, 13, 19, 13, 14, 6,
	15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
	6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13);
my %codes;

{
	my ($code, $len) = (0, 5);

	for my $byte (sort { $lengths[$a] <=> $lengths[$b] || $a <=> $b } 0 .. $#lengths) {
		# Of longer ones there are others between.
		last if $lengths[$byte] > 15;
		$code <<= $lengths[$byte] - $len;
		$len = $lengths[$byte];
		$codes{sprintf "%0${len}b", $code++} = chr $byte;
	}

	# What quotes in a string (RFC 7541, appendix B).
	$codes{sprintf '%019b', 0x7fff0} = '\\';
}

sub decode {
	my ($string) = @_;
	my ($text, $code) = ('', '');

	for my $bit (split //, unpack 'B*', $string) {
		$code .= $bit;
		next unless defined $codes{$code};
		$text .= $codes{$code};
		$code = '';
	}

	return $text;
}

1;
