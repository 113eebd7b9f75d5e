#!/usr/bin/perl
# Owns what goes with a file for download: whose code is in it and under which licences, as a text and as an SBOM
# (CycloneDX 1.5), and how it was made (SLSA provenance 1).
#
# papers.pl METADATA FOLDER    METADATA is what "cargo metadata" says for the target; DIST_* tell the rest

use strict;
use warnings;

use Digest::SHA;
use JSON::PP;

my $MODULE = 'ngx_http_proxy_connect_module';

# Where a crate says "OR", the licence that is taken.
my @PREFERRED = ('MIT', 'BSD-2-Clause', 'Apache-2.0');

my ($metadata_file, $folder) = @ARGV;
my $json = JSON::PP->new->canonical->pretty->indent_length(2);

my $metadata = decode_json(read_file($metadata_file));
my %packages = map { $_->{id} => $_ } @{$metadata->{packages}};
my %nodes = map { $_->{id} => $_ } @{$metadata->{resolve}{nodes}};
my ($root) = grep { $packages{$_}{name} eq $MODULE } @{$metadata->{workspace_members}};
my %linked = linked($root);

my @crates = sort { $a->{name} cmp $b->{name} || $a->{version} cmp $b->{version} }
	map { $packages{$_} } grep { $_ ne $root } keys %linked;

my @foreign = grep { $_->{source} } @crates;
my @parts = other_parts();

write_file("$folder/THIRD-PARTY-LICENSES", licences());
write_file("$folder/sbom.cdx.json", $json->encode(sbom()));
write_file("$folder/provenance.json", $json->encode(provenance()));

# What is linked into the module, by the crate: not what only helps to build it.
sub linked {
	my @todo = @_;
	my %seen;

	while (defined(my $id = shift @todo)) {
		next if $seen{$id}++;

		for my $dep (@{$nodes{$id}{deps}}) {
			next unless grep { !defined $_->{kind} } @{$dep->{dep_kinds}};
			next if is_proc_macro($dep->{pkg});
			push @todo, $dep->{pkg};
		}
	}

	return %seen;
}

sub is_proc_macro {
	return grep { grep { $_ eq 'proc-macro' } @{$_->{kind}} } @{$packages{$_[0]}{targets}};
}

# What is no crate of this build, and in the file all the same.
sub other_parts {
	my ($rustc) = $ENV{DIST_RUSTC} =~ /^rustc (\S+)/ or die "no version in \"$ENV{DIST_RUSTC}\"";
	my ($zig) = read_file($ENV{DIST_REQUIREMENTS}) =~ /^ziglang==(\S+)/m or die "no version of zig";

	return (
		{
			name => 'rust-std', version => $rustc, licence => 'MIT OR Apache-2.0', files => [$ENV{DIST_STD_LICENSE}],
			note => "Rust's standard library",
		},
		{
			name => 'libunwind', version => "zig-$zig", licence => 'Apache-2.0 WITH LLVM-exception',
			files => ["$ENV{DIST_ZIG_FOLDER}/lib/libunwind/LICENSE.TXT"], note => "LLVM's, as it comes with zig",
		},
		{
			name => 'nginx', version => $ENV{DIST_NGINX}, licence => 'BSD-2-Clause', files => [$ENV{DIST_NGINX_LICENSE}],
			note => 'macros and inline functions of its headers',
		},
	);
}

# --- licences

sub licences {
	my $text = <<END;
$MODULE $ENV{DIST_VERSION} is under the licence in LICENSE. The file contains code of others, too:

END
	my (%texts, @order);

	for my $part ((map { as_part($_) } @foreign), @parts) {
		$text .= sprintf "  %-18s %-14s %s\n", $part->{name}, $part->{version}, $part->{licence};

		my $found = 0;

		for my $file (@{$part->{files}}) {
			next unless defined $file && -f $file;
			my $licence = plain(read_file($file));
			push @order, $licence unless $texts{$licence};
			push @{$texts{$licence}}, "$part->{name} $part->{version}";
			$found = 1;
		}

		die "there is no text of the licence of $part->{name} $part->{version}\n" unless $found;
	}

	for my $licence (@order) {
		$text .= "\n" . '=' x 78 . "\n" . join(', ', @{$texts{$licence}}) . "\n" . '=' x 78 . "\n\n$licence";
		$text .= "\n" unless $text =~ /\n\z/;
	}

	return $text;
}

sub as_part {
	my ($crate) = @_;
	my ($base) = $crate->{manifest_path} =~ m{^(.*)/};
	my $licence = $crate->{license} // 'see the text';
	my @files = sort glob "$base/{LICEN[CS]E,COPYRIGHT,COPYING,NOTICE}*";

	# One of those to choose from is enough; a notice stays.
	for my $name (map { s/-.*//r } @PREFERRED) {
		my @chosen = grep { m{/LICEN[CS]E-\Q$name\E}i } @files;
		next unless @chosen && $licence =~ / OR |\//;
		@files = (@chosen, grep { m{/(COPYRIGHT|NOTICE)} } @files);
		last;
	}

	return { name => $crate->{name}, version => $crate->{version}, licence => $licence, files => \@files };
}

# The text of a page, as Rust's list of its library's licences is one.
sub plain {
	my ($text) = @_;

	if ($text =~ /<html/i) {
		$text =~ s{<(style|script)\b.*?</\1>}{}gsi;
		$text =~ s{<(br|/p|/h\d|/li|/div|/tr)\b[^>]*>}{\n}gi;
		$text =~ s{<[^>]*>}{}g;
		my %entities = (lt => '<', gt => '>', quot => '"', '#39' => "'", '#x27' => "'", '#x2F' => '/', amp => '&');
		$text =~ s/&(#?\w+);/$entities{$1} \/\/ "&$1;"/ge;
		$text =~ s/[ \t]+$//gm;
		$text =~ s/\n{3,}/\n\n/g;
	}

	return $text;
}

# --- SBOM

sub sbom {
	my $ref = "pkg:generic/$MODULE\@$ENV{DIST_VERSION}";
	my %refs = ($root => $ref);
	my @components;

	for my $crate (@crates) {
		my $component = {
			type => 'library', name => $crate->{name}, version => $crate->{version},
			licenses => [{ expression => $crate->{license} =~ s{/}{ OR }r }], scope => 'required',
		};

		if ($crate->{source}) {
			$refs{$crate->{id}} = $component->{purl} = "pkg:cargo/$crate->{name}\@$crate->{version}";
			my $checksum = checksum($crate);
			$component->{hashes} = [{ alg => 'SHA-256', content => $checksum }] if $checksum;

		} else {
			$refs{$crate->{id}} = "$ref#$crate->{name}";
		}

		$component->{'bom-ref'} = $refs{$crate->{id}};
		push @components, $component;
	}

	for my $part (@parts) {
		push @components, {
			type => 'library', name => $part->{name}, version => $part->{version}, scope => 'required',
			'bom-ref' => "pkg:generic/$part->{name}\@$part->{version}", description => $part->{note},
			purl => "pkg:generic/$part->{name}\@$part->{version}", licenses => [{ expression => $part->{licence} }],
		};
	}

	my @dependencies = map {
		my $id = $_;
		my @on = sort map { $refs{$_->{pkg}} }
			grep { $linked{$_->{pkg}} && grep { !defined $_->{kind} } @{$_->{dep_kinds}} } @{$nodes{$id}{deps}};
		push @on, map { "pkg:generic/$_->{name}\@$_->{version}" } @parts if $id eq $root;
		{ ref => $refs{$id}, dependsOn => \@on }
	} sort { $refs{$a} cmp $refs{$b} } keys %linked;

	return {
		bomFormat => 'CycloneDX', specVersion => '1.5', version => 1,
		serialNumber => 'urn:uuid:' . uuid(join "\n", $ENV{DIST_COMMIT}, $ENV{DIST_NGINX}, $ENV{DIST_TARGET}),
		metadata => {
			timestamp => timestamp($ENV{DIST_EPOCH}),
			component => {
				type => 'library', name => $MODULE, version => $ENV{DIST_VERSION}, 'bom-ref' => $ref, purl => $ref,
				licenses => [{ expression => 'BSD-2-Clause' }],
				hashes => [{ alg => 'SHA-256', content => sum("$folder/$MODULE.so") }],
				properties => [
					{ name => 'nginx:version', value => $ENV{DIST_NGINX} },
					{ name => 'rust:target', value => $ENV{DIST_TARGET} },
				],
			},
		},
		components => \@components, dependencies => \@dependencies,
	};
}

# As Cargo.lock has it.
sub checksum {
	my ($crate) = @_;
	my $lock = read_file('Cargo.lock');

	return $lock =~ /name = "\Q$crate->{name}\E"\nversion = "\Q$crate->{version}\E"\nsource = .*\nchecksum = "(\w+)"/ && $1;
}

# The same for the same, of version 5's form.
sub uuid {
	my $hex = Digest::SHA::sha1_hex($_[0]);

	return join '-', substr($hex, 0, 8), substr($hex, 8, 4), '5' . substr($hex, 13, 3),
		sprintf('%x', hex(substr($hex, 16, 1)) & 3 | 8) . substr($hex, 17, 3), substr($hex, 20, 12);
}

# --- provenance

sub provenance {
	my @tools = map { my ($name, $version, $sum) = /^(\S+)==(\S+) --hash=sha256:(\w+)/; {
		uri => "pkg:pypi/$name\@$version", digest => { sha256 => $sum } } }
		grep { /==/ } split /\n/, read_file($ENV{DIST_REQUIREMENTS});

	return {
		_type => 'https://in-toto.io/Statement/v1',
		subject => [{ name => "$MODULE.so", digest => { sha256 => sum("$folder/$MODULE.so") } }],
		predicateType => 'https://slsa.dev/provenance/v1',
		predicate => {
			buildDefinition => {
				buildType => "$MODULE/make-dist/v1",
				externalParameters => { NGINX => $ENV{DIST_NGINX}, ARCH => $ENV{DIST_ARCH}, LIBC => $ENV{DIST_LIBC} },
				internalParameters => {
					target => $ENV{DIST_TARGET}, profile => 'release', rustflags => $ENV{DIST_RUSTFLAGS},
					configure => $ENV{DIST_CONFIGURE}, sourceDateEpoch => $ENV{DIST_EPOCH} + 0,
					($ENV{DIST_LIBC} eq 'glibc' ? (glibc => $ENV{DIST_GLIBC}) : ()),
				},
				resolvedDependencies => [
					{
						name => $MODULE, digest => { gitCommit => $ENV{DIST_COMMIT} },
						annotations => { version => $ENV{DIST_VERSION}, clean => $ENV{DIST_CLEAN} eq 'true' ? JSON::PP::true : JSON::PP::false },
					},
					{ name => 'Cargo.lock', digest => { sha256 => sum('Cargo.lock') } },
					{ name => "nginx-$ENV{DIST_NGINX}/src", digest => { sha256 => $ENV{DIST_NGINX_SUM} } },
					{ name => $ENV{DIST_RUSTC} }, { name => "headers of $ENV{DIST_OPENSSL}" },
					@tools,
				],
			},
			runDetails => { builder => { id => "$MODULE/script/dist.sh" } },
		},
	};
}

# --- files

sub sum {
	return Digest::SHA->new(256)->addfile($_[0], 'b')->hexdigest;
}

sub timestamp {
	my @t = gmtime $_[0];
	return sprintf '%04d-%02d-%02dT%02d:%02d:%02dZ', $t[5] + 1900, $t[4] + 1, @t[3, 2, 1, 0];
}

sub read_file {
	my ($file) = @_;
	open my $in, '<:raw', $file or die "$file: $!\n";
	local $/;
	return scalar <$in>;
}

sub write_file {
	my ($file, $text) = @_;
	open my $out, '>:raw', $file or die "$file: $!\n";
	print $out $text;
	close $out or die "$file: $!\n";
}
