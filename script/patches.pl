#!/usr/bin/perl
# Owns the making of one patch: reads patch/source/connect.edits, makes its insertions in the source
# of one nginx, and prints the difference; or writes the changed files below a folder.
#
# usage: patches.pl EDITS TREE rewrite|skip [FOLDER]

use warnings;
use strict;

use File::Basename qw/ dirname /;
use File::Path qw/ make_path /;
use File::Temp qw/ tempdir /;

my ($edits, $tree, $mode, $folder) = @ARGV;
die "usage: patches.pl EDITS TREE rewrite|skip [FOLDER]\n" unless $mode;

my %changed;
$changed{$_->{file}} = insert($_, $changed{$_->{file}} // source($_)) for
    grep { -e "$tree/$_->{file}" || !$_->{optional} } edits($edits);

print difference($_, $changed{$_}) for sort keys %changed;

###############################################################################

# The insertions: { file, optional, if => [...], steps => [[where, text], ...], insert }

sub edits {
    my ($path) = @_;
    my (@edits, $file, $optional, $edit, $text);

    for my $line (lines($path)) {
        if ($line =~ /^#(?! ?(if|else|endif|define))/ && !defined $text) {
            next;

        } elsif ($line =~ /^\@ file (\S+)( if there)?$/) {
            ($file, $optional, $edit, $text) = ($1, $2, undef, undef);

        } elsif ($line =~ /^\@ (if|in) (.+?)$/ || $line =~ /^\@ (after|before)$/) {
            if (!$edit || defined $edit->{insert}) {
                $edit = { file => $file, optional => $optional, if => [], steps => [] };
                push @edits, $edit;
            }

            my ($word, $value) = ($1, $2);
            undef $text;

            if ($word eq 'if') {
                push @{$edit->{if}}, $value;

            } else {
                push @{$edit->{steps}}, [$word, $value // ''];
                $text = \$edit->{steps}[-1][1] if $word ne 'in';
            }

        } elsif ($line eq "\@ insert\n") {
            $edit->{insert} = '';
            $text = \$edit->{insert};

        } elsif ($line =~ /^\@/) {
            die "$path: not understood: $line";

        } elsif (defined $text) {
            $$text .= $line;

        } elsif ($line =~ /\S/) {
            die "$path: a line that belongs to nothing: $line";
        }
    }

    return @edits;
}

sub insert {
    my ($edit, $source) = @_;

    return $source unless wanted($edit, source($edit));

    my $at = 0;

    for my $step (@{$edit->{steps}}) {
        my ($where, $anchor) = @$step;
        my $found;

        if ($where eq 'in') {
            pos($source) = $at;
            $found = $source =~ /^\Q$anchor\E/mg ? $-[0] : -1;

        } else {
            my $lines = "\n$anchor";
            $found = index($source, $lines, $at ? $at - 1 : 0);
            $found += 1 if $found >= 0;
            $found += length($anchor) if $found >= 0 && $where eq 'after';
        }

        die "$tree/$edit->{file}: no place $where: $anchor\n" if $found < 0;
        $at = $found;
    }

    substr($source, $at, 0) = $edit->{insert};
    return $source;
}

sub wanted {
    my ($edit, $original) = @_;

    for my $condition (@{$edit->{if}}) {
        return 0 unless
            $condition =~ /^has (.+)/ ? index($original, $1) >= 0
            : $condition =~ /^lacks (.+)/ ? index($original, $1) < 0
            : $condition eq 'rewrite skipped' ? $mode eq 'skip'
            : die "not understood: if $condition\n";
    }

    return 1;
}

sub difference {
    my ($file, $text) = @_;
    my $new = ($folder // tempdir(CLEANUP => 1)) . "/$file";

    make_path(dirname($new));
    open my $out, '>', $new or die "$new: $!\n";
    print $out $text;
    close $out or die "$new: $!\n";

    return $folder ? '' : `diff -up --label 'a/$file' --label 'b/$file' '$tree/$file' '$new'`;
}

sub source {
    my ($edit) = @_;
    return join '', lines("$tree/$edit->{file}");
}

sub lines {
    my ($path) = @_;
    open my $in, '<', $path or die "$path: $!\n";
    return <$in>;
}
