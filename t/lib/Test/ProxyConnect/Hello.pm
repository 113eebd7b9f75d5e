package Test::ProxyConnect::Hello;

# Owns ClientHellos (RFC 8446, section 4.1.2): made for a test, or as real clients have sent them.
#
#   hello(name => 'a.example')              in one record
#   hello(name => 'a.example', record => 1) in records of one byte each
#   recorded('chromium')                    see script/client-hellos.pl

use warnings;
use strict;

use base 'Exporter';

use Carp qw/ croak /;
use FindBin;

our @EXPORT = qw/ hello records recorded ALERT /;

# What a client of TLS gets in place of an answer when it is refused: fatal, access_denied.
use constant ALERT => "\x15\x03\x03\x00\x02\x02\x31";

# The longest fragment of a record.
use constant RECORD => 2 ** 14;

# Numbers of extensions.
use constant { SERVER_NAME => 0, ALPN => 16, PADDING => 21, EARLY_DATA => 42,
	VERSIONS => 43, KEY_SHARE => 51, ECH => 0xfe0d };

# A ClientHello. Options:
#
#   name     of server_name; none unless told. A list is several in one extension
#   alpn     a list of protocols
#   size     the length of the message, at least
#   grease   1 for values that no server knows, and the key share of a post-quantum group
#   early    1 where early data are offered
#   ech      1 for an Encrypted Client Hello, of which this is the outer one
#   old      1 for TLS 1.2 and no newer one
#   more     bytes of extensions, behind the others
#   record   the bytes that a record has at most
sub hello {
	my (%options) = @_;
	my @names = ref $options{name} ? @{$options{name}} : $options{name} // ();
	my @alpn = @{$options{alpn} // []};

	my $extensions = join '',
		$options{grease} ? (extension(0x1a1a, ''), extension(KEY_SHARE,
			vector(2, pack('n', 0x11ec) . vector(2, 'k' x 1216)))) : (),
		@names ? extension(SERVER_NAME, vector(2, join '', map { "\0" . vector(2, $_) } @names)) : (),
		@alpn ? extension(ALPN, vector(2, join '', map { vector(1, $_) } @alpn)) : (),
		extension(VERSIONS, vector(1, pack 'n*', $options{grease} ? 0x2a2a : (),
			$options{old} ? () : 0x0304, 0x0303)),
		$options{early} ? extension(EARLY_DATA, '') : (),
		$options{ech} ? extension(ECH, "\0\0\1\0\1\x42" . vector(2, 'e' x 32) . vector(2, 'p' x 208)) : (),
		$options{more} // '';

	my $missing = ($options{size} // 0) - length(message($extensions)) - 4;
	$extensions .= extension(PADDING, "\0" x $missing) if $missing > 0;

	return records(message($extensions), $options{record});
}

sub message {
	my ($extensions) = @_;

	return "\1" . vector(3, join '', "\3\3", 'r' x 32, vector(1, 's' x 32),
		vector(2, pack 'n*', 0x1301, 0x1302, 0xc02f), vector(1, "\0"), vector(2, $extensions));
}

sub extension {
	my ($number, $data) = @_;
	return pack('n', $number) . vector(2, $data);
}

# Data behind its length, of so many bytes.
sub vector {
	my ($width, $data) = @_;
	return substr(pack('N', length $data), 4 - $width) . $data;
}

# A message in records of a handshake.
sub records {
	my ($message, $size) = @_;
	$size //= RECORD;
	return join '', map { "\x16\x03\x01" . vector(2, $_) } unpack "(a$size)*", $message;
}

# What a real client has sent.
sub recorded {
	my ($client) = @_;
	my $file = "$FindBin::Bin/../core/tests/hellos/$client";

	open my $handle, '<:raw', $file or croak "Can't read $file: $!\n";
	local $/;
	return <$handle>;
}

1;
