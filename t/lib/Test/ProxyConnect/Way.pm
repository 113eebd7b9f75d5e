package Test::ProxyConnect::Way;

# Owns the question by which way CONNECT reaches the module in the nginx under test: where the core
# itself decides, a test says so by the name of the way.

use warnings;
use strict;

use Exporter qw/ import /;
our @EXPORT_OK = qw/ way /;

my %lines = (
	patched => 'the core is patched for CONNECT',
	native => 'the core parses CONNECT',
	stock => 'CONNECT is shown to the core in absolute-form',
);

# patched, native or stock, as the module told the log at the start.
sub way {
	my ($t) = @_;
	my $log = $t->read_file('error.log');

	for my $way (keys %lines) {
		return $way if $log =~ /proxy_connect: \Q$lines{$way}\E/;
	}

	die "The log does not tell how CONNECT reaches the module.\n";
}

1;
