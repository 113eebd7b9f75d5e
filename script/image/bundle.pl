#!/usr/bin/perl
# Owns what the test changes in the bundle that umoci unpacked: a read-only root file system, the test's network,
# and what the caller asks for.
#
# bundle.pl CONFIG.json [user=UID] [tmp=no] [SOURCE:DESTINATION ...] [VARIABLE=VALUE ...]

use strict;
use warnings;

use JSON::PP;

my ($file, @wishes) = @ARGV;
my $json = JSON::PP->new->canonical->utf8;

open my $in, '<:raw', "$file.unpacked" or die "can't open $file.unpacked: $!\n";
my $config = $json->decode(do { local $/; <$in> });
my $process = $config->{process};
my $tmp = 1;

$config->{root}{readonly} = JSON::PP::true;
$process->{terminal} = JSON::PP::false;
$process->{noNewPrivileges} = JSON::PP::true;
$process->{capabilities} = { map { $_ => [] } qw(bounding effective inheritable permitted ambient) };
@{$config->{linux}{namespaces}} = grep { $_->{type} ne 'network' } @{$config->{linux}{namespaces}};

foreach my $wish (@wishes) {
    if ($wish eq 'tmp=no') {
        $tmp = 0;
    } elsif ($wish =~ /^user=(\d+)$/) {
        @{$process->{user}}{'uid', 'gid'} = ($1 + 0, 0);
    } elsif ($wish =~ /^(\/[^:=]*):(\/[^:]*)$/) {
        push @{$config->{mounts}},
            { source => $1, destination => $2, type => 'bind', options => ['bind', 'ro'] };
    } else {
        push @{$process->{env}}, $wish;
    }
}

if ($tmp) {
    push @{$config->{mounts}}, {
        source => 'tmpfs', destination => '/tmp', type => 'tmpfs',
        options => ['nosuid', 'nodev', 'noexec', 'mode=1777', 'size=16m'],
    };
}

open my $out, '>:raw', $file or die "can't open $file: $!\n";
print $out $json->encode($config);
close $out or die "can't write $file: $!\n";
