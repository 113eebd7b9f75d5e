#!/usr/bin/perl

# A name with several addresses (RFC 8305): the next is tried at once when one fails, and beside it
# when one shows nothing; IPv6 and IPv4 take turns; the connect timeout bounds the whole; the
# variables tell of the address that won, the log of those that did not.

use warnings;
use strict;

use Test::More;
use Time::HiRes qw/ time /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# How often each name is asked for: nginx's resolver turns its addresses by chance.
use constant TIMES => 16;

# After what an attempt is no longer waited for, in seconds, and how late anything may be.
use constant DELAY => 0.25;
use constant LATE => 2;

my $t = Test::Nginx->new()->has(qw/http/)->plan(18)
	->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    resolver  127.0.0.1:%%PORT_8980_UDP%%;

    log_format  ends  "$connect_host $status $connect_addr $proxy_connect_connect_time";
    access_log  %%TESTDIR%%/ends.log ends;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
    }

    server {
        listen       127.0.0.1:8081;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_connect_timeout  600ms;
    }
}

EOF

name_server($t, 8980,
	'hangs.example' => [ '127.0.0.2', '127.0.0.3' ],
	'all-hang.example' => [ '127.0.0.2', '127.0.0.4', '127.0.0.5' ],
	'refuses.example' => [ '127.0.0.6', '127.0.0.3' ],
	'broken.example' => [ '127.0.0.6', '127.0.0.7', '127.0.0.8', '127.0.0.9', '::1' ],
	'hangs-refuses.example' => [ '127.0.0.2', '127.0.0.6' ],
);

$t->run();

my $port = port(8087);
my @queues = map { full_backlog("127.0.0.$_:$port") } 2, 4, 5;

upstream($t, greet("$_."), "$_:$port") for '127.0.0.3', '[::1]';

###############################################################################
# One that shows nothing

my @hung = ask($t, 'hangs.example');

is_deeply([ map { $_->{body} } @hung ], [ ('127.0.0.3') x TIMES ], 'the other address is reached');
is_deeply([ grep { $_->{addr} ne "127.0.0.3:$port" } @hung ], [],
	'$connect_addr tells of it');
cmp_ok((sort map { $_->{seconds} } @hung)[-1], '<', LATE, 'nobody waits for the one that hangs');

my @waited = grep { $_->{connect_time} >= DELAY - 0.01 } @hung;
cmp_ok(scalar @waited, '>', 0, 'some came by it first, and waited the delay');
cmp_ok(scalar @waited, '<', TIMES, 'others did not');
is(scalar log_lines($t, qr/upstream connect \w+.*127\.0\.0\.2:$port/), 0,
	'an attempt that lost is no error');

wait_until('losers are left', sub { knocks($port) == @queues });
pass('and is given up');

###############################################################################
# One that fails

my @refused = ask($t, 'refuses.example');

is_deeply([ map { $_->{body} } @refused ], [ ('127.0.0.3') x TIMES ], 'refused: the next is reached');
cmp_ok((sort map { $_->{connect_time} } @refused)[-1], '<', DELAY, 'refused: at once');

my @told = log_lines($t, qr/proxy_connect: upstream connect failed \(peer:127\.0\.0\.6:$port\)/);
cmp_ok(scalar @told, '>', 0, 'refused: the error log');
cmp_ok(scalar @told, '<', TIMES, 'refused: only where it was tried');

###############################################################################
# IPv6 and IPv4

my $failures = sub { scalar log_lines($t, qr/upstream connect failed \(peer:127\.0\.0\.[6789]:/) };
my @tried;

for (1 .. TIMES) {
	my $before = $failures->();
	my ($answer) = ask($t, 'broken.example', times => 1);
	push @tried, $failures->() - $before;
	is($answer->{body}, asks_for_ipv6($t) ? '[::1]' : '',
		'four addresses lead nowhere: the fifth is reached') if $_ == 1;
}

is(scalar(grep { $_ > (asks_for_ipv6($t) ? 1 : 4) } @tried), 0,
	'families take turns: one attempt for nothing at most');

###############################################################################
# None

log_mark($t);
my ($late) = ask($t, 'all-hang.example', times => 1, port => port(8081));

is($late->{status}, 504, 'all hang: the status');
cmp_ok($late->{seconds}, '>=', 0.59, 'all hang: the whole connect timeout');
cmp_ok($late->{seconds}, '<', 0.59 + LATE, 'all hang: but no more than one');
is(scalar log_lines($t, qr/proxy_connect: upstream connect timed out \(peer:127\.0\.0\.[245]:$port\)/),
	3, 'all hang: a line for each that was tried');

my ($mixed) = ask($t, 'hangs-refuses.example', times => 1, port => port(8081));
is($mixed->{status}, 504, 'one refuses, one hangs: the status');

###############################################################################

# Asks for a name again and again: what the client got, and what the access log says.
sub ask {
	my ($t, $name, %options) = @_;
	my @answers;

	for (1 .. $options{times} // TIMES) {
		log_mark($t, 'ends.log');
		my $begin = time();
		my $body = greeting("$name:$port", $options{port} // port(8080));
		my $seconds = time() - $begin;
		my $line = wait_for_line($t, qr/^\Q$name\E /, 'ends.log');
		my (undef, $status, $addr, $time) = split ' ', $line;

		push @answers, { body => $body, status => $status, addr => $addr,
			connect_time => $time, seconds => $seconds };
	}

	return @answers;
}

# What the upstream says first; '' when there is no tunnel.
sub greeting {
	my ($authority, $port) = @_;
	my $client = client(port => $port);

	$client->send(connect_request($authority));
	return '' unless status_of($client->read_header()) eq 200;

	$client->half_close();
	my $greeting = $client->read_to_end();
	$client->close();
	return $greeting =~ s/\.$//r;
}
