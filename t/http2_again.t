#!/usr/bin/perl

# What other files ask of tunnels, of those over HTTP/2: who ends first, resets, timeouts, the integrity of all bytes, many in
# all phases, one that moves all it can beside others, clients that leave, reloads and workers that are killed, and that nothing is
# left behind; the upstream's socket; and the same through parents.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

my $is_new = Test::Nginx->new()->has(qw/http http_ssl http_v2 rewrite socket_ssl stub_status/)->has_version('1.25.1');

plan(skip_all => 'the tests are written for "http2 on", of nginx 1.25.1') unless $is_new;

# The longest first.
my @files = qw/
	timeout abort reset half_close fairness thousand reload race killed integrity leak socket_options
	parents_socks parents names parents_ssl answers proxy_protocol listen auth
/;

# They run others, and take a share of their own.
my @through = qw/ through_parent through_parent_ssl /;

plan(tests => @files + @through);

pass_over_http2(0.01, map { "$_.t" } @files);
pass_over_http2(0.2, map { "$_.t" } @through);

###############################################################################
