#!/usr/bin/perl

# What is counted of CONNECTs and tunnels, in a zone, and how it is shown: as JSON, for Prometheus, and as a page.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Check;
use Test::ProxyConnect::Status;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http auth_basic access limit_conn/);

$t->plan(76)->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;
worker_processes 2;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    limit_conn_zone  $http_limit zone=limit:1m;

    proxy_connect_status_zone  main:1m;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow            %%PORT_8090%% %%PORT_8091%% %%PORT_8092%%;
        proxy_connect_deny_host        denied.test;
        proxy_connect_deny_address     127.0.0.9;
        proxy_connect_connect_timeout  300ms;
        proxy_connect_bind             127.0.0.1;
        limit_conn                     limit 1;

        if ($http_answer) {
            return 302 http://localhost/;
        }
    }

    server {
        listen       127.0.0.1:8081;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow        all;
        proxy_connect_status_zone  users;
        proxy_connect_max_bytes    5 down;

        auth_basic            users;
        auth_basic_user_file  users;
        proxy_connect_auth    on;
    }

    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow        all;
        proxy_connect_status_zone  off;

        location = /status     { proxy_connect_status; }
        location = /json       { proxy_connect_status json; }
        location = /metrics    { proxy_connect_status prometheus; }
        location = /page       { proxy_connect_status html; }
    }
}

EOF

$t->write_file('users', "user:{PLAIN}secret\n");
mkdir $t->testdir() . '/logs';
$t->run();

my $listener = listener(port(8090));
my $destination = '127.0.0.1:' . port(8090);
my @page = (port => port(8082));

###############################################################################
# Nothing yet

my $none = counts('main', undef, @page);
is($none->{active}, 0, 'no tunnel stands');
is_deeply($none->{connects}, { map { $_ => {} } '1.0', '1.1', '2.0', '3.0' }, 'no CONNECT came');
is($none->{connect_ms}{p50}, undef, 'nothing took any time');

###############################################################################
# Tunnels

my ($client, $upstream) = pair($listener);
$client->send('question');
is($upstream->read_bytes(8), 'question', 'a tunnel');
$upstream->send('an answer');
is($client->read_bytes(9), 'an answer', 'stands');

my ($second, $other) = pair($listener);
my $two = counts('main', undef, @page);

is($two->{active}, 2, 'two tunnels stand');
is($two->{by_version}{'1.1'}, 2, 'over HTTP/1.1');
is($two->{by_age}{'1m'}, 2, 'since less than a minute');
is($two->{connects}{'1.1'}{established}, 2, 'two were established');
is_deeply($two->{bytes}, { upload => 8, download => 9 }, 'bytes each way');
is($two->{connect_ms}{count}, 2, 'two connects took their time');
is($two->{attempts}{sum}, 2, 'one attempt each');
is($two->{first_byte_ms}{count}, 1, 'one upstream has spoken');
is($two->{duration_ms}{count}, 0, 'none is over');

my $workers = 0;
$workers += $_->{tunnels} for @{$two->{workers}};
is($workers, 2, 'the workers have them');

$client->close();
$upstream->read_to_end();
$upstream->close();
$other->reset();
$second->read_to_end();

my $over = wait_for_count('main', sub { $_[0]{active} == 0 }, @page);
is($over->{closed}{client_eof}, 1, 'one ended with its client');
is($over->{closed}{upstream_reset}, 1, 'one by a reset of its upstream');
is($over->{duration_ms}{count}, 2, 'both stood for some time');
is($over->{connects}{'1.1'}{established}, 2, 'which does not count again');

# HTTP/1.0
my $old = client();
$old->send("CONNECT $destination HTTP/1.0\x0d\x0a\x0d\x0a");
my $end = accept_end($listener);
is(status_of($old->read_header()), 200, 'a tunnel over HTTP/1.0');
is(counts('main', undef, @page)->{connects}{'1.0'}{established}, 1, 'is counted as such');
$_->close() for $old, $end;

###############################################################################
# What becomes of others

sub outcome {
	my ($version, $outcome) = @_;
	return counts('main', undef, @page)->{connects}{$version}{$outcome} // 0;
}

sub refused {
	my ($authority, $status, $outcome, @fields) = @_;
	my $before = outcome('1.1', $outcome);

	is(status_of(exchange(connect_request($authority, @fields))), $status, "$outcome: $status");
	wait_until("$outcome was not counted", sub { outcome('1.1', $outcome) > $before });
	is(outcome('1.1', $outcome), $before + 1, "$outcome is counted once");
}

refused('127.0.0.1:1', 403, 'denied_port');
refused('denied.test:' . port(8090), 403, 'denied_host');
refused('127.0.0.9:' . port(8090), 403, 'denied_address');
refused('127.0.0.1:' . port(8091), 502, 'connection_refused');

SKIP: {
	skip(NO_REWRITE, 2) unless runs_rewrite($t);
	refused($destination, 302, 'answered', 'Answer: yes');
}

my $backlog = full_backlog(port(8092));
refused('127.0.0.1:' . port(8092), 504, 'connection_timeout');
undef $backlog;

my ($holds, $held) = pair($listener, fields => [ 'Limit: one' ]);
SKIP: {
	skip('limit_conn does not tell', 2) unless $t->has_version('1.17.6');
	refused($destination, 503, 'limited', 'Limit: one');
}
$_->close() for $holds, $held;

# One that leaves before there is an answer.
my $waiting = full_backlog(port(8092));
my $gone = client();
$gone->send(connect_request('127.0.0.1:' . port(8092)));
$gone->close();
wait_until('nobody was gone', sub { outcome('1.1', 'client_gone') == 1 });
is(outcome('1.1', 'client_gone'), 1, 'a client that left');
undef $waiting;

###############################################################################
# Another zone

is(status_of(exchange(connect_request($destination, 'Connection: close'),
	port => port(8081))), 407, 'no password');
my ($user, $server) = pair($listener, port => port(8081),
	fields => [ 'Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=' ]);
$server->send('more than five');
$user->read_to_end();

my $users = wait_for_count('users', sub { $_[0]{closed}{quota} == 1 }, @page);
is($users->{connects}{'1.1'}{unauthorized}, 1, 'who has no password is counted');
is($users->{connects}{'1.1'}{established}, 1, 'who has one, too');
is($users->{bytes}{download}, 5, 'as many bytes as may');

# A server whose zone is off, and what is no CONNECT.
my $sum = sub { my $n = 0; $n += $_ for map { values %$_ } values %{$_[0]{connects}}; $n };
my $before = $sum->(counts('main', undef, @page));
my ($off, $uncounted) = pair($listener, port => port(8082));
$_->close() for $off, $uncounted;
is(status_of(ask('/nothing')), 404, 'a GET');
is($sum->(counts('main', undef, @page)), $before, 'what has no zone is not counted');

###############################################################################
# The formats

my $answer = ask('/status', @page);
like(header_of($answer, 'Content-Type'), qr!^text/plain; version=0\.0\.4!, 'Prometheus unless the client says');
is(header_of($answer, 'Cache-Control'), 'no-store', 'nothing is kept');
like(header_of(ask('/status', accept => 'application/json', @page), 'Content-Type'), qr!^application/json$!, 'JSON');
like(header_of(ask('/status', accept => 'text/html,*/*', @page), 'Content-Type'), qr!^text/html!, 'a page');
like(header_of(ask('/json', accept => 'text/html', @page), 'Content-Type'), qr!^application/json$!, 'JSON always');
like(header_of(ask('/metrics', accept => 'text/html', @page), 'Content-Type'), qr!^text/plain!, 'Prometheus always');

my $metrics = metrics('/metrics', @page);
is($metrics->{'nginx_proxy_connect_tunnels_active{zone="main"}'}, 0, 'the gauge');
is($metrics->{'nginx_proxy_connect_connects_total{zone="users",version="1.1",outcome="unauthorized"}'}, 1, 'a counter');
is($metrics->{'nginx_proxy_connect_bytes_total{zone="users",direction="download"}'}, 5, 'bytes');
is($metrics->{'nginx_proxy_connect_tunnels_closed_total{zone="users",reason="quota"}'}, 1, 'a reason');
is($metrics->{'nginx_proxy_connect_connect_seconds_bucket{zone="users",le="+Inf"}'}, 1, 'a histogram');

my $one = metrics('/metrics?zone=users', @page);
is(scalar(grep { /zone="main"/ } keys %$one), 0, 'one zone only');
isnt(scalar(grep { /zone="users"/ } keys %$one), 0, 'which is that');
is(status_of(ask('/metrics?zone=nonsense', @page)), 404, 'an unknown zone');
is(status_of(ask('/metrics', method => 'POST', @page)), 405, 'a POST');
is(length(body_of(ask('/metrics', method => 'HEAD', @page))), 0, 'a HEAD has no body');

my $page = ask('/page', @page);
my ($nonce) = header_of($page, 'Content-Security-Policy') =~ /script-src 'nonce-([0-9a-f]{32})'/;
ok($nonce, 'the page runs its own script only');
is(() = body_of($page) =~ /nonce="\Q$nonce\E"/g, 2, 'which it names, and its style');
unlike(body_of($page), qr!(?:src|href)=|https?://|[@]import!, 'it asks nobody else');
isnt($nonce, header_of(ask('/page', @page), 'Content-Security-Policy') =~ /nonce-(\w+)/ && $1, 'nonces differ');

###############################################################################
# nginx -t

my $name = '"proxy_connect_status_zone" directive';

for my $good ('proxy_connect_status_zone a', 'proxy_connect_status_zone a:64k', 'proxy_connect_status_zone off',
	'location /s { proxy_connect_status json; } location /t { proxy_connect_tunnels html control=on; }')
{
	my ($said) = check($t, $good =~ /\}$/ ? "$good set \$nothing ''" : $good);
	is_fine($said, $good);
}

for my $bad (
	[ 'proxy_connect_status_zone a:1', "zone \"a:1\" in the $name is too small, it must have 65536 bytes" ],
	[ 'proxy_connect_status_zone a:x', "invalid size of the zone \"a:x\" in the $name" ],
	[ 'proxy_connect_status_zone :1m', "invalid zone \":1m\" in the $name" ],
	[ 'proxy_connect_status_zone "a b"', "invalid zone \"a b\" in the $name" ],
	[ 'proxy_connect_status_zone a:1m; } server { proxy_connect_status_zone a:2m', 'conflicts with 1048576 bytes' ],
	[ 'proxy_connect_status_zone a; proxy_connect_status_zone a', 'is duplicate' ],
	[ 'proxy_connect_status', '"proxy_connect_status" directive is not allowed here' ],
	[ 'location / { proxy_connect_status xml; } set $nothing ""', 'invalid value "xml" in the "proxy_connect_status"' ],
	[ 'location / { proxy_connect_tunnels on; } set $nothing ""', 'invalid value "on" in the "proxy_connect_tunnels"' ],
	[ 'location / { proxy_connect_tunnels; proxy_connect_status; } set $nothing ""', 'give each one a location' ])
{
	my ($said) = check($t, $bad->[0]);
	like($said, qr/\Q$bad->[1]\E.*check\.conf:5/, $bad->[0]);
}
