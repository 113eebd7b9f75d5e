package Test::ProxyConnect::Browser;

# Owns Chromium as a client of a proxy: where it is, its options, how long it may take, and its end.

use warnings;
use strict;

use base 'Exporter';

use File::Path qw/ remove_tree /;
use Test::More ();

our @EXPORT = qw/ chromium_or_skip browser_options patiently end_browser /;

# How long, in seconds, the browser may take for a page.
use constant PATIENCE => 60;

# The program. The test is skipped where there is none.
sub chromium_or_skip {
	my ($program) = grep { -x } map { my $name = $_; map { "$_/$name" } split /:/, $ENV{PATH} }
		qw/ chromium chromium-browser google-chrome google-chrome-stable /;
	Test::More::plan(skip_all => 'no Chromium found') unless $program;
	return $program;
}

# A profile of its own, and nothing that browsers do beside what they are asked for.
sub browser_options {
	my ($t, $proxy) = @_;

	return ("--proxy-server=$proxy", "--user-data-dir=" . profile($t),
		'--no-sandbox', '--ignore-certificate-errors', '--disable-gpu', '--disable-quic',
		'--disable-dev-shm-usage', '--no-first-run', '--disable-background-networking',
		'--disable-component-update', '--disable-sync', '--disable-extensions');
}

# What the work comes to, nothing where the browser takes too long or fails: the test's output tells.
sub patiently {
	my ($t, $work) = @_;

	my @done = eval {
		local $SIG{ALRM} = sub { die "The browser took more than " . PATIENCE . " s\n" };
		alarm PATIENCE;
		my @done = $work->();
		alarm 0;
		@done;
	};
	Test::More::diag($@, $t->read_file('browser.log')) if $@;

	return @done;
}

# Ends the browser, which leads a group of processes.
sub end_browser {
	my ($t, $pid) = @_;

	kill 'KILL', -$pid;
	waitpid $pid, 0;
	remove_tree(profile($t));
	return;
}

sub profile { return $_[0]->testdir() . '/profile' }

1;
