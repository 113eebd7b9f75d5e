package Test::ProxyConnect::Logs;

# Lines of the files that nginx and the test's servers write, as they appear.

use warnings;
use strict;

use base 'Exporter';

use Carp qw/ croak /;

use Test::ProxyConnect::Wait qw/ wait_until /;

our @EXPORT_OK = qw/
	log_lines wait_for_lines wait_for_line access_lines debug_lines log_mark
	pool_blocks
/;

# What an nginx may say of an error in other words than this perl.
my $other_words = qr/Unknown error|Network unreachable|Address not available|Address in use/;

# Where the lines of a file begin that count, see log_mark().
my %mark;

# The lines of a file that match; of error.log unless told. Debug lines are left out: what they
# say is nginx's own business.
sub log_lines {
	my ($t, $pattern, $file) = @_;
	my @lines = grep { !/ \[debug\] / && $_ =~ $pattern } lines_of($t, $file);

	# nginx before 1.19.8 doesn't know how many errors a newer libc has, and then not their words; musl
	# has words of its own. The number is what counts.
	s/\((\d+): $other_words\)/"($1: " . words_of($1) . ')'/ge for @lines;

	return @lines;
}

# The debug lines of error.log that match: for those whose business nginx is.
sub debug_lines {
	my ($t, $pattern) = @_;
	return grep { / \[debug\] / && $_ =~ $pattern } lines_of($t);
}

# The sizes of the blocks, of so many bytes at least, that nginx takes for its pools meanwhile, by its debug log.
sub pool_blocks {
	my ($t, $least, $work) = @_;

	log_mark($t);
	my @held = $work->();

	return grep { $_ >= $least }
		map { /posix_memalign: [0-9A-F]+:(\d+) @/ } debug_lines($t, qr/posix_memalign/);
}

sub lines_of {
	my ($t, $file) = @_;
	my $path = $t->testdir() . '/' . ($file // 'error.log');

	open my $log, '<:raw', $path or return;
	seek $log, $mark{$path} // 0, 0;

	chomp(my @lines = <$log>);
	return @lines;
}

sub words_of {
	my ($errno) = @_;
	local $! = $errno;
	return "$!";
}

# From now on, what is in the file so far no longer counts.
sub log_mark {
	my ($t, $file) = @_;
	my $path = $t->testdir() . '/' . ($file // 'error.log');
	$mark{$path} = -s $path // 0;
	return;
}

# The lines that match, once there are so many.
sub wait_for_lines {
	my ($t, $count, $pattern, $file) = @_;
	$file //= 'error.log';

	my @lines;
	wait_until("There were not $count lines with $pattern in $file", sub {
		@lines = log_lines($t, $pattern, $file);
		return @lines >= $count;
	});

	return @lines;
}

# The first of them.
sub wait_for_line {
	my ($t, $pattern, $file) = @_;
	return (wait_for_lines($t, 1, $pattern, $file))[0];
}

# The lines of an access log, access.log unless told, once there are so many.
sub access_lines {
	my ($t, $count, $file) = @_;
	return wait_for_lines($t, $count, qr/^/, $file // 'access.log');
}

1;
