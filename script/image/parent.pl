#!/usr/bin/perl
# Owns the parent of the image's test: it writes down each CONNECT, and refuses it.
#
# parent.pl ADDRESS PORT FILE

use strict;
use warnings;

use IO::Socket::INET;

my $listener = IO::Socket::INET->new(LocalAddr => $ARGV[0], LocalPort => $ARGV[1], Listen => 5, ReuseAddr => 1)
    or die "can't listen on $ARGV[0]:$ARGV[1]: $!\n";

while (my $client = $listener->accept) {
    local $/ = "\r\n\r\n";
    my $request = <$client>;

    open my $file, '>>:raw', $ARGV[2] or die "can't open $ARGV[2]: $!\n";
    print $file $request // '';
    close $file;

    print $client "HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    close $client;
}
