package Test::ProxyConnect::Through;

# Owns running tests, whatever they are of, with their tunnels through a parent: a further server of the same nginx,
# which has a log of its own. With TEST_NGINX_PARENT=http in the environment any test does so.

use warnings;
use strict;

use base 'Exporter';

use Test::More ();

use Test::Nginx;
use Test::ProxyConnect::Wait qw/ SHARE /;

our @EXPORT_OK = qw/ passes_again /;

# A test that a file of tests passes with its tunnels through a parent. Two servers move each byte: a long one takes
# fewer.
sub passes_again {
	my ($file) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	local $ENV{TEST_NGINX_PARENT} = 'http';
	local $ENV{TEST_NGINX_SHARE} = 0.05 * SHARE;

	open my $test, '-|', $^X, (map { "-I$_" } @INC), $file or die "Can't run $file: $!\n";
	my @lines = <$test>;
	my $has_ended = close $test;
	my @failed = grep { /^not ok (?!.*# TODO)/ } @lines;

	return Test::More::ok($has_ended && !@failed && grep(/^ok /, @lines), "$file through a parent")
		|| Test::More::diag(@failed);
}

my $write = \&Test::Nginx::write_file_expand;

sub write_with_parent {
	my ($t, $name, $content) = @_;
	$content =~ s/(%%TEST_GLOBALS_HTTP%%)/$1 . parent()/e if $name eq 'nginx.conf';
	return $write->($t, $name, $content);
}

if ($ENV{TEST_NGINX_PARENT}) {
	no warnings 'redefine';
	*Test::Nginx::write_file_expand = \&write_with_parent;
}

sub parent {
	return <<'EOB';

    server {
        listen       127.0.0.1:8998;
        server_name  parent-of-all;

        error_log   %%TESTDIR%%/parent-error.log;
        access_log  off;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_pass   direct;
    }

    proxy_connect_pass  http://127.0.0.1:8998;
EOB
}

1;
