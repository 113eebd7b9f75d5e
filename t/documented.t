#!/usr/bin/perl

# docs/ has each directive and each variable of the module, and none that there is not, and an index of them; CHANGELOG names each
# directive. What a document links to is there. Each configuration of README and of docs/ is one that nginx takes.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Check;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http access auth_basic limit_conn limit_req realip/);
plan(skip_all => NO_TLS) unless has_tls($t);
plan(skip_all => 'no escape=json') unless $t->has_version('1.11.8');

my %document = map { (s!^\.\./!!r => read_file($_)) } glob('../*.md'), glob '../docs/*.md';
my %configurations = map { ($_ => [ $document{$_} =~ /^```nginx\n(.*?)^```/gms ]) } keys %document;

my $count = 0;
$count += @{$configurations{$_}} for keys %configurations;
$t->plan(8 + keys(%document) + $count);

###############################################################################

my $reference = $document{'docs/directives.md'};
my ($index) = $reference =~ /\A(.*?)^## /ms;

my %directive = map { $_ => 1 } read_file('../src/lib.rs') =~ /ngx_string!\("(\w+)"\)/g;
my %heading = map { $_ => 1 } map { /(proxy_connect\w*)/g } $reference =~ /^## (proxy_connect.*)$/gm;
my %syntax = map { $_ => 1 } $reference =~ /\*\*`(proxy_connect\w*)[^`]*;`\*\*/g;

isnt(scalar(keys %directive), 0, 'there are directives');
is_deeply([ sort keys %syntax ], [ sort keys %directive ], 'the reference has the syntax of each, and of no other');
is_deeply([ sort $index =~ /^- \[(\w+)\]\(#/gm ], [ sort keys %directive ], 'its index each, once');
is_deeply([ grep { !$directive{$_} } sort keys %heading ], [], 'and there is no section of another');
is_deeply([ grep { $document{'CHANGELOG.md'} !~ /`$_`/ } sort keys %directive ], [], 'CHANGELOG names them');

my %variable = map { $_ => 1 } read_file('../src/variables.rs') =~ /"((?:proxy_)?connect_\w+)"/g;
my %row = map { $_ => 1 } $document{'docs/variables.md'} =~ /^\| `\$((?:proxy_)?connect_\w+)` \|/gm;

isnt(scalar(keys %variable), 0, 'there are variables');
is_deeply([ sort keys %row ], [ sort keys %variable ], 'each has a row of the reference, and no other');
is_deeply([ grep { !/^README$/ && $document{'README.md'} !~ m!\]\(docs/$_\.md\)! } map { m!docs/(.*)\.md! } sort keys %document ], [],
	'README leads to each document');

for my $file (sort keys %document) {
	is_deeply([ dangling($file, \%document) ], [], "$file: what it links to is there");
}

###############################################################################

$t->write_file('users', '');
$t->write_file('denied-hosts', '');
mkdir $t->testdir() . '/logs';
certificate($t, 'localhost');

my $format = ($configurations{'docs/egress-guard.md'}[0]);

for my $file (sort keys %configurations) {
	my $number = 0;

	for my $block (@{$configurations{$file}}) {
		is_fine(check_text($t, whole($t, $block)), "$file: configuration " . ++$number);
	}
}

###############################################################################

# Links of a document that lead to no file, or to no section of one.
sub dangling {
	my ($file, $document) = @_;
	my $dir = $file =~ m!^docs/! ? 'docs/' : '';
	my @dangling;

	for my $link ($document->{$file} =~ /\]\((?!https?:)([^)]+)\)/g) {
		my ($path, $section) = $link =~ /^([^#]*)(?:#(.*))?$/;
		my $target = $path eq '' ? $file : "$dir$path" =~ s!^docs/\.\./!!r;

		my $there = -e "../$target";
		$there = grep { anchor($_) eq $section } ($document->{$target} || '') =~ /^#+ (.*)$/gm if $there && defined $section;
		push @dangling, $link unless $there;
	}

	return @dangling;
}

# A block as a whole configuration, with files that are there.
sub whole {
	my ($t, $block) = @_;
	my $dir = $t->testdir();

	$block =~ s!(ssl_\w*certificate(?:_key)?\s+)\S+?(\.crt|\.key);!$1localhost$2;!g;
	$block =~ s!(ssl_(?:client|trusted)_certificate\s+|proxy_connect_ssl_trusted_certificate\s+)\S+;!$1localhost.crt;!g;
	$block =~ s!/var/log/nginx/!$dir/!g;
	$block =~ s!(auth_basic_user_file\s+)\S+;!${1}users;!g;
	$block =~ s!file:\S*?([\w-]+)(;|\s)!file:$dir/$1$2!g;
	$block =~ s!\blisten(\s+)(\d+)(?=[ ;])!listen${1}127.0.0.1:$2!g;
	$block =~ s!^\s*\.\.\.$!!gm;
	$block =~ s!^\s*http2 +on;!!gm unless $t->has_module('http_v2') && $t->has_version('1.25.1');

	return $block if $block =~ /^http \{/m;

	my $is_server = $block =~ /^\s*(?:server|upstream|map|geo|log_format|limit_\w+_zone|proxy_connect_status_zone)\b/m;
	my $guard = $format =~ /log_format  guard/ && $block !~ /log_format  guard/ ? $format : '';
	$block = "server { proxy_connect; location / { $block } }" if $block =~ /^\s*proxy_pass/m && !$is_server;
	$block = "server { proxy_connect; $block }" if !$is_server && $block !~ /^server/m;

	return "events { } http { $guard $block }";
}

sub anchor {
	my ($heading) = @_;
	return lc($heading =~ s/[^\w\s-]//gr) =~ s/\s/-/gr;
}

sub read_file {
	my ($file) = @_;
	open my $handle, '<', $file or die "Can't read $file: $!\n";
	local $/;
	return <$handle>;
}
