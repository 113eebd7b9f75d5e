#!/usr/bin/perl

# The configurations of docs/observability.md, as they stand there: they start, the log has every variable, and what the
# alerts and the dashboard ask for is there.

use warnings;
use strict;

use Test::More;
use JSON::PP;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Status;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http access limit_conn limit_req/);
plan(skip_all => 'no escape=json') unless $t->has_version('1.11.8');

my ($pages, $limits, $log) = read_file('../docs/observability.md') =~ /^```nginx\n(.*?)^```/gms;
$pages =~ s/8081/%%PORT_8081%%/;
$limits =~ s/listen    3128;/listen 127.0.0.1:8080;\n    proxy_connect_allow all;/;
$log =~ s!/var/log/nginx/!%%TESTDIR%%/!;

$t->plan(16)->write_file_expand('nginx.conf', <<"EOF");

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    $log
    $pages
    $limits

    upstream parents {
        server  127.0.0.1:%%PORT_8091%%;
    }

    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        proxy_connect;
        proxy_connect_pass  parents;
    }
}

EOF

$t->run();

my @page = (port => port(8081));
my $listener = listener(port(8090));

###############################################################################
# The pages

my ($client, $upstream) = pair($listener);
is(counts('proxy', '/proxy_connect/status', @page)->{active}, 1, 'a tunnel stands');
is(tunnels('/proxy_connect/tunnels', @page)->{total}, 1, 'and is listed');
is(status_of(ask('/proxy_connect/tunnels/1/close', method => 'POST', @page)), 405, 'it can not be closed');
like(ask('/proxy_connect/tunnels', accept => 'text/html', @page), qr/<title>CONNECT tunnels/, 'the page');

cmp_ok(counts('proxy', '/proxy_connect/status', @page)->{listable}, '>=', 14_000, 'as many as the page says');

###############################################################################
# The log

$client->send('four');
is($upstream->read_bytes(4), 'four', 'bytes');
$client->close();
$upstream->read_to_end();
$upstream->close();

my $line = decode_json(wait_for_line($t, qr/"request":"CONNECT/, 'proxy_connect.log'));
is($line->{bytes_up}, 4, 'the log has them');
is($line->{close_reason}, 'client_eof', 'and how it ended');

my %known = map { $_ => 1 } read_file('../src/variables.rs') =~ /"(proxy_connect_\w+|connect_\w+)"/g;
my %logged = map { $_ => 1 } $log =~ /\$((?:proxy_)?connect_\w+)/g;
isnt(scalar(keys %known), 0, 'variables are known');
is_deeply([ grep { !$logged{$_} } sort keys %known ], [], 'the log has every variable');

###############################################################################
# The limits

SKIP: {
	skip('limit_req does not tell', 2) unless $t->has_version('1.17.6');

	# Nobody listens there: what is not refused fails at once.
	my @statuses = map { status_of(exchange(connect_request('127.0.0.1:' . port(8092)))) } 1 .. 200;
	my $refused = grep { $_ eq 503 } @statuses;
	my $is_counted = sub { ($_[0]{connects}{'1.1'}{limited} // 0) == $refused };

	cmp_ok($refused, '>', 0, 'who opens too many is refused');
	ok(wait_for_count('proxy', $is_counted, path => '/proxy_connect/status', @page), 'which is counted');
}

###############################################################################
# Metrics

my %metric = map { /^(\w+)/ ? ($1 => 1) : () } keys %{metrics('/proxy_connect/metrics', @page)};

for my $file ('alerts.yml', 'grafana.json') {
	my %asked = map { $_ => 1 } read_file("../docs/observability/$file") =~ /\b(nginx_proxy_connect_\w+)/g;
	isnt(scalar(keys %asked), 0, "$file asks for metrics");
	is_deeply([ grep { !$metric{$_} } sort keys %asked ], [], 'which are there');
}

###############################################################################

sub read_file {
	my ($file) = @_;
	open my $handle, '<', $file or die "Can't read $file: $!\n";
	local $/;
	return <$handle>;
}
