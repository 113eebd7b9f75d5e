#!/usr/bin/perl
# Owns the name server of the image's test: every name has the address 127.0.0.1, and none of IPv6.
#
# name-server.pl ADDRESS PORT

use strict;
use warnings;

use IO::Socket::INET;

my $socket = IO::Socket::INET->new(Proto => 'udp', LocalAddr => $ARGV[0], LocalPort => $ARGV[1])
    or die "can't bind $ARGV[0]:$ARGV[1]: $!\n";

while (defined $socket->recv(my $query, 4096)) {
    my $end = index($query, "\0", 12);
    next if $end < 0;

    my $question = substr $query, 12, $end - 12 + 5;
    my $is_a = unpack('n', substr $question, -4, 2) == 1;

    $socket->send(substr($query, 0, 2) . pack('n5', 0x8180, 1, $is_a ? 1 : 0, 0, 0) . $question
        . ($is_a ? pack('nnnNnC4', 0xc00c, 1, 1, 60, 4, 127, 0, 0, 1) : ''));
}
