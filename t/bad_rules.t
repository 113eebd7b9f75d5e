#!/usr/bin/perl

# What "nginx -t" says of lists of addresses and hosts: what is taken, what is refused and what is warned of. Directive,
# value, file and line are named, those of a list in a file too.

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

my @address = ('proxy_connect_allow_address', 'proxy_connect_deny_address');
my @host = ('proxy_connect_allow_host', 'proxy_connect_deny_host');

# What each of the two takes.
my @addresses = (
	'10.0.0.1', '10.0.0.0/8', '0.0.0.0/0', '10.0.0.1/32', '::1', '::/0', '2001:db8::/32', '::ffff:10.0.0.1',
	'::ffff:10.0.0.0/104', 'unix:', 'loopback', 'private', 'linklocal', 'shared', 'multicast', 'reserved', 'self',
	'special', 'all', '10.0.0.0/8 loopback ::1', 'file:addresses', 'file:empty 10.0.0.1', 'file:empty',
	'file:%%TESTDIR%%/addresses',
);

my @hosts = (
	'a.example', 'A.EXAMPLE.', '.a.example', '*.a.example', '~^a', '"~^a{2}[;]"', 'a_b', 'xn--bcher-kva.example',
	'10.0.0.1', '::1', '[::1]', 'a.example .b.example ~c', 'file:hosts', 'file:empty',
);

my $invalid = 'is not an IP address without port and brackets, a CIDR, "unix:", "all", or one of the groups';

# Value, what is said of it, and the value as it is said where that differs.
my @bad_addresses = (
	(map { [ $_ => $invalid ] } '10.0.0', '10.0.0.256', '010.0.0.1', '0x7f.0.0.1', '2130706433', '127.1', '[::1]',
		'10.0.0.1:80', '::g', 'fe80::1%eth0', 'a.example', 'PRIVATE', 'metadata', '*', '/8', 'unix'),
	[ '10.0.0.0/33' => 'has no prefix length from 0 to 32' ],
	[ '10.0.0.0/' => 'has no prefix length from 0 to 32' ],
	[ '10.0.0.0/255.0.0.0' => 'has no prefix length from 0 to 32' ],
	[ '10.0.0.0/-1' => 'has no prefix length from 0 to 32' ],
	[ '::/129' => 'has no prefix length from 0 to 128' ],
	[ 'unix:/run/a.sock' => 'names a single unix socket, write "unix:" for all of them' ],
	[ '""' => $invalid, '' ],
	[ "\xff" => $invalid, '\xff' ],
	[ '10.0.0.1 bad 10.0.0.2' => $invalid, 'bad' ],
);

my @bad_hosts = (
	[ 'all' => 'is no name: without "proxy_connect_allow_host" all of them are allowed, and "~." matches any' ],
	[ "b\xc3\xbccher.example" => 'is an internationalised name, write its A-labels ("xn--...")', 'b\xc3\xbccher.example' ],
	[ 'a.example:443' => 'has a port, which "proxy_connect_allow" is for' ],
	[ '10.0.0.0/8' => 'is a network, which "proxy_connect_allow_address" and "proxy_connect_deny_address" are for' ],
	[ 'https://a.example/' => 'is a URL, write its host only' ],
	[ 'a.*.example' => 'has a "*" elsewhere than in front as "*.", use "~regex"' ],
	[ '*' => 'has a "*" elsewhere' ],
	[ 'a..example' => 'has an empty label' ],
	[ '.' => 'has an empty label' ],
	[ '""' => 'has an empty label', '' ],
	[ 'x' x 64 . '.example' => 'is longer than a name or a label can be' ],
	[ 'a!b' => 'is not a name, ".suffix", "*.suffix", "~regex" or an IP address' ],
	[ '~' => 'has no regular expression behind its "~"' ],
	[ '"~(a"' => 'is no regular expression: pcre', '~(a' ],
	[ 'good.example bad..example' => 'has an empty label', 'bad..example' ],
);

# A line of a file, and what is said of it.
my @bad_lines = (
	[ 0 => '10.0.0.0/33' => 'has no prefix length from 0 to 32' ],
	[ 0 => 'a.example' => $invalid ],
	[ 0 => '10.0.0.1 10.0.0.2' => $invalid ],
	[ 0 => 'file:addresses' => $invalid ],
	[ 1 => 'a.example b.example' => 'is not a name' ],
	[ 1 => 'file:hosts' => 'names a file, which can\'t stand in another one' ],
	[ 1 => '~(a' => 'is no regular expression: pcre' ],
	[ 1 => "b\xc3\xbccher.example" => 'is an internationalised name', 'b\xc3\xbccher.example' ],
);

my @low = ([ '10.0.0.1/8' => '10.0.0.0/8' ], [ '2001:db8::1/32' => '2001:db8::/32' ], [ '1.2.3.4/0' => '0.0.0.0/0' ]);

my $t = Test::Nginx->new()->has(qw/http rewrite/)->plan(2 * (@addresses + @hosts + @bad_addresses + @bad_hosts
	+ @low) + @bad_lines + 43);

$t->write_file('addresses', "# these\n10.0.0.1\nprivate # all of them\n");
$t->write_file('hosts', "# these\na.example\n.b.example # all of them\n~^c#d\n");
$t->write_file('empty', "\n# nothing\n");
mkdir $t->testdir() . "/$_" for qw/ folder logs sub /;

# Newer versions of nginx have a default path for the error log.
###############################################################################
# Values

for my $directive (@address) {
	is_fine((check($t, "$directive " . s/%%TESTDIR%%/$t->testdir()/er))[0], "$directive $_") for @addresses;
	is_refused([ check($t, "$directive $_->[0]") ], $directive, $_->[1], $_->[2] // $_->[0]) for @bad_addresses;

	for (@low) {
		my ($value, $network) = @$_;
		my ($output, $line) = check($t, "$directive $value");
		like($output, qr/\[warn\] .*"\Q$value\E" in the "$directive" directive has low bits set, it is read as \Q$network\E in \S+check\.conf:$line$/m,
			"$directive $value: a warning");
	}
}

for my $directive (@host) {
	is_fine((check($t, "$directive $_"))[0], "$directive $_") for @hosts;
	is_refused([ check($t, "$directive $_->[0]") ], $directive, $_->[1], $_->[2] // $_->[0]) for @bad_hosts;
}

###############################################################################
# Files

for (@bad_lines) {
	my ($kind, $text, $words, $shown) = @$_;
	my $directive = $kind ? $host[0] : $address[1];
	$shown //= $text;

	$t->write_file('bad', "# bad\n\n$text # here\n");
	my ($output, $line) = check($t, "$directive file:bad");
	like($output, qr/\[emerg\] .*"\Q$shown\E" in \S+\/bad:3 of the "$directive" directive \Q$words\E.* in \S+check\.conf:$line$/m,
		"$directive, a file with $shown");
}

$t->write_file('bad', "10.0.0.1/8\n");
my ($output, $line) = check($t, "$address[0] file:bad");
like($output, qr/\[warn\] .*"10\.0\.0\.1\/8" in \S+\/bad:1 of the "$address[0]" directive has low bits set, it is read as 10\.0\.0\.0\/8 in \S+check\.conf:$line$/m,
	'low bits in a file');

for my $directive (@address, @host) {
	is_file_refused([ check($t, "$directive file:none") ], $directive, 'none', 'No such file or directory');
	is_file_refused([ check($t, "$directive file:folder") ], $directive, 'folder', 'Is a directory');
	like((check($t, "$directive file:"))[0], qr/\[emerg\] .*no path behind "file:" in the "$directive" directive/,
		"$directive file:");
	like((check($t, $directive))[0], qr/\[emerg\] .*invalid number of arguments in "$directive" directive/,
		"$directive without values");
}

# The file is looked for beside the configuration, in whatever folder nginx was started.
$t->write_file('sub/here', "10.0.0.1\n");
is_fine((check($t, "$address[0] file:sub/here"))[0], 'a file in a folder');

###############################################################################
# Capital letters

($output, $line) = check($t, "$host[0] ~^A");
like($output, qr/\[warn\] .*"~\^A" in the "$host[0]" directive has capital letters, and names are matched in lower case in \S+check\.conf:$line$/m,
	'capital letters in an expression');
unlike((check($t, "$host[0] ~^\\\\D\\\\S"))[0], qr/\[warn\]/, 'capital letters that are classes');

###############################################################################
# Rules that undo each other

for my $all ('all', '0.0.0.0/0', '::/0', '10.0.0.0/8 all') {
	my ($value) = $all =~ /(\S+)$/;
	my ($output) = check($t, "$address[0] $all", "$host[0] a.example");
	like($output, qr/\[emerg\] .*"\Q$value\E" in the "$address[0]" directive lets any IP address pass that a CONNECT names, in spite of "$host[0]" in \S+check\.conf:6: leave it out/,
		"$address[0] $all beside $host[0]");
}

like(check_text($t, <<"EOF"), qr/\[emerg\] .*in spite of "$host[0]" in \S+check\.conf:3: leave it out/, 'the same, one of http');
events { }
http {
    $host[0] a.example;
    server {
        $address[0] all;
    }
}
EOF

like(check_text($t, <<"EOF"), qr/\[emerg\] .*in spite of "$host[0]" in \S+check\.conf:5: leave it out/, 'the same, the other of http');
events { }
http {
    $address[0] all;
    server {
        $host[0] a.example;
    }
}
EOF

is_fine(check_text($t, <<"EOF"), 'a server with addresses of its own takes none of http');
events { }
http {
    $address[0] all;
    server {
        $address[0] 10.0.0.1;
        $host[0] a.example;
    }
}
EOF

is_fine((check($t, "$address[1] all", "$host[0] a.example"))[0], 'all that is denied');
is_fine((check($t, "$address[0] all", "$host[1] a.example"))[0], 'all, beside hosts that are denied');

###############################################################################
# Rules that do nothing

($output) = check($t, "$address[0] 10.0.0.1", 'proxy_connect_allow all');
like($output, qr/\[warn\] .*"$address[0]" in \S+check\.conf:5 allows what is allowed anyway: no address is denied, put "$address[1] all" behind it/,
	'rules that deny nothing: a warning');
like($output, qr/syntax is ok/, 'rules that deny nothing: and no more');

unlike((check($t, "$address[0] 10.0.0.1", @$_))[0], qr/\[warn\]/, "rules that deny nothing, and $_->[0]")
	for [ "$address[1] all" ], [ "$host[0] a.example" ];

###############################################################################
# Repeated, inherited, and where they may not stand

is_fine((check($t, "$address[0] 10.0.0.1", "$address[1] private", "$address[0] loopback", "$address[1] all",
	"$host[0] a.example", "$host[0] b.example", "$host[1] a.example", "$host[1] ~b"))[0], 'several of each');

like((check($t, 'proxy_connect_allow_upstream $a_b'))[0], qr/\[emerg\] .*unknown "a_b" variable/,
	'proxy_connect_allow_upstream, an unknown variable');
like((check($t, 'proxy_connect_allow_upstream 1', 'proxy_connect_allow_upstream 1'))[0],
	qr/\[emerg\] .*"proxy_connect_allow_upstream" directive is duplicate/, 'proxy_connect_allow_upstream twice');
is_fine((check($t, 'proxy_connect_allow_upstream $proxy_connect_last_addr "" a$host'))[0],
	'proxy_connect_allow_upstream');
like((check($t, 'set $proxy_connect_last_addr a'))[0], qr/\[emerg\] .*"proxy_connect_last_addr" variable/,
	'set $proxy_connect_last_addr: refused');

for my $directive (@address, @host, 'proxy_connect_allow_upstream') {
	like((check($t, "location / { $directive 10.0.0.1; }"))[0],
		qr/\[emerg\] .*"$directive" directive is not allowed here/, "$directive in location");
}

###############################################################################

sub is_refused {
	my ($check, $directive, $words, $shown) = @_;
	my ($output, $line) = @$check;

	return like($output,
		qr/\[emerg\] .*"\Q$shown\E" in the "$directive" directive \Q$words\E.* in \S+check\.conf:$line$/m,
		"$directive $shown");
}

sub is_file_refused {
	my ($check, $directive, $file, $words) = @_;
	my ($output, $line) = @$check;

	return like($output,
		qr/\[emerg\] .*the file "\S+\/$file" of the "$directive" directive can't be read: $words.* in \S+check\.conf:$line$/m,
		"$directive file:$file");
}

###############################################################################
