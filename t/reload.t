#!/usr/bin/perl

# Reloads that give a listening socket proxy_connect, and that take it away, with connections open
# over them; a binary upgrade between the two; on every kind of socket and with several workers.

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

my $t = Test::Nginx->new()->has(qw/http http_ssl socket_ssl/);
my $dir = $t->testdir();

# Each kind of socket, and how a client gets to it.
my %client = (
	'plain' => { port => port(8080) },
	'TLS' => { port => port(8443), tls => plain_tls() },
	'reuseport' => { port => port(8081) },
	'TLS, reuseport' => { port => port(8444), tls => plain_tls() },
	'deferred' => { port => port(8082) },
	'TLS, deferred' => { port => port(8445), tls => plain_tls() },
	'unix' => { path => "$dir/nginx.sock" },
);
my @names = sort keys %client;

# What nginx itself says to a CONNECT.
use constant REFUSAL => OVER_HTTP2 ? '400' : '405';

# How many times each step is tried on each socket: workers take turns.
use constant TRIES => OVER_HTTP2 ? 3 : 8;

# Several workers, all of which take connections, or one at a time.
my @workers = (
	[ 'one worker', 1, 'off' ],
	[ 'one worker, accept_mutex', 1, 'on' ],
	[ 'three workers', 3, 'off' ],
	[ 'three workers, accept_mutex', 3, 'on' ],
);

@workers = @workers[0, 3] if OVER_HTTP2;

my $conf = <<'EOF';

%%TEST_GLOBALS%%

worker_processes WORKERS;

events {
    accept_mutex ACCEPT_MUTEX;
    accept_mutex_delay 20ms;
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    keepalive_timeout  60s;

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        listen       127.0.0.1:8081 reuseport;
        listen       127.0.0.1:8444 ssl reuseport;
        listen       127.0.0.1:8082 deferred;
        listen       127.0.0.1:8445 ssl deferred;
        listen       unix:%%TESTDIR%%/nginx.sock;
        server_name  localhost;

        PROXY_CONNECT

        location / {
            return 200 "GENERATION\n";
        }
    }

    # The module has work in any configuration, so that the log tells which way it is.
    server {
        listen       127.0.0.1:8083;
        proxy_connect;
    }
}

EOF

$t->plan(@workers * (4 + 9 * @names));

certificate($t, 'localhost');
my $listener = listener(port(8090));
my $authority = '127.0.0.1:' . port(8090);

for (@workers) {
	my ($case, $count, $mutex) = @$_;
	log_mark($t);

	my $configure = sub {
		my ($generation, $with) = @_;
		my $directives = $with ? 'proxy_connect; proxy_connect_allow all;' : '';

		$t->write_file_expand('nginx.conf', $conf =~ s/WORKERS/$count/r
			=~ s/ACCEPT_MUTEX/$mutex/r =~ s/GENERATION/$generation/r
			=~ s/PROXY_CONNECT/$directives/r);
	};

	# After an upgrade an older nginx leaves it behind.
	unlink "$dir/nginx.sock";

	$configure->('without', 0);
	$t->run();
	wait_for_workers($t, $count);

	###########################################################################
	# One that adds it

	my %kept = map { $_ => get_kept($client{$_}, 'without') } @names;
	is(refusals($client{$_}), REFUSAL x TRIES, "$case, $_: none at first") for @names;

	$configure->('with', 1);
	reload($t, $count);

	is(kept_connect($kept{$_}), 'gone', "$case, $_: a connection of before ends with its worker")
		for @names;
	is(tunnels($client{$_}), TRIES, "$case, $_: a tunnel after the reload") for @names;

	###########################################################################
	# A binary upgrade

	my %tunnel = map { $_ => [ pair($listener, %{$client{$_}}) ] } @names;
	upgrade($t, $count);

	is(tunnels($client{$_}), TRIES, "$case, $_: a tunnel after the upgrade") for @names;
	is_moving($tunnel{$_}, "$case, $_: one of before the upgrade") for @names;

	###########################################################################
	# One that takes it away

	%kept = map { $_ => get_kept($client{$_}, 'with') } @names;
	my %waiting = map { $_ => begin_request($client{$_}) } @names;

	$configure->('away', 0);
	reload($t, $count);

	is(refusals($client{$_}), REFUSAL x TRIES, "$case, $_: none after the reload") for @names;
	is_moving($tunnel{$_}, "$case, $_: one of before the reload") for @names;

	for (@names) {
		SKIP: {
			# t/http2_life.t has such connections.
			skip 'what stands before nginx begins it when it is whole', 1 if OVER_HTTP2;
			is(finish_request($waiting{$_}), 'tunnel', "$case, $_: a CONNECT that began before it");
		}
	}

	is(kept_connect($kept{$_}), 'gone', "$case, $_: an idle connection ends with its worker")
		for @names;

	$_->close() for map { @$_[0, 1] } values %tunnel;

	wait_until('The old nginx did not exit', sub { !-e "$dir/nginx.pid.oldbin" });
	wait_until('The workers of before did not exit', sub { worker_pids($t, 'all') == $count });
	pass("$case: the workers of before exit");

	my @pids = worker_pids($t);
	is(scalar(@pids), $count, "$case: all workers are there");

	kill 'QUIT', master_pid($t);
	wait_for_exit($t);

	is_deeply([ log_lines($t, qr/exited on signal/) ], [], "$case: no worker crashed");
	is_deeply([ log_lines($t, qr/open socket .* left in connection/) ], [],
		"$case: nothing is left open");
}

###############################################################################

# A connection over which a GET was answered, and that is kept.
sub get_kept {
	my ($options, $generation) = @_;
	my $socket = client(%$options);

	$socket->send("GET / HTTP/1.1\x0d\x0aHost: localhost\x0d\x0a\x0d\x0a");
	$socket->read_header();
	my $body = $socket->read_bytes(1 + length $generation);
	die "The answer is $body\n" unless $body eq "$generation\n";

	return $socket;
}

# What a CONNECT over a kept connection comes to. Its worker may have closed it.
sub kept_connect {
	my ($socket) = @_;
	local $SIG{PIPE} = 'IGNORE';

	my $answer = eval { $socket->send(connect_request($authority))->read_header() } // '';
	$socket->close();
	return status_of($answer) || 'gone';
}

sub refusals {
	my ($options) = @_;
	return join '', map { status_of(exchange(connect_request($authority), %$options)) } 1 .. TRIES;
}

# How many of so many CONNECTs become tunnels.
sub tunnels {
	my ($options) = @_;
	my $count = 0;

	for (1 .. TRIES) {
		my ($client, $upstream) = pair($listener, %$options);
		$count++ if join(' ', cross($client, $upstream, 'up', 'down')) eq 'up down';
		$_->close() for $client, $upstream;
	}

	return $count;
}

sub is_moving {
	my ($tunnel, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is_deeply([ cross(@$tunnel[0, 1], 'up', 'down') ], [ 'up', 'down' ], $name);
}

# The first bytes of a CONNECT.
sub begin_request {
	my ($options) = @_;
	return client(%$options)->send('CONN');
}

sub finish_request {
	my ($socket) = @_;
	local $SIG{PIPE} = 'IGNORE';

	my $answer = eval {
		$socket->send(connect_request($authority) =~ s/^CONN//r)->read_header();
	} // '';

	my $status = status_of($answer);
	accept_end($listener)->close() if $status eq '200';
	$socket->close();
	return $status eq '200' ? 'tunnel' : $status || 'gone';
}

# Until only new workers take connections.
sub reload {
	my ($t, $count) = @_;
	my @old = worker_pids($t);

	$t->reload();
	wait_until('The old workers still take connections', sub {
		my %now = map { $_ => 1 } worker_pids($t);
		return keys %now == $count && !grep { $now{$_} } @old;
	});
}

sub upgrade {
	my ($t, $count) = @_;
	my $file = $t->testdir() . '/nginx.pid';
	my $old = master_pid($t);

	kill 'USR2', $old;
	wait_until('There is no new nginx', sub { -e "$file.oldbin" && -s $file && master_pid($t) != $old });
	wait_for_workers($t, $count);

	# The old one's tunnels keep its workers, which take no more connections.
	kill 'WINCH', $old;
	wait_until('The old workers still take connections', sub { !worker_pids($t, 0, $old) });
	kill 'QUIT', $old;
}

###############################################################################
