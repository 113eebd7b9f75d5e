#!/usr/bin/perl

# Nothing is lost, changed, doubled or mixed up: a gigabyte each way at once through 8 tunnels, in
# segments of random sizes; each direction of each tunnel has a size of its own and ends with a
# half-close, while the other goes on.
#
# TEST_SEED repeats a run: it decides all sizes, though not what the system makes of them.

use warnings;
use strict;

use List::Util qw/ sum /;
use POSIX ();
use Storable ();
use Test::More;
use Time::HiRes qw/ time /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Traffic qw/ make_block stream_end run_ends /;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant MB => 2 ** 20;
use constant TUNNELS => 8;

# What goes each way, in all tunnels together. Where nginx is watched the sizes of segments matter only.
use constant SIZE => int(1024 * MB * SHARE / (SLOWNESS > 1 ? 64 : 1));

# How long, in seconds, the traffic of one mode may take.
use constant PATIENCE => 60 * SLOWNESS;

my $t = Test::Nginx->new()->has(qw/http/);

$t->plan(26)->write_file_expand('nginx.conf', quietly($t, with_tls($t, <<'EOC'), 'info'));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    log_format  ends  "sent=$proxy_connect_bytes_sent received=$proxy_connect_bytes_received "
                      "reason=$proxy_connect_close_reason";
    access_log  %%TESTDIR%%/ends.log ends;

    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8443 ssl;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
    }

    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_splice  %%SPLICE%%;
    }

    server {
        listen       127.0.0.1:8083;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_splice  off;
    }
}

EOC

# Only Linux has splice(2).
my $splice = $^O eq 'linux' ? 'on' : 'auto';
$t->write_file('nginx.conf', $t->read_file('nginx.conf') =~ s/%%SPLICE%%/$splice/r);

my $seed = $ENV{TEST_SEED} // time() ^ $$;
srand $seed;
note("TEST_SEED=$seed");
make_block();

certificate($t, 'localhost');
$t->run();

my $listener = listener(port(8081));

SKIP: for my $mode (
	[ 'copy', port => port(8083) ],
	[ 'splice', port => port(8082) ],
	[ 'auto' ],
	[ 'TLS', port => port(8443), tls => plain_tls() ],
) {
	my ($name, %options) = @$mode;
	skip NO_TLS, 6 if $options{tls} && !has_tls($t);

	my @flows = flows();
	my $begin = time();

	log_mark($t, 'ends.log');
	my ($clients, $upstreams) = traffic($listener, \@flows, %options);
	note(sprintf '%s: %d MiB in %.1f s', $name,
		sum(map { $_->{up} + $_->{down} } @flows) / MB, time() - $begin);

	my %whole = (
		up => arrived($name, 'up', \@flows, $clients, $upstreams),
		down => arrived($name, 'down', \@flows, $upstreams, $clients),
	);
	is($whole{$_}, TUNNELS, "$name: what went $_ arrived whole, in all tunnels")
		for qw/ up down /;

	cmp_ok(sum(map { $_->{after} } @$clients), '>', 0,
		"$name: clients read on after they sent an end of file");
	cmp_ok(sum(map { $_->{after} } @$upstreams), '>', 0, "$name: so did upstreams");

	is_deeply([ sort +ends($t) ], [ sort map { "sent=$_->{up} received=$_->{down}" } @flows ],
		"$name: the access log has the same numbers");

	is(scalar(log_lines($t, qr/ reason=(client|upstream)_eof$/, 'ends.log')), TUNNELS,
		"$name: and why they ended");
}

is_deeply([ log_lines($t, qr/\[(warn|error|crit|alert|emerg)\].*proxy_connect/) ], [],
	'the error log has nothing to tell');
ok(kill(0, worker_pid($t)), 'the worker lives');

###############################################################################

# The sizes of all directions: one of a tunnel is at least double the other, in turns, so that it
# goes on alone.
sub flows {
	my @flows;

	for my $number (1 .. TUNNELS) {
		my @shares = (1 + rand, 2 + 2 * (1 + rand));
		@shares = reverse @shares if $number % 2;
		push @flows, { number => $number, up => $shares[0], down => $shares[1],
			map { $_ => int rand 2 ** 22 } qw/ up_from down_from / };
	}

	for my $way (qw/ up down /) {
		my $all = sum(map { $_->{$way} } @flows);
		$_->{$way} = int(SIZE * $_->{$way} / $all) for @flows;
	}

	return @flows;
}

# All tunnels at once; what became of the clients' ends and of the upstreams'. The upstreams run in
# a process of their own.
sub traffic {
	my ($listener, $flows, %options) = @_;
	my @pairs = map { [ (pair($listener, %options))[0, 1] ] } @$flows;

	pipe my $reader, my $writer or die "No pipe: $!\n";
	my $pid = fork() // die "Can't fork: $!\n";

	if ($pid == 0) {
		# What is closed here must say nothing over TLS.
		POSIX::close(fileno $_->[0]->handle()) for @pairs;
		serve($writer, map { upstream_end($pairs[$_][1], $flows->[$_]) } 0 .. $#pairs);
		POSIX::_exit(0);
	}

	close $writer;
	$_->[1]->close() for @pairs;
	my $finish = $options{tls} ? \&send_close_notify : sub { $_[0]->half_close() };
	my @clients = run_ends(PATIENCE,
		map { client_end($pairs[$_][0], $flows->[$_], $finish) } 0 .. $#pairs);
	$_->[0]->close() for @pairs;

	my $upstreams = eval { Storable::fd_retrieve($reader) } // [];
	waitpid $pid, 0;
	return (\@clients, $upstreams);
}

sub serve {
	my ($writer, @ends) = @_;
	srand $seed + 1;
	my @outcomes = run_ends(PATIENCE, @ends);
	Storable::store_fd(\@outcomes, $writer);
	close $writer;
	return;
}

sub client_end {
	my ($socket, $flow, $finish) = @_;
	return stream_end($socket, number => $flow->{number}, finish => $finish,
		send => $flow->{up}, from => $flow->{up_from}, at => $flow->{down_from});
}

sub upstream_end {
	my ($socket, $flow) = @_;
	return stream_end($socket, number => $flow->{number}, finish => sub { $_[0]->half_close() },
		send => $flow->{down}, from => $flow->{down_from}, at => $flow->{up_from});
}

# In how many tunnels all that was to go one way arrived, and was then ended by an end of file; of
# the others it tells what went wrong.
sub arrived {
	my ($name, $way, $flows, $senders, $readers) = @_;
	my $whole = 0;

	for my $i (0 .. $#$flows) {
		my ($flow, $from, $to) = ($flows->[$i], $senders->[$i] // {}, $readers->[$i] // {});
		my $same = ($from->{sent} // -1) == $flow->{$way} && ($to->{got} // -1) == $flow->{$way}
			&& $from->{sent_digest} eq $to->{got_digest};

		if ($same && !defined $to->{wrong} && $to->{ending} eq 'eof') {
			$whole++;
			next;
		}

		diag("$name, tunnel $flow->{number}, $way, TEST_SEED=$seed: of $flow->{$way} bytes: "
			. told($from, qw/ sent sent_digest error /) . '; '
			. told($to, qw/ got got_digest wrong ending error /));
	}

	return $whole;
}

sub told {
	my ($outcome, @names) = @_;
	return join ', ', map { "$_ " . ($outcome->{$_} // 'none') } @names;
}

# What the access log says of the tunnels, without the reason.
sub ends {
	my ($t) = @_;
	return map { s/ reason=.*//r } access_lines($t, TUNNELS, 'ends.log');
}
