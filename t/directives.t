#!/usr/bin/perl

# What "nginx -t" says of the directives: which values are taken, and that a refused one is named
# with its directive, its file and its line.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# What a server takes, alone in it beside proxy_connect.
my @good = (
	'proxy_connect_allow all',
	'proxy_connect_allow 443',
	'proxy_connect_allow 443 563 1000-2000 65535',
	'proxy_connect_allow 1-65535',
	'proxy_connect_allow 443 443 400-500',
	(map { ("$_ 10s", "$_ 500ms", "$_ 1m30s", "$_ 7", "$_ 0") } qw/
		proxy_connect_connect_timeout proxy_connect_data_timeout
		proxy_connect_read_timeout proxy_connect_send_timeout
	/),
	'proxy_connect_address 127.0.0.1',
	'proxy_connect_address 127.0.0.1:8443',
	'proxy_connect_address 127.0.0.01',
	'proxy_connect_address [::1]',
	'proxy_connect_address [::1]:8443',
	'proxy_connect_address name.example',
	'proxy_connect_address name.example:8443',
	'proxy_connect_address unix:/tmp/some.sock',
	'proxy_connect_address $connect_host',
	'proxy_connect_address "$connect_host:8443"',
	'proxy_connect_address off',
	'proxy_connect_address ""',
	'proxy_connect_bind 127.0.0.1',
	'proxy_connect_bind 127.0.0.1:10000',
	'proxy_connect_bind ::1',
	'proxy_connect_bind [::1]:10000',
	'proxy_connect_bind $remote_addr',
	'proxy_connect_bind off',
	'proxy_connect_bind ""',
	'proxy_connect_response "HTTP/1.1 200 Fine\r\n\r\n"',
	'proxy_connect_response "HTTP/1.1 200 Fine\r\nX-Addr: $connect_addr\r\n\r\n"',
	'proxy_connect_splice auto',
	'proxy_connect_splice off',
	($^O eq 'linux' ? 'proxy_connect_splice on' : ()),
);

my @timeouts = map { "proxy_connect_${_}_timeout" } qw/ connect data read send /;
my $number = 'invalid number of arguments in';
my $no_port = 'is not a port from 1 to 65535, a range';

# What it refuses, and with which words. The last line is the one that is refused.
my @bad = (
	[ $number => 'proxy_connect on' ],

	[ $number => 'proxy_connect_splice' ],
	[ $number => 'proxy_connect_splice on off' ],
	[ 'it must be "on", "off" or "auto"' => 'proxy_connect_splice always', 'always' ],
	[ 'it must be "on", "off" or "auto"' => 'proxy_connect_splice ""' ],
	[ 'is duplicate' => 'proxy_connect_splice on', 'proxy_connect_splice off' ],
	[ 'is duplicate' => 'proxy_connect' ],

	[ $number => 'proxy_connect_allow' ],
	(map { [ $no_port => "proxy_connect_allow $_", $_ ] }
		qw/ 0 65536 99999999999 https 1- -1 1-2-3 0-10 1-65536 +1 ALL 44x /, '443,563'),
	[ $no_port => 'proxy_connect_allow 443 x', 'x' ],
	[ $no_port => 'proxy_connect_allow ""' ],
	[ 'first port is above its last' => 'proxy_connect_allow 2000-1000', '2000-1000' ],
	[ 'must stand alone' => 'proxy_connect_allow all 443', 'all' ],
	[ 'must stand alone' => 'proxy_connect_allow 443 all', 'all' ],
	[ 'is duplicate' => 'proxy_connect_allow 443', 'proxy_connect_allow 563' ],
	[ 'is duplicate' => 'proxy_connect_allow all', 'proxy_connect_allow all' ],

	(map {
		my $name = $_;
		(
			[ $number => $name ],
			[ $number => "$name 1s 2s" ],
			[ 'is duplicate' => "$name 1s", "$name 1s" ],
			map { [ 'invalid time' => "$name $_", $_ ] } qw/
				soon -1 10x 1.5s 99999999999999999999s $msec
			/
		)
	} @timeouts),
	[ 'proxy_connect_data_timeout' => 'proxy_connect_data_timeout 1s',
		'proxy_connect_read_timeout 1s' ],
	[ 'proxy_connect_read_timeout' => 'proxy_connect_read_timeout 1s',
		'proxy_connect_data_timeout 1s' ],

	[ $number => 'proxy_connect_address' ],
	[ $number => 'proxy_connect_address 127.0.0.1 127.0.0.2' ],
	[ 'is duplicate' => 'proxy_connect_address off', 'proxy_connect_address off' ],
	[ 'is duplicate' => 'proxy_connect_address 127.0.0.1',
		'proxy_connect_address 127.0.0.2' ],
	(map { [ '' => "proxy_connect_address $_", $_ ] } qw/
		127.0.0.1:0 127.0.0.1:65536 127.0.0.1:https 127.0.0.1: [::1 [::1]:0
		[::g] :443 name.example:0 name.example:x http:\/\/name.example\/ unix:
	/),

	[ $number => 'proxy_connect_bind' ],
	[ $number => 'proxy_connect_bind 127.0.0.1 transparent more' ],
	[ 'is duplicate' => 'proxy_connect_bind off', 'proxy_connect_bind off' ],
	[ 'is duplicate' => 'proxy_connect_bind 127.0.0.1',
		'proxy_connect_bind 127.0.0.2 transparent' ],
	[ 'invalid parameter' => 'proxy_connect_bind 127.0.0.1 opaque', 'opaque' ],
	[ 'invalid parameter' => 'proxy_connect_bind off transparent', 'transparent' ],
	(map { [ 'invalid address' => "proxy_connect_bind $_", $_ ] } qw{
		localhost unix:/tmp/some.sock 300.0.0.1 127.0.0.1:0 127.0.0.1:65536 127.0.0.1:x [::1 127.0.0
	}),

	[ $number => 'proxy_connect_response' ],
	[ $number => 'proxy_connect_response a b' ],
	[ '' => 'proxy_connect_response ""' ],
	[ 'is duplicate' => 'proxy_connect_response a', 'proxy_connect_response b' ],
);

# Where a directive must not stand: around it.
my @contexts = (
	[ 'main' => '%s' ],
	[ 'http' => 'http { %s }' ],
	[ 'location' => 'http { server { location / { %s } } }' ],
	[ 'if' => 'http { server { if ($host) { %s } } }' ],
	[ 'limit_except' => 'http { server { location / { limit_except GET { %s } } } }' ],
);

my @directives = ('proxy_connect', 'proxy_connect_allow all',
	(map { "$_ 1s" } @timeouts), 'proxy_connect_address off',
	'proxy_connect_bind off', 'proxy_connect_response a');

my $t = Test::Nginx->new()->has(qw/http rewrite/);

my @transparent = map { "proxy_connect_bind $_ transparent" } '127.0.0.1', '$remote_addr';

if ($t->has_version('1.11.0')) {
	push @good, @transparent;
} else {
	push @bad, map { [ '"transparent"' => $_ ], [ 'needs nginx 1.11.0' => $_ ] } @transparent;
}

# nginx of 1.19.5 and later wants to be told where to log.
my @log = $t->has_version('1.19.5') ? ('-e', 'error.log') : ();

# Where nginx logs a request unless told.
mkdir $t->testdir() . '/logs';

$t->plan(@good + @bad + @contexts * @directives + 11);

###############################################################################

for my $directive (@good) {
	my ($output) = check($t, $directive);
	is_fine($output, $directive);
}

for (@bad) {
	my ($words, @directives) = @$_;

	# A value that the message must name stands behind the last directive.
	my $value = @directives > 1 && $directives[-1] !~ /^proxy_connect/
		? pop @directives : undef;
	my ($output, $line) = check($t, @directives);
	my ($name) = $directives[-1] =~ /^(\w+)/;

	is_refused($output, $line, join('; ', @directives), $name, $words, $value);
}

for my $directive (@directives) {
	for (@contexts) {
		my ($name, $around) = @$_;
		my ($directive_name) = $directive =~ /^(\w+)/;

		like(check_text($t, sprintf($around, "$directive;") . ' events { }'),
			qr/\[emerg\] .*"$directive_name" directive is not allowed here/,
			"$directive_name in $name");
	}
}

###############################################################################
# Together

my ($output) = check($t, 'proxy_connect_allow 443 563',
	'proxy_connect_connect_timeout 10s', 'proxy_connect_data_timeout 10s',
	'proxy_connect_address off', 'proxy_connect_bind off',
	'proxy_connect_response "HTTP/1.1 200 Fine\r\n\r\n"');
is_fine($output, 'all directives together');

is_fine(check_text($t, <<'EOF'), 'every directive in each of two servers');
events { }
http {
    server {
        proxy_connect;
        proxy_connect_allow 443;
        proxy_connect_data_timeout 1s;
        proxy_connect_response a;
    }
    server {
        proxy_connect;
        proxy_connect_allow 563;
        proxy_connect_read_timeout 1s;
        proxy_connect_response b;
    }
}
EOF

is_fine(check_text($t, <<'EOF'), 'directives without proxy_connect');
events { }
http {
    server {
        proxy_connect_allow 443;
        proxy_connect_address 127.0.0.1;
    }
}
EOF

# A directive that does nothing is told so, and no more.
my ($warned, $line) = check($t, 'proxy_connect_send_timeout 10s');
like($warned, qr/\[warn\] .*"proxy_connect_send_timeout".* does nothing.* in \S+:$line$/m,
	'proxy_connect_send_timeout: a warning');
like($warned, qr/syntax is ok/, 'proxy_connect_send_timeout: and no more');
unlike($output, qr/\[warn\]/, 'no warning without it');

like((check($t, "proxy_connect_$_ \$no_such_variable"))[0],
	qr/\[emerg\] .*unknown "no_such_variable" variable/,
	"proxy_connect_$_: an unknown variable") for qw/ address bind response /;

# The module's variables that can't be set, and one that can.
like((check($t, 'set $connect_addr a'))[0], qr/\[emerg\] .*"connect_addr" variable/,
	'set $connect_addr: refused');
is_fine((check($t, 'set $proxy_connect_data_timeout 1s'))[0],
	'set $proxy_connect_data_timeout');

###############################################################################

# What nginx says of directives in a server with proxy_connect, and the line of the last one.
sub check {
	my ($t, @directives) = @_;
	my $text = join '', "events { }\nhttp {\nserver {\nproxy_connect;\n",
		(map { "$_;\n" } @directives), "}\n}\n";

	return (check_text($t, $text), 4 + @directives);
}

sub check_text {
	my ($t, $text) = @_;

	# The globals take one line, so that the others keep their numbers.
	my $globals = $t->test_globals() =~ s/\n/ /gr;
	$t->write_file('check.conf', $globals . $text);

	open my $output, '-|', 'sh', '-c', 'exec "$@" 2>&1', 'sh', $Test::Nginx::NGINX,
		'-t', '-p', $t->testdir() . '/', '-c', 'check.conf', @log
		or die "Can't run nginx: $!\n";
	local $/;
	return <$output>;
}

sub is_fine {
	my ($output, $name) = @_;
	return ok($output =~ /syntax is ok/ && $output !~ /emerg|alert|crit|error\]/, $name)
		|| diag($output);
}

sub is_refused {
	my ($output, $line, $name, $directive, $words, $value) = @_;
	my ($message) = $output =~ /^(.*\[emerg\].*)$/m;
	$message //= '';

	my $is_told = $message =~ /check\.conf:$line$/
		&& $message =~ /"$directive"/
		&& index($message, $words) >= 0
		&& (!defined $value || index($message, "\"$value\"") >= 0);

	return ok($is_told && $output !~ /syntax is ok/, $name)
		|| diag("expected $words \"", $value // '', "\", line $line, got:\n$output");
}

###############################################################################
