#!/usr/bin/perl

# Tunnels through a parent over TLS are tunnels: the tests of what goes through one and of its ends once more, with every
# tunnel through an HTTPS parent.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

my $is_new = Test::Nginx->new()->has(qw/http http_ssl/)->has_daemon('openssl')->has_version('1.13.0');

plan(skip_all => 'https needs nginx 1.13.0') unless $is_new;
plan(tests => 4);

passes_again("$_.t", 'https') for qw/ half_close reset integrity timeout /;

###############################################################################
