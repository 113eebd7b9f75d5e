package Test::ProxyConnect::Status;

# Owns asking the pages of proxy_connect_status and proxy_connect_tunnels.

use warnings;
use strict;

use base 'Exporter';

use JSON::PP;

use Test::ProxyConnect::Client qw/ exchange status_of body_of header_of /;
use Test::ProxyConnect::Wait qw/ wait_until /;

our @EXPORT = qw/ ask counts metrics tunnels wait_for_count /;

# The answer of a path. Options are those of client(), and:
#
#   method   GET unless told
#   accept   what the client takes
#   fields   lines of the header
sub ask {
	my ($path, %options) = @_;
	my $method = delete $options{method} // 'GET';
	my @fields = @{delete $options{fields} // []};
	push @fields, 'Accept: ' . delete $options{accept} if exists $options{accept};
	push @fields, 'Content-Length: 0' if $method eq 'POST';

	return exchange(join("\x0d\x0a", "$method $path HTTP/1.0", 'Host: localhost', @fields, '', ''), %options);
}

# The numbers of a zone, from a path that gives JSON.
sub counts {
	my ($zone, $path, %options) = @_;
	my $answer = ask($path // '/status', accept => 'application/json', %options);
	die "No status, but \"$answer\"\n" unless status_of($answer) eq 200;
	return decode_json(body_of($answer))->{zones}{$zone};
}

# The page of tunnels of a path.
sub tunnels {
	my ($path, %options) = @_;
	my $answer = ask($path // '/tunnels', accept => 'application/json', %options);
	die "No tunnels, but \"$answer\"\n" unless status_of($answer) eq 200;
	return decode_json(body_of($answer));
}

# The metrics of a path that gives the text of Prometheus, by their names with labels.
sub metrics {
	my ($path, %options) = @_;
	my $body = body_of(ask($path // '/metrics', %options));
	return { map { /^([^#\s]\S*(?:\{.*\})?) (\S+)$/ ? ($1 => $2) : () } split /\n/, $body };
}

# Waits until the numbers of a zone, of the page "path", are as "is" wants them, and returns them.
sub wait_for_count {
	my ($zone, $is, %options) = @_;
	my $path = delete $options{path};
	my $counts;
	wait_until('the numbers did not become those', sub { $counts = counts($zone, $path, %options); $is->($counts) });
	return $counts;
}

1;
