#!/usr/bin/perl

# Opens and closes tunnels as fast as they go, through 8 workers of which some are killed, while nginx reloads, and its
# pages are asked. In the end what it counted has to be what the clients have seen.
#
# churn.pl NGINX MODULE FOLDER SECONDS

use warnings;
use strict;

use IO::Socket::INET;
use JSON::PP;
use POSIX ();
use Socket qw/ SOMAXCONN AF_INET SOCK_STREAM INADDR_LOOPBACK pack_sockaddr_in /;
use Time::HiRes qw/ sleep time /;

$| = 1;

use constant WORKERS => 8;

# Processes, each of which has one tunnel at a time.
use constant CLIENTS => 12;

# How often a worker is killed, and nginx reloads, in seconds.
use constant { KILL_EVERY => 1.7, RELOAD_EVERY => 4.1 };

# How long a page may take, in seconds: nothing that it reads is locked.
use constant SLOW => 5;

my ($nginx, $module, $folder, $seconds) = @ARGV;
die "usage: churn.pl NGINX MODULE FOLDER SECONDS\n" unless ($seconds // '') =~ /^[1-9]\d*$/;

my $upstream = listener();
my $authority = '127.0.0.1:' . $upstream->sockport();
my ($port, $page) = map { $_->sockport() } (listener(), listener());

my @upstreams = map { start_child(\&serve) } 1 .. CLIENTS;
my $master = start_nginx();
until_true('nginx did not start', sub { answer("/status") });

my @clients = map { start_client($_) } 1 .. CLIENTS;
my $begin = time();
my ($kills, $reloads, $asked, $slowest) = disturb();

my %seen = (opened => 0, moved => 0, cut => 0, lost => 0);

for my $client (@clients) {
	my $counts = decode_json(readline $client->{pipe});
	waitpid $client->{pid}, 0;
	$seen{$_} += $counts->{$_} for keys %seen;
}

printf "==> %d tunnels in %d s, %d a second; %d workers killed, %d reloads, %d pages, the slowest after %.2f s\n",
	$seen{opened}, $seconds, $seen{opened} / (time() - $begin), $kills, $reloads, $asked, $slowest;

# What was cut before its answer may have been counted, what was lost behind it may not.
my $end = settled();
my $counted = $end->{connects}{'1.1'}{established};
my $closed = 0;
$closed += $_ for values %{$end->{closed}};

printf "    established %d: the clients saw %d, and %d were cut before their answer\n", $counted, @seen{qw/ opened cut /};
printf "    closed %d, of which %d with their worker\n", $closed, $end->{closed}{worker_lost};
printf "    bytes up %d: %d came back, and %d were cut behind the answer\n", $end->{bytes}{upload}, @seen{qw/ moved lost /};

my @wrong;
is($counted >= $seen{opened} && $counted <= $seen{opened} + $seen{cut}, 'tunnels that were established');
is($closed == $counted, 'tunnels that were closed');
is($end->{active} == 0 && !grep({ $_ } values %{$end->{by_version}}, values %{$end->{by_age}}), 'nothing stands');
is(list()->{total} == 0, 'nothing is listed');
is($end->{unlisted} == 0, 'all had a place');
is(!grep({ $_->{tunnels} || $_->{relay_bytes} } @{$end->{workers}}), 'no worker has any');
is(@{$end->{workers}} <= WORKERS, 'no worker is there but those that live');
is($end->{pipes}{open} == 0, 'no pipe is open');
is($end->{bytes}{upload} >= $seen{moved} - $kills * CLIENTS && $end->{bytes}{upload} <= $seen{moved} + $seen{lost}, 'bytes');
is($end->{duration_ms}{count} == $closed - $end->{closed}{worker_lost} - $end->{closed}{shutdown}
	|| $end->{duration_ms}{count} == $closed - $end->{closed}{worker_lost}, 'durations');
is($slowest < SLOW, 'no page was slow');
is(opens(), 'a tunnel opens');
is(!(my @lines = strange_lines()), 'the error log');
print map { "        $_" } @lines[0 .. ($#lines > 9 ? 9 : $#lines)];

stop();
die 'wrong: ' . join(', ', @wrong) . "\n" if @wrong;
print "all numbers are right\n";

sub is {
	my ($is, $name) = @_;
	printf "    %-7s %s\n", $is ? 'ok' : 'NOT OK', $name;
	push @wrong, $name unless $is;
	return;
}

###############################################################################
# The load

# Kills workers, reloads, and asks the pages meanwhile. How often, and how long the slowest page took.
sub disturb {
	my ($kills, $reloads, $asked, $slowest) = (0, 0, 0, 0);
	my ($kill, $reload, $show) = ($begin + KILL_EVERY, $begin + RELOAD_EVERY, $begin + 10);

	while ((my $now = time()) < $begin + $seconds) {
		if ($now > $kill && (my @workers = workers())) {
			$kill += KILL_EVERY;
			$kills += kill 'KILL', $workers[rand @workers];
		}

		if ($now > $reload) {
			$reload += RELOAD_EVERY;
			$reloads += kill 'HUP', $master;
		}

		if ($now > $show) {
			$show += 10;
			printf "    %d s: %s stand\n", $now - $begin, (eval { zone() } || { active => 'some' })->{active};
		}

		# The worker that is asked may be killed.
		my $asks = time();
		$asked++ if eval { zone() } && eval { list() };
		my $took = time() - $asks;
		$slowest = $took if $took > $slowest;
		sleep 0.1;
	}

	return ($kills, $reloads, $asked, $slowest);
}

sub start_client {
	pipe(my $read, my $write) or die "can't make a pipe: $!\n";
	my $pid = start_child(sub { close $read; run_client($write) });
	close $write;
	return { pid => $pid, pipe => $read };
}

# One tunnel after the other, until the time is over.
sub run_client {
	my ($write) = @_;
	my %counts = (opened => 0, moved => 0, cut => 0, lost => 0);
	my $end = time() + $seconds;

	while (time() < $end) {
		my $socket = connected($port) or next;
		my $came = put($socket, "CONNECT $authority HTTP/1.1\x0d\x0aHost: $authority\x0d\x0a\x0d\x0a")
			? get($socket, qr/\x0d\x0a\x0d\x0a$/) : '';

		if ($came eq '') {
			$counts{cut}++;
			next;
		}

		die "CONNECT was answered with \"$came\"\n" unless $came =~ m!^HTTP/1\.1 200 !;
		$counts{opened}++;

		if (put($socket, 'x') && get($socket, qr/x/) ne '') {
			$counts{moved}++;
		} else {
			$counts{lost}++;
		}
	}

	print $write encode_json(\%counts) . "\n";
	close $write;
	POSIX::_exit(0);
}

# Whether a tunnel opens, and moves bytes.
sub opens {
	my $socket = connected($port) or return 0;
	put($socket, "CONNECT $authority HTTP/1.1\x0d\x0aHost: $authority\x0d\x0a\x0d\x0a");
	return get($socket, qr/\x0d\x0a\x0d\x0a$/) =~ / 200 / && put($socket, 'x') && get($socket, qr/x/) eq 'x';
}

sub connected {
	my ($port) = @_;
	socket my $socket, AF_INET, SOCK_STREAM, 0 or die "can't make a socket: $!\n";
	return $socket if connect $socket, pack_sockaddr_in($port, INADDR_LOOPBACK);
	sleep 0.005;
	return;
}

sub put {
	my ($socket, $bytes) = @_;
	local $SIG{PIPE} = 'IGNORE';
	return (syswrite($socket, $bytes) // 0) == length $bytes;
}

# Reads until what has come matches; empty where it ended before.
sub get {
	my ($socket, $pattern) = @_;
	my $bytes = '';

	until ($bytes =~ $pattern) {
		sysread($socket, $bytes, 4096, length $bytes) or return '';
	}

	return $bytes;
}

# One connection after the other.
sub serve {
	while (my $socket = $upstream->accept()) {
		while (sysread($socket, my $bytes, 4096)) {
			put($socket, $bytes) or last;
		}
		close $socket;
	}

	return;
}

###############################################################################
# What nginx says

sub answer {
	my ($path) = @_;
	my $socket = connected($page) or return;
	put($socket, "GET $path HTTP/1.0\x0d\x0aHost: a\x0d\x0aAccept: application/json\x0d\x0a\x0d\x0a") or return;
	my $bytes = '';
	1 while sysread $socket, $bytes, 65536, length $bytes;
	my ($header, $body) = split /\x0d\x0a\x0d\x0a/, $bytes, 2;
	return $body;
}

sub zone { return decode_json(answer('/status'))->{zones}{churn} }
sub list { return decode_json(answer('/tunnels')) }

# The numbers, once nothing stands.
sub settled {
	my $zone;
	until_true('tunnels stand for ever', sub { $zone = eval { zone() }; $zone && $zone->{active} == 0 }, 1);
	# Workers that are asked to go are gone, too.
	until_true('old workers stay', sub { workers() == WORKERS });
	return zone();
}

# Waits for something, with a deadline; "mild" leaves it to the checks that it never came.
sub until_true {
	my ($words, $is, $mild) = @_;

	for (1 .. 300) {
		return 1 if $is->();
		sleep 0.1;
	}

	return if $mild;
	die "$words; see $folder/error.log\n";
}

# All that is worse than an error, but that workers were killed.
sub strange_lines {
	open my $log, '<', "$folder/error.log" or die "can't read $folder/error.log: $!\n";
	return grep { /\[(?:alert|emerg|crit)\]|a bug/ && !/exited on signal 9/ } <$log>;
}

###############################################################################
# The processes

sub start_nginx {
	mkdir $folder;
	mkdir "$folder/logs";

	open my $conf, '>', "$folder/nginx.conf" or die "can't write $folder/nginx.conf: $!\n";
	print $conf <<"EOC" or die "can't write: $!\n";
daemon off;
worker_processes @{[ WORKERS ]};
pid $folder/nginx.pid;
error_log $folder/error.log notice;
load_module $module;
events {
}
http {
    access_log off;
    proxy_connect_status_zone churn:1m;
    proxy_connect_rate_zone \$server_port zone=rates:1m upload=1g download=1g;
    server {
        listen 127.0.0.1:$port reuseport;
        proxy_connect;
        proxy_connect_allow all;
    }
    server {
        listen 127.0.0.1:$page;
        location / { proxy_connect_tunnels control=on; }
        location = /status { proxy_connect_status json; }
    }
}
EOC
	close $conf or die "can't write: $!\n";
	unlink "$folder/nginx.pid", "$folder/error.log";

	return start_child(sub { exec $nginx, '-p', "$folder/", '-c', "$folder/nginx.conf" });
}

sub start_child {
	my ($code) = @_;
	my $pid = fork() // die "can't fork: $!\n";
	return $pid if $pid;

	$code->();
	POSIX::_exit(1);
}

# The workers that live, but for those that are shutting down.
sub workers {
	return grep { read_file("/proc/$_/cmdline") =~ /worker process(?! is shutting down)/ }
		split ' ', read_file("/proc/$master/task/$master/children");
}

# A process may be gone in the meantime.
sub read_file {
	my ($name) = @_;
	open my $file, '<', $name or return '';
	local $/;
	return <$file> // '';
}

sub stop {
	kill 'TERM', grep { defined } $master;
	waitpid $master, 0 if defined $master;
	kill 'KILL', @upstreams;
	waitpid $_, 0 for splice @upstreams;
	undef $master;
	return;
}

END {
	my $status = $?;
	stop() if defined $master || @upstreams;
	$? = $status;
}

sub listener {
	return IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => SOMAXCONN)
		|| die "can't listen: $@\n";
}
