package Test::ProxyConnect::TLS;

# Owns the question whether a test that tries plain TCP and TLS can try TLS too: nginx before 1.9.3
# knows no OpenSSL of today, and is built without.
#
#   $t->write_file_expand('nginx.conf', with_tls($t, $conf));
#
#   SKIP: for my $way ([ 'plain' ], [ 'TLS', tls => plain_tls() ]) {
#       my ($name, %options) = @$way;
#       skip NO_TLS, 2 if $options{tls} && !has_tls($t);

use warnings;
use strict;

use Exporter qw/ import /;
our @EXPORT_OK = qw/ has_tls with_tls NO_TLS /;

use constant NO_TLS => 'no http_ssl or IO::Socket::SSL available';

sub has_tls {
	my ($t) = @_;
	return $t->has_module('http_ssl') && eval { require IO::Socket::SSL; 1 } ? 1 : 0;
}

# A configuration without its TLS where there is none.
sub with_tls {
	my ($t, $conf) = @_;
	return has_tls($t) ? $conf : $conf =~ s/^ *(?:listen [^;]* ssl\b[^;]*|ssl_\w+ [^;]*);\n//gmr;
}

1;
