package Test::ProxyConnect::Client;

# Clients of nginx: plain or TLS, over IPv4, IPv6 or a unix socket, with PROXY protocol in front
# or not; and the CONNECT requests that they send.

use warnings;
use strict;

use base 'Exporter';

use Carp qw/ croak /;
use IO::Socket::IP;
use IO::Socket::UNIX;

use Test::Nginx qw/ port /;
use Test::ProxyConnect::Socket;
use Test::ProxyConnect::Wait qw/ TIME /;

our @EXPORT_OK = qw/
	client tunnel connect_request exchange header_of status_of body_of certificate
/;

# A connection to nginx. Options:
#
#   port    a port, port(8080) unless told
#   host    an address, 127.0.0.1 unless told
#   local   the client's own address
#   path    a unix socket instead
#   proxy   a line of PROXY protocol to send first
#   tls     1, or options of IO::Socket::SSL
sub client {
	my (%options) = @_;

	return over_http2(%options) if $ENV{TEST_NGINX_HTTP2};

	my $socket = Test::ProxyConnect::Socket->new(open_handle(%options));
	$socket->send($options{proxy}) if defined $options{proxy};

	if (my $tls = $options{tls}) {
		$socket->start_tls(ref $tls ? %$tls : ());
	}

	return $socket;
}

# Its tunnel is a stream of HTTP/2.
sub over_http2 {
	my (%options) = @_;
	require Test::ProxyConnect::OverHTTP2;
	local $ENV{TEST_NGINX_HTTP2};
	return Test::ProxyConnect::Socket->new(Test::ProxyConnect::OverHTTP2::handle(%options));
}

sub open_handle {
	my (%options) = @_;

	if (defined $options{path}) {
		return IO::Socket::UNIX->new(Peer => $options{path})
			|| croak "Can't connect to $options{path}: $!\n";
	}

	return IO::Socket::IP->new(
		PeerHost => $options{host} // '127.0.0.1',
		PeerPort => $options{port} // port(8080),
		Timeout => TIME,
		defined $options{local} ? (LocalHost => $options{local}) : (),
	) || croak "Can't connect to nginx: $@\n";
}

# A CONNECT request. The fields follow the line; without a Host among them there is one that says
# what the line says.
sub connect_request {
	my ($authority, @fields) = @_;

	unshift @fields, "Host: $authority" unless grep { /^Host:/i } @fields;
	return join "\x0d\x0a", "CONNECT $authority HTTP/1.1", @fields, '', '';
}

# A client whose tunnel stands: what it sends goes to the upstream. "early" is sent right behind
# the request, "fields" are lines of the header.
sub tunnel {
	my ($authority, %options) = @_;
	my $socket = client(%options);

	$socket->send(connect_request($authority, @{$options{fields} // []})
		. ($options{early} // ''));

	my $header = $socket->read_header();
	croak "No tunnel, but \"$header\"\n" unless status_of($header) eq 200;

	return $socket;
}

# Sends bytes over a connection of their own, and returns all that comes until it ends.
sub exchange {
	my ($bytes, %options) = @_;
	my $socket = client(%options);

	$socket->send($bytes);
	my $answer = $socket->read_to_end();
	$socket->close();

	return $answer;
}

###############################################################################
# Answers

# The status of an answer, '' when there is none.
sub status_of {
	my ($answer) = @_;
	return ($answer // '') =~ m!^HTTP/1\.[01] (\d{3})\b! ? $1 : '';
}

# The value of a header field of an answer, undef when it isn't there.
sub header_of {
	my ($answer, $name) = @_;
	my ($header) = split /\x0d\x0a\x0d\x0a/, $answer, 2;
	return $header =~ /^\Q$name\E:[ ]*(.*?)\x0d?$/mi ? $1 : undef;
}

sub body_of {
	my ($answer) = @_;
	return (split /\x0d\x0a\x0d\x0a/, $answer, 2)[1];
}

###############################################################################

# Makes NAME.crt and NAME.key in the test's folder.
sub certificate {
	my ($t, $name) = @_;
	my $file = $t->testdir() . "/$name";

	system('openssl', 'req', '-x509', '-newkey', 'ec',
		'-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
		'-subj', "/CN=$name", '-addext', "subjectAltName=DNS:$name",
		'-keyout', "$file.key", '-out', "$file.crt",
		'-config', openssl_conf($t)) == 0
		or croak "Can't make a certificate with openssl\n";

	return;
}

# openssl would otherwise say how it makes the key.
sub openssl_conf {
	my ($t) = @_;
	$t->write_file('openssl.conf',
		"[ req ]\ndistinguished_name = name\n[ name ]\n");
	return $t->testdir() . '/openssl.conf';
}

1;
