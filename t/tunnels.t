#!/usr/bin/perl

# The list of the tunnels that stand: what it says of them, in which order, in pages; how an operator closes one, and who
# may not; what becomes of it when it is full, and what hostile names do to it.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Status;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http auth_basic/);

my $reuseport = $t->has_version('1.9.1') ? ' reuseport' : '';

$t->plan(60)->write_file_expand('nginx.conf', <<'EOF' =~ s/%%REUSEPORT%%/$reuseport/r);

%%TEST_GLOBALS%%

daemon off;
worker_processes 2;

events {
    worker_connections  1024;
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  ends  "$remote_addr $status $proxy_connect_close_reason";
    access_log  %%TESTDIR%%/ends.log ends;

    proxy_connect_status_zone  main:1m;

    server {
        # Each worker has a queue of its own, so that none gets all.
        listen       127.0.0.1:8080%%REUSEPORT%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        proxy_connect_auth    on;
        auth_basic            $http_realm;
        auth_basic_user_file  users;
    }

    server {
        listen       127.0.0.1:8081;
        server_name  localhost;

        location /tunnels  { proxy_connect_tunnels control=on; }
        location /looking  { proxy_connect_tunnels json; }
        location /page     { proxy_connect_tunnels html; }
    }

    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow        all;
        proxy_connect_status_zone  small:64k;
    }
}

EOF

my $hostile = q{<img src=x onerror=alert(1)>"'&};
$t->write_file('users', "alice:{PLAIN}secret\n$hostile:{PLAIN}secret\n");
$t->run();

my $listener = listener(port(8090));
my $destination = '127.0.0.1:' . port(8090);
my @page = (port => port(8081));

sub user {
	my ($name) = @_;
	require MIME::Base64;
	return fields => [ 'Realm: users', 'Proxy-Authorization: Basic ' . MIME::Base64::encode_base64("$name:secret", '') ];
}

###############################################################################
# What is said of a tunnel

is_deeply(tunnels(undef, @page)->{tunnels}, [], 'no tunnel stands');

my ($client, $upstream) = pair($listener, user('alice'));
$client->send('four');
$upstream->read_bytes(4);
$upstream->send('seven..');
$client->read_bytes(7);

my $list;
wait_until('the bytes were not counted', sub {
	$list = tunnels(undef, @page);
	$list->{tunnels}[0]{download} == 7;
});

is($list->{total}, 1, 'one stands');
is($list->{zone}, 'main', 'in its zone');
is_deeply($list->{zones}, [ 'main', 'small' ], 'of which there are two');
ok($list->{control}, 'it can be closed');
is($list->{report}{active}, 1, 'the numbers are there as well');

my $tunnel = $list->{tunnels}[0];
my $handle = $client->handle();
is($tunnel->{client}, $client->local(), 'the client');
is($tunnel->{user}, 'alice', 'the user');
is($tunnel->{destination}, $destination, 'the destination');
is($tunnel->{address}, $destination, 'the address');
is($tunnel->{version}, '1.1', 'the version');
is($tunnel->{upload}, 4, 'bytes up');
cmp_ok($tunnel->{age_ms}, '<', 60_000 * SLOWNESS, 'its age');
cmp_ok($tunnel->{idle_ms}, '<=', $tunnel->{age_ms}, 'since when nothing moves');
is($tunnel->{state}, 'open', 'its state');
like($tunnel->{id}, qr/^\d+$/, 'its name');

###############################################################################
# Pages, orders, a filter

my @pairs = ([ $client, $upstream ], map { [ (pair($listener, user('alice')))[0, 1] ] } 1 .. 24);
my @seen = map { map { $_->{client} } @{tunnels("/looking?limit=10&first=$_", @page)->{tunnels}} } 0, 10, 20, 30;

is_deeply([ sort @seen ], [ sort map { $_->[0]->local() } @pairs ], 'pages have each tunnel once');
is(tunnels('/looking?limit=3', @page)->{total}, 25, 'and say how many there are');
is($seen[-1], $client->local(), 'the oldest is the last');

my $busy = $pairs[7];
my $noise = noise(2 ** 20);
my $until = time() + 60;
my $busiest = '';

while ($busiest ne $busy->[0]->local() && time() < $until) {
	is_deeply([ cross(@$busy, $noise, $noise) ], [ $noise, $noise ], 'bytes') if $busiest eq '';
	cross(@$busy, $noise, $noise) if $busiest ne '';
	$busiest = tunnels('/looking?order=busiest&limit=1', @page)->{tunnels}[0]{client};
}

is($busiest, $busy->[0]->local(), 'the busiest first');
my ($fast) = @{tunnels('/looking?order=busiest&limit=1', @page)->{tunnels}};
cmp_ok($fast->{upload_rate} + $fast->{download_rate}, '>', 0, 'with how fast it is');

my ($port) = $busy->[0]->local() =~ /:(\d+)$/;
is(tunnels("/looking?filter=127.0.0.1%3A$port", @page)->{total}, 1, 'a filter');
is(tunnels('/looking?filter=nothing', @page)->{total}, 0, 'that nothing passes');
is(tunnels('/looking?order=slowest', @page)->{total}, 25, 'the slowest first');

for my $bad ('order=nonsense', 'first=-1', 'first=x', 'limit=', 'first=99999999999999999999999') {
	is(status_of(ask("/looking?$bad", accept => 'application/json', @page)), 400, $bad);
}

is(status_of(ask('/looking?zone=nonsense', @page)), 404, 'an unknown zone');
is(scalar(@{tunnels('/looking?limit=100000000', @page)->{tunnels}}), 25, 'a limit that is too large');
is(scalar(@{tunnels('/looking?first=18446744073709551615', @page)->{tunnels}}), 0, 'a page behind the last');

###############################################################################
# Closing

my $id = $tunnel->{id};

is(status_of(ask("/looking/$id/close", method => 'POST', @page)), 405, 'not without control=on');
is(status_of(ask("/tunnels/$id/close", @page)), 200, 'a GET closes nothing');
is(status_of(ask("/tunnels/$id/close", method => 'DELETE', @page)), 405, 'nor does a DELETE');
is(status_of(ask("/tunnels/$id", method => 'POST', @page)), 404, 'nor a POST to another path');
is(status_of(ask("/tunnels/$_/close", method => 'POST', @page)), 404, "nor one to \"$_\"")
	for '0', $id + 1000 * 3000, "$id$id", '18446744073709551616', "-$id", 'x', '';
is(status_of(ask("/tunnels/$id/close", method => 'POST', fields => [ $_ ], @page)), 403, "nor with $_")
	for 'Origin: http://elsewhere.test', 'Origin: null', 'Sec-Fetch-Site: cross-site';

$client->send('still');
is($upstream->read_bytes(5), 'still', 'it still stands');

is(status_of(ask("/tunnels/$id/close", method => 'POST', fields => [ 'Origin: http://localhost' ], @page)), 200,
	'the operator closes it');
is($client->read_to_end() . $upstream->read_to_end(), '', 'both sides end');
is_logged($t, qr/^127\.0\.0\.1 200 closed_by_operator$/, 'for this reason');
is(status_of(ask("/tunnels/$id/close", method => 'POST', @page)), 404, 'it is not there any more');

is(scalar(@{tunnels(undef, @page)->{tunnels}}), 24, 'the others are');

$_->close() for map { @$_ } splice @pairs, 1;
wait_until('tunnels stay listed', sub { tunnels(undef, @page)->{total} == 0 });

###############################################################################
# Hostile names

my ($evil, $end) = pair($listener, user($hostile));
my ($named) = @{tunnels(undef, @page)->{tunnels}};
is($named->{user}, $hostile, 'a hostile name is a string of JSON');
my $html = ask('/page', @page);
unlike(body_of($html), qr/alert\(1\)/, 'and is in no page');
$_->close() for $evil, $end;

###############################################################################
# A full list: 64k have room for some hundred tunnels

my @many;
my $full;

for (1 .. 300) {
	push @many, [ (pair($listener, port => port(8082)))[0, 1] ];
}

my $small = tunnels('/tunnels?zone=small', @page);
my ($listed, $unlisted) = ($small->{report}{listable}, $small->{report}{unlisted});
is($small->{report}{active}, 300, 'all tunnels stand');
is($small->{total} + $unlisted, 300, 'what is not listed is counted');
cmp_ok($unlisted, '>', 0, 'of which there are some');
is(scalar(log_lines($t, qr/zone "small" has no room to list more tunnels/)) <= 2, 1, 'a line a worker and minute');
is_deeply([ cross(@{$many[-1]}, 'up', 'down') ], [ 'up', 'down' ], 'the last one moves bytes');
$_->close() for map { @$_ } @many;
