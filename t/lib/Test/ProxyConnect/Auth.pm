package Test::ProxyConnect::Auth;

# Owns credentials, and what asks for them in an answer.

use warnings;
use strict;

use base 'Exporter';

use MIME::Base64 qw/ encode_base64 /;

our @EXPORT = qw/ credentials challenges /;

# The value of a field for a user and a password, by the scheme that is called Basic (RFC 7617).
sub credentials {
	my ($user, $password) = @_;
	return 'Basic ' . encode_base64("$user:$password", '');
}

# The fields of an answer that ask for credentials, in their order.
sub challenges {
	my ($answer) = @_;
	my ($header) = split /\x0d\x0a\x0d\x0a/, $answer, 2;
	return $header =~ /^((?:WWW|Proxy)-Authenticate: .*?)\x0d?$/mg;
}

1;
