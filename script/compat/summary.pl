#!/usr/bin/perl
# Owns the judgement on a row of "make compat": reads the TAP of its tests, and tells what failed for
# another reason than the core's age.
#
# usage: summary.pl TAP-FOLDER KNOWN VERSION CORE
# prints: passed|failed; how many tests passed, how many failed, how many failed as is known; how many
# files were skipped

use warnings;
use strict;

my ($folder, $known, $version, $core) = @ARGV;
my @known = known($known);
my ($passed, $failed, $excused, $skipped) = (0, 0, 0, 0);

for my $tap (glob "$folder/*.t") {
    my ($file) = $tap =~ m{([^/]+)$};
    my ($plan, $ran, $bad) = (undef, 0, 0);

    open my $in, '<', $tap or die "$tap: $!\n";
    while (my $line = <$in>) {
        if ($line =~ /^1\.\.(\d+)/) {
            $plan = $1;

        } elsif ($line =~ /^(not )?ok \d+(?: - (.*))?/) {
            $ran++;
            my ($not, $name) = ($1, $2 // '');
            next if $name =~ /# TODO/;

            if (!$not) {
                $passed++;
            } elsif (excused($file, $name)) {
                $excused++;
                $bad++;
            } else {
                $failed++;
                $bad++;
                print STDERR "$file: $name\n";
            }
        }
    }

    $skipped++ if defined $plan && $plan == 0;

    # A test that stopped early, or was killed, or failed at its end.
    my $rc = do { open my $rc, '<', "$tap.rc" or die "$tap.rc: $!\n"; <$rc> + 0 };

    if (!defined $plan || $ran != $plan || ($rc != 0 && !$bad)) {
        if (excused($file, '')) {
            $excused++;
        } else {
            $failed++;
            print STDERR "$file: stopped early, exit code $rc\n";
        }
    }
}

print join(' ', $failed || !$passed ? 'failed' : 'passed', $passed, $failed, $excused, $skipped), "\n";

###############################################################################

sub known {
    my ($path) = @_;
    my @known;

    open my $in, '<', $path or die "$path: $!\n";
    while (my $line = <$in>) {
        next if $line =~ /^#|^\s*$/;
        my ($until, $file, $name) = map { s/^\s+|\s+$//gr } split / \| /, $line;
        push @known, [$until, $file, qr/$name/];
    }

    return @known;
}

sub excused {
    my ($file, $name) = @_;

    for (@known) {
        my ($until, $where, $what) = @$_;
        my $here = $until =~ /^[\d.]+$/ ? number($version) <= number($until) : $until eq $core;
        return 1 if $here && $where eq $file && $name =~ $what;
    }

    return 0;
}

sub number {
    my @part = split /\./, shift;
    return ($part[0] * 1000 + $part[1]) * 1000 + ($part[2] // 0);
}
