package Test::ProxyConnect::Check;

# Owns asking "nginx -t" about directives.

use warnings;
use strict;

use base 'Exporter';

use Test::More ();

our @EXPORT = qw/ check check_text is_fine /;

# What nginx says of directives in a server with proxy_connect, and the line of the last one.
sub check {
	my ($t, @directives) = @_;
	my $text = join '', "events { }\nhttp {\nserver {\nproxy_connect;\n",
		(map { "$_;\n" } @directives), "}\n}\n";

	return (check_text($t, $text), 4 + @directives);
}

# What it says of a configuration.
sub check_text {
	my ($t, $text) = @_;

	# The globals take one line, so that the others keep their numbers.
	my $globals = $t->test_globals() =~ s/\n/ /gr;
	$t->write_file('check.conf', $globals . $text);

	# nginx of 1.19.5 and later wants to be told where to log.
	my @log = $t->has_version('1.19.5') ? ('-e', 'error.log') : ();

	open my $output, '-|', 'sh', '-c', 'exec "$@" 2>&1', 'sh', $Test::Nginx::NGINX,
		'-t', '-p', $t->testdir() . '/', '-c', 'check.conf', @log
		or die "Can't run nginx: $!\n";
	local $/;
	return <$output>;
}

sub is_fine {
	my ($output, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return Test::More::ok($output =~ /syntax is ok/ && $output !~ /emerg|alert|crit|error\]/, $name)
		|| Test::More::diag($output);
}

1;
