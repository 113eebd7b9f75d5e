#!/usr/bin/perl

# Bytes that go through pipes to a client of TLS whose records the system makes: "proxy_connect_splice
# ktls". Where the system, OpenSSL or the configuration has no kTLS, they are copied.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant MB => 2 ** 20;

plan(skip_all => 'splice(2) is Linux only') unless $^O eq 'linux';

my $t = Test::Nginx->new()->has(qw/http http_ssl socket_ssl/);

my $conf = <<'EOC';

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    log_format  ends  "$status $proxy_connect_close_reason received=$proxy_connect_bytes_received";
    access_log  %%TESTDIR%%/ends.log ends;

    proxy_connect_splice  ktls;

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
    }

    server {
        listen       127.0.0.1:8444 ssl;
        server_name  localhost;

        ssl_conf_command  Options KTLS;

        proxy_connect;
        proxy_connect_allow  all;
    }
}

EOC

$conf =~ s/^ *ssl_conf_command .*\n//m unless $t->has_version('1.19.4');

$t->plan(16)->write_file_expand('nginx.conf', quietly($t, $conf, 'info'));
certificate($t, 'localhost');
$t->run();

my $worker = lone_worker($t);
my $listener = listener(port(8081));
my $others = pipes($worker);

###############################################################################
# Without kTLS

my ($client, $upstream) = pair($listener, port => port(8443), tls => plain_tls());
is_deeply([ grep { !whole($client, $upstream, $_) } 1, 100, 16384, 262_145, 3 * MB ], [],
	'without kTLS: bursts of many sizes');
is(pipes($worker), $others, 'and no pipe');
$_->close() for $client, $upstream;

# With the option, and whether or not there is kTLS.
($client, $upstream) = pair($listener, port => port(8444), tls => plain_tls());
is_deeply([ grep { !whole($client, $upstream, $_) }
	1, 100, 16384, 16385, 65537, 262_144, 262_145, MB, 5 * MB + 1 ], [],
	'with the option: bursts of many sizes');
$_->close() for $client, $upstream;

# Bytes of plain TCP are moved as with "auto".
($client, $upstream) = pair($listener);
ok(eval { wait_until('no pipe', sub { flooded($client, $upstream); pipes($worker) > $others }) },
	'plain TCP: a pipe for much');
$_->close() for $client, $upstream;

###############################################################################
# With kTLS

SKIP: {
	my $reason = lack($t);
	skip $reason, 12 if $reason;

	log_mark($t, 'ends.log');
	($client, $upstream) = ktls_pair();

	cmp_ok(pipes_of_flood($client, $upstream), '>', 0, 'kTLS: a pipe for much');

	# Small messages are copied, through OpenSSL, and stay where they belong.
	my $good = 1;

	for my $size (1, 5 * MB, 17, 300_000, 2, 3 * MB, 100, 16384, 16385, MB) {
		$good &&= whole($client, $upstream, $size);
	}

	ok($good, 'kTLS: small and large ones in turn');
	ok(flooded($client, $upstream), 'kTLS: a client that reads late');

	# The end comes behind all bytes, and says that it is one.
	my $sent = fill($upstream, noise(32 * MB));
	$upstream->half_close();
	my $got = $client->read_bytes($sent);
	same($got, noise($sent), 'kTLS: what was on its way before the end');
	is($client->read_to_end(), '', 'and nothing behind it');
	ok(got_close_notify($client), 'the end is a close_notify');

	$client->send('up');
	is($upstream->read_bytes(2), 'up', 'kTLS: the other way goes on');
	$client->close();
	is_logged($t, qr/^200 upstream_eof received=\d+$/, 'the access log');
	$upstream->close();

	# A reset is one.
	($client, $upstream) = ktls_pair();
	pipes_of_flood($client, $upstream);
	$sent = fill($upstream, noise(32 * MB));
	$upstream->reset();
	$got = $client->read_to_end();
	ok($got eq substr(noise(32 * MB), 0, length $got), 'kTLS: what came before a reset is what was sent');
	ok(!got_close_notify($client), 'a reset is no end');
	$client->close();

	# Tunnels that were not read leave nothing in a pipe that others get.
	my @stuck = map { [ ktls_pair() ] } 1 .. 10;
	fill($_->[1], noise(MB)) for @stuck;
	$_->[0]->reset() for @stuck;
	$_->[1]->read_to_end() for @stuck;
	$_->[1]->close() for @stuck;

	is_deeply([ grep { !whole(ktls_pair(), $_) } 1 .. 10, MB ], [],
		'kTLS: no byte of one tunnel gets into another');

	is_deeply([ log_lines($t, qr/\[(warn|error|crit)\].*(proxy_connect|SSL|splice)/) ], [],
		'the error log has nothing to tell');
}

###############################################################################

# Why there is no kTLS; nothing where it is.
sub lack {
	my ($t) = @_;
	return 'nginx has no "ssl_conf_command" before 1.19.4' unless $t->has_version('1.19.4');

	my $before = kernel_connections();
	my ($client, $upstream) = ktls_pair();
	my $more = kernel_connections() - $before;
	$_->close() for $client, $upstream;

	return '' if $more > 0;
	return 'the kernel has no module "tls"' unless has_module_tls();
	return 'OpenSSL of this nginx has no kTLS';
}

# OpenSSL has the kernel load it, where it may.
sub has_module_tls {
	open my $file, '<', '/proc/sys/net/ipv4/tcp_available_ulp' or return 0;
	return (readline($file) // '') =~ /\btls\b/;
}

sub ktls_pair {
	return (pair($listener, port => port(8444), tls => plain_tls()))[0, 1];
}

# How many connections there are whose records the kernel makes.
sub kernel_connections {
	my $sum = 0;

	open my $file, '<', '/proc/net/tls_stat' or return 0;
	/^TlsCurrTx(?:Sw|Device)\s+(\d+)/ and $sum += $1 while <$file>;
	return $sum;
}

# How many pipes more there are while much waits for the client.
sub pipes_of_flood {
	my ($client, $upstream) = @_;
	my $sent = 0;
	my $more = 0;

	for (1 .. 10) {
		$sent = fill($upstream, noise(32 * MB));
		$more = pipes($worker) - $others;
		$client->read_bytes($sent) eq noise($sent) or return 0;
		last if $more > 0;
	}

	return $more;
}

# Whether a burst arrives whole, both ways at once.
sub whole {
	my ($client, $upstream, $size) = @_[0, 1, -1];
	my ($up, $down) = cross($client, $upstream, noise($size), reverse(noise($size)) . '');
	return $up eq noise($size) && $down eq reverse(noise($size));
}
