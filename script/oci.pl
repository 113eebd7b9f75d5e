#!/usr/bin/perl
# Owns the image as a file: a tar that is an image layout of OCI (image-spec 1.0), and at once what
# "docker save" writes, so that every version of "docker load" takes it. The same input gives the same bytes.
#
# oci.pl CONFIG LAYER NAME:TAG SECONDS ARCHITECTURE VERSION REVISION > IMAGE.tar
#
# CONFIG     what the container is run with, as JSON: docker's Healthcheck among it
# LAYER      a tar of the root file system, not compressed

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use IO::Compress::Gzip qw($GzipError);
use JSON::PP;
use POSIX qw(strftime);

my ($config_file, $layer_file, $name, $seconds, $architecture, $version, $revision) = @ARGV;
die "usage: oci.pl CONFIG LAYER NAME:TAG SECONDS ARCHITECTURE VERSION REVISION\n" unless defined $revision;

my $json = JSON::PP->new->canonical->utf8;
my $created = strftime('%Y-%m-%dT%H:%M:%SZ', gmtime $seconds);
my %blobs;

my $layer = read_file($layer_file);
my $diff_id = 'sha256:' . sha256_hex($layer);

IO::Compress::Gzip::gzip(\$layer => \my $packed, -Level => 9, -Minimal => 1) or die "gzip: $GzipError\n";
undef $layer;

my $layer_blob = blob('application/vnd.oci.image.layer.v1.tar+gzip', $packed);
my $config_blob = blob('application/vnd.oci.image.config.v1+json', $json->encode(config()));

my $manifest_blob = blob('application/vnd.oci.image.manifest.v1+json', $json->encode({
    schemaVersion => 2,
    mediaType => 'application/vnd.oci.image.manifest.v1+json',
    config => $config_blob,
    layers => [$layer_blob],
}));

my ($tag) = $name =~ /:([^:\/]+)$/ or die "the image's name has no tag: $name\n";

# What "ctr" and "docker load" call it, and what "skopeo" does.
$manifest_blob->{annotations} = {
    'io.containerd.image.name' => "docker.io/library/$name",
    'org.opencontainers.image.ref.name' => $tag,
};

my %files = (
    'oci-layout' => $json->encode({ imageLayoutVersion => '1.0.0' }),
    'index.json' => $json->encode({
        schemaVersion => 2,
        mediaType => 'application/vnd.oci.image.index.v1+json',
        manifests => [$manifest_blob],
    }),
    'manifest.json' => $json->encode([{
        Config => path_of($config_blob),
        RepoTags => [$name],
        Layers => [path_of($layer_blob)],
    }]),
    %blobs,
);

binmode STDOUT;

print header($_, 0, '5', 0755) foreach 'blobs/', 'blobs/sha256/';

foreach my $file (sort keys %files) {
    my $content = $files{$file};
    print header($file, length $content, '0', 0644), $content, "\0" x (-length($content) % 512);
}

print "\0" x 1024;
close STDOUT or die "can't write the image: $!\n";


sub config {
    my $run = $json->decode(read_file($config_file));

    $run->{Labels}{'org.opencontainers.image.created'} = $created;
    $run->{Labels}{'org.opencontainers.image.version'} = $version;
    $run->{Labels}{'org.opencontainers.image.revision'} = $revision;

    return {
        created => $created,
        architecture => $architecture,
        os => 'linux',
        config => $run,
        rootfs => { type => 'layers', diff_ids => [$diff_id] },
        history => [{ created => $created, created_by => 'make image' }],
    };
}

# Keeps a blob, and returns its descriptor.
sub blob {
    my ($type, $content) = @_;

    my $descriptor = { mediaType => $type, digest => 'sha256:' . sha256_hex($content), size => length $content };
    $blobs{path_of($descriptor)} = $content;

    return $descriptor;
}

sub path_of {
    my ($descriptor) = @_;
    return 'blobs/' . ($descriptor->{digest} =~ s/:/\//r);
}

# A header of ustar, POSIX.1-1988.
sub header {
    my ($path, $size, $type, $mode) = @_;

    my $header = pack 'a100a8a8a8a12a12a8a1a100a6a2a32a32a8a8a155x12',
        $path, octal($mode, 7), octal(0, 7), octal(0, 7), octal($size, 11), octal($seconds, 11), ' ' x 8, $type, '',
        "ustar\0", '00', '', '', octal(0, 7), octal(0, 7), '';

    my $sum = unpack '%32C*', $header;
    substr($header, 148, 8) = sprintf "%06o\0 ", $sum;

    return $header;
}

sub octal {
    my ($number, $digits) = @_;
    return sprintf "%0${digits}o\0", $number;
}

sub read_file {
    my ($file) = @_;

    open my $handle, '<:raw', $file or die "can't open $file: $!\n";
    local $/;

    return scalar <$handle>;
}
