#!/usr/bin/perl

# The module tells its version once for each start, at level notice: not each worker, no reload, no test of the
# configuration.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Check;
use Test::ProxyConnect::Worker qw/ renew /;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/);

$t->plan(5)->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

worker_processes 3;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;
        proxy_connect;
    }
}

EOF

# As Cargo.toml has it, of which there is one.
my ($version) = read_all('../Cargo.toml') =~ /^version = "(.*)"$/m;

$t->run();

is(scalar told($t), 1, 'told once by three workers');
like((told($t))[0], qr/\[notice\] .*: proxy_connect: ngx_http_proxy_connect_module\/\Q$version\E for \w+\/[\d.]+: \w/,
	'the version, at level notice');

renew($t);
is(scalar told($t), 1, 'not again by a reload');

is_fine(check_text($t, "events { }\nhttp {\n" . $t->test_globals_http() . "server {\nproxy_connect;\n}\n}\n"),
	'a test of the configuration');
is(scalar told($t), 1, 'not again by a test of it');

###############################################################################

sub told {
	my ($t) = @_;
	return grep { /ngx_http_proxy_connect_module\// } split /\n/, $t->read_file('error.log');
}

sub read_all {
	my ($path) = @_;
	open my $file, '<', $path or die "Can't read $path: $!\n";
	local $/;
	return <$file>;
}

###############################################################################
