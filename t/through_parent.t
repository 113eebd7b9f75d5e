#!/usr/bin/perl

# Tunnels through a parent are tunnels: the tests of what goes through one and of its ends once more, with every tunnel
# through an HTTP parent.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

Test::Nginx->new()->has(qw/http/);
plan(tests => 3);

passes_again("$_.t") for qw/ half_close reset integrity /;

###############################################################################
