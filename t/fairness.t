#!/usr/bin/perl

# One tunnel that moves all it can does not starve the others of its worker: 100 tunnels play
# ping-pong beside it.

use warnings;
use strict;

use POSIX ();
use Test::More;
use Time::HiRes qw/ time /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant MB => 2 ** 20;

use constant TUNNELS => 100;
use constant ROUNDS => SLOWNESS > 1 ? 5 : 50;
use constant SIZE => 64;

# How long, in seconds, all rounds may take.
use constant PATIENCE => 60 * SLOWNESS;

my $t = Test::Nginx->new()->has(qw/http/);

$t->plan(9)->write_file_expand('nginx.conf', quietly($t, <<'EOC', 'info'));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
    worker_connections  1024;
}

http {
    %%TEST_GLOBALS_HTTP%%

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
    }

    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;
        proxy_connect_splice  off;
    }
}

EOC

$t->run();

my $listener = listener(port(8081));

for my $mode ([ 'auto', port => port(8080) ], [ 'copy', port => port(8082) ]) {
	my ($name, @options) = @$mode;
	my @players = map { player($_, pair($listener, @options)) } 1 .. TUNNELS;

	play(@players);
	note("$name, alone: " . times_of(@players));
	$_->{times} = [] for @players;

	my ($source, $sink, $counts) = bulk(pair($listener, @options));
	my $before = count($counts);
	play(@players);
	my $moved = count($counts) - $before;

	note(sprintf '%s, beside %.0f MiB: %s', $name, $moved / MB, times_of(@players));

	is(scalar(grep { $_->{done} == 2 * ROUNDS } @players), TUNNELS, "$name: all have played");
	is(scalar(grep { $_->{wrong} } @players), 0, "$name: with the bytes that were sent");
	cmp_ok($moved, '>', MB, "$name: the other went on meanwhile");

	kill 'KILL', $source;
	wait_for_eof($counts);
	waitpid $_, 0 for $source, $sink;
	is($?, 0, "$name: with the bytes that were sent");
	$_->close() for map { @{$_}{qw/ client upstream /} } @players;
}

ok(kill(0, worker_pid($t)), 'the worker lives');

###############################################################################
# Ping-pong

sub player {
	my ($number, $client, $upstream) = @_;
	return { number => $number, client => $client, upstream => $upstream,
		done => 0, wrong => 0, times => [] };
}

# All at once: each sends its ball, the upstream sends it back, ROUNDS times.
sub play {
	my (@players) = @_;
	my $end = time() + PATIENCE;
	my $goal = $players[0]{done} + ROUNDS;
	my (%of, $bits);

	for my $player (@players) {
		$of{fileno $player->{$_}->handle()} = [ $player, $_ ] for qw/ client upstream /;
		serve($player);
	}
	vec($bits, $_, 1) = 1 for keys %of;

	while (time() < $end && grep { $_->{done} < $goal } @players) {
		select my $ready = $bits, undef, undef, 1;
		my $now = time();

		for my $fd (grep { vec $ready, $_, 1 } keys %of) {
			my ($player, $side) = @{$of{$fd}};
			my $got = $player->{$side}->read_bytes(SIZE);
			$player->{wrong}++ if $got ne ball($player);
			$side eq 'client' ? back($player, $now, $goal) : $player->{upstream}->send($got);
		}
	}
}

# What no other tunnel and no other round has.
sub ball {
	my ($player) = @_;
	return substr "$player->{number} $player->{done} " . ' ' x SIZE, 0, SIZE;
}

sub serve {
	my ($player) = @_;
	$player->{at} = time();
	$player->{client}->send(ball($player));
}

sub back {
	my ($player, $now, $goal) = @_;

	push @{$player->{times}}, $now - $player->{at};
	$player->{done}++;
	serve($player) if $player->{done} < $goal;
}

# The test's own processes are in it too.
sub times_of {
	my (@players) = @_;
	my @times = sort { $a <=> $b } map { @{$_->{times}} } @players;
	return sprintf '%d round trips, p50 %.1f ms, p99 %.1f ms', scalar @times,
		map { 1000 * ($times[$_ * @times] // 0) } 0.5, 0.99;
}

###############################################################################
# Bulk

# Two processes, one that sends without an end and one that reads and, asked for it, tells how many
# bytes it got; and the pipes to ask with.
sub bulk {
	my ($client, $upstream) = @_;
	pipe my $ask, my $asker or die "No pipe: $!\n";
	pipe my $hear, my $teller or die "No pipe: $!\n";

	my $source = process(sub {
		close $_ for $ask, $asker, $hear, $teller;
		send_on($client);
	});
	my $sink = process(sub {
		close $_ for $asker, $hear;
		$client->close();
		receive($upstream, $ask, $teller);
	});

	close $_ for $ask, $teller;
	$_->close() for $client, $upstream;
	$asker->autoflush(1);
	return ($source, $sink, { ask => $asker, hear => $hear });
}

sub process {
	my ($code) = @_;
	my $pid = fork() // die "Can't fork: $!\n";
	return $pid if $pid;

	my $right = eval { $code->() };
	POSIX::_exit($right ? 0 : 1);
}

sub send_on {
	my ($end) = @_;
	my $bytes = noise(MB);
	$end->send($bytes) while 1;
}

# Whether all that came until the end was what is sent.
sub receive {
	my ($end, $ask, $teller) = @_;
	my ($count, $right, $bytes) = (0, 1, noise(MB));
	$teller->autoflush(1);

	while (1) {
		my $bits = '';
		vec($bits, $_, 1) = 1 for fileno $ask, fileno $end->handle();
		select $bits, undef, undef, undef;

		if (vec $bits, fileno $ask, 1) {
			print $teller "$count\n" if sysread $ask, my $question, 1;
		}

		next unless vec $bits, fileno $end->handle(), 1;
		my $n = $end->handle()->sysread(my $got, MB - $count % MB);
		return $right unless $n;
		$right &&= $got eq substr $bytes, $count % MB, $n;
		$count += $n;
	}
}

sub count {
	my ($counts) = @_;
	print {$counts->{ask}} '?';
	return readline($counts->{hear}) + 0;
}

sub wait_for_eof {
	my ($counts) = @_;
	readline $counts->{hear};
}
