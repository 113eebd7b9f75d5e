#!/usr/bin/perl

# What other files ask of tunnels, of those over HTTP/2: the integrity of all bytes, and that nothing is left behind.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

my $is_new = Test::Nginx->new()->has(qw/http http_v2 rewrite stub_status/)->has_version('1.25.1');

plan(skip_all => 'the tests are written for "http2 on", of nginx 1.25.1') unless $is_new;
plan(tests => 2);

passes_over_http2("$_.t", 0.01) for qw/ integrity leak /;

###############################################################################
