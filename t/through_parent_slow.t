#!/usr/bin/perl

# Tunnels through a parent are tunnels: the tests of readers that are slow, and of timeouts, once more, with every tunnel
# through an HTTP parent.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

Test::Nginx->new()->has(qw/http/);
plan(tests => 2);

passes_again("$_.t") for qw/ tunnel timeout /;

###############################################################################
