package Test::ProxyConnect::Way;

# Owns the question whether the nginx under test runs its rewrite phase for CONNECT: it does, but where it has
# been built with a patch that is not called "rewrite", and whether it has tunnels over HTTP/2. All else is the same
# whatever the core.
#
#   SKIP: {
#       skip NO_REWRITE, 2 unless runs_rewrite($t);

use warnings;
use strict;

use Exporter qw/ import /;
our @EXPORT_OK = qw/ runs_rewrite is_patched NO_REWRITE /;

# Why a test of "set", "if", "return" or "rewrite" of the server is skipped.
use constant NO_REWRITE => 'this core runs no rewrite phase for CONNECT';

# The module tells the log at the start.
sub runs_rewrite {
	my ($t) = @_;
	my ($told) = $t->read_file('error.log') =~ /proxy_connect: ngx_http_proxy_connect_module\/.*?: ((?:the core|CONNECT) .*)/
		or die "The log does not tell how CONNECT reaches the module.\n";

	return $told !~ /, without the rewrite phase/;
}

# Whether the module was built for a core with its patch, asked before nginx runs: the module has the sentence then
# that it says at the start. On that way there are no tunnels over HTTP/2 yet.
sub is_patched {
	my @files = ($ENV{TEST_NGINX_BINARY}, ($ENV{TEST_NGINX_GLOBALS} // '') =~ /load_module\s+(\S+?);/g);

	return scalar grep { read_all($_) =~ /the core is patched for CONNECT/ } @files;
}

sub read_all {
	my ($path) = @_;
	open my $file, '<:raw', $path or die "Can't read $path: $!\n";
	local $/;
	return <$file>;
}

1;
