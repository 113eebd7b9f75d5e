package Test::ProxyConnect::Through;

# Owns running tests, whatever they are of, with their tunnels through a parent: a further server of the same nginx,
# which has a log of its own. With TEST_NGINX_PARENT=http in the environment any test does so, with https over TLS.

use warnings;
use strict;

use base 'Exporter';

use Test::More ();

use Test::Nginx;
use Test::ProxyConnect::Client qw/ certificate /;
use Test::ProxyConnect::Wait qw/ SHARE /;

our @EXPORT_OK = qw/ passes_again /;

# A test that a file of tests passes with its tunnels through a parent of a kind. Two servers move each byte: a long one
# takes fewer.
sub passes_again {
	my ($file, $kind) = (@_, 'http');
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	local $ENV{TEST_NGINX_PARENT} = $kind;
	local $ENV{TEST_NGINX_SHARE} = 0.05 * SHARE;

	open my $test, '-|', $^X, (map { "-I$_" } @INC), $file or die "Can't run $file: $!\n";
	my @lines = <$test>;
	my $has_ended = close $test;
	my @failed = grep { /^not ok (?!.*# TODO)/ } @lines;

	return Test::More::ok($has_ended && !@failed && grep(/^ok /, @lines), "$file through a parent of $kind")
		|| Test::More::diag(@failed);
}

my $write = \&Test::Nginx::write_file_expand;

sub write_with_parent {
	my ($t, $name, $content) = @_;

	if ($name eq 'nginx.conf') {
		my $is_secure = $ENV{TEST_NGINX_PARENT} eq 'https';
		my $parent = $is_secure ? secure_parent($t) : parent('', 'proxy_connect_pass  http://127.0.0.1:8998;');
		$content =~ s/(%%TEST_GLOBALS_HTTP%%)/$1$parent/;
	}

	return $write->($t, $name, $content);
}

if ($ENV{TEST_NGINX_PARENT}) {
	no warnings 'redefine';
	*Test::Nginx::write_file_expand = \&write_with_parent;
}

sub secure_parent {
	my ($t) = @_;

	# A worker trusts the one that was there when its configuration was read.
	certificate($t, 'parent-of-all') unless -e $t->testdir() . '/parent-of-all.crt';

	return parent(' ssl', <<'EOB');
    proxy_connect_pass                     https://127.0.0.1:8998;
    proxy_connect_ssl_name                 parent-of-all;
    proxy_connect_ssl_trusted_certificate  parent-of-all.crt;
EOB
}

# The parent, and how others go through it.
sub parent {
	my ($ssl, $pass) = @_;

	my $certificate = $ssl && 'ssl_certificate  parent-of-all.crt; ssl_certificate_key  parent-of-all.key;';

	return <<"EOB";

    server {
        listen       127.0.0.1:8998$ssl;
        server_name  parent-of-all;

        $certificate

        error_log   %%TESTDIR%%/parent-error.log;
        access_log  off;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_pass   direct;
    }

    $pass
EOB
}

1;
