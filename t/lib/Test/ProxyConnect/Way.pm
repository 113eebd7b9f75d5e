package Test::ProxyConnect::Way;

# Owns the question by which way CONNECT reaches the module in the nginx under test: where the core
# itself decides, a test says so by the name of the way, or skips what this core does not do:
#
#   SKIP: {
#       skip NO_REWRITE, 2 unless runs_rewrite($t);

use warnings;
use strict;

use Exporter qw/ import /;
our @EXPORT_OK = qw/ way parses_connect runs_rewrite NO_REWRITE /;

# Why a test of "set", "if", "return" or "rewrite" of the server is skipped.
use constant NO_REWRITE => 'this core runs no rewrite phase for CONNECT';

my %lines = (
	patched => 'the core is patched for CONNECT',
	native => 'the core parses CONNECT',
	stock => 'CONNECT is shown to the core in origin-form',
);

# patched, native or stock.
sub way {
	my ($t) = @_;
	my $told = told($t);

	return (grep { $told =~ /^\Q$lines{$_}\E/ } keys %lines)[0];
}

# Whether a CONNECT passes the rewrite phase. It does, but where nginx has been built with a patch
# that is not called "rewrite".
sub runs_rewrite {
	my ($t) = @_;
	return told($t) !~ /, without the rewrite phase/;
}

# What the module told the log at the start.
sub told {
	my ($t) = @_;
	my $ways = join '|', map { quotemeta } values %lines;

	return $1 if $t->read_file('error.log') =~ /proxy_connect: ((?:$ways).*)/;
	die "The log does not tell how CONNECT reaches the module.\n";
}

# Whether the core knows authority-form, be it by a patch that the module leaves alone.
sub parses_connect {
	my ($t) = @_;
	return way($t) ne 'stock' || told($t) =~ /the patch that it carries is left/;
}

1;
