#!/usr/bin/perl

# Sends one worker many requests over connections that are kept alive, and as many CONNECTs, each a
# tunnel that is used and closed. Prints the worker's resident memory on the way, and fails where it
# has grown.
#
# soak.pl NGINX MODULE FOLDER COUNT

use warnings;
use strict;

use IO::Socket::INET;
use Socket qw/ SOMAXCONN /;
use Time::HiRes qw/ sleep time /;

$| = 1;

# How many bytes more a worker may have at the end than after the warm-up.
use constant LIMIT => 1024 * 1024;

# Of the count, what comes before the first look at the memory; connections that are kept alive.
use constant WARM_UP => 0.05;
use constant KEPT => 20;

my ($nginx, $module, $folder, $count) = @ARGV;
die "usage: soak.pl NGINX MODULE FOLDER COUNT\n" unless ($count // '') =~ /^[1-9]\d*$/;

my $upstream = listener();
my $upstream_port = $upstream->sockport();
my $port = free_port();

my $echo = start_child(\&serve);
my $master = start_nginx();
my $worker = find_worker();
my $begin = time();

run('warm-up', $count * WARM_UP, \&requests, \&connects);

my %rss = (begin => show('after the warm-up'));
run('requests', $count, \&requests);
$rss{middle} = show("after $count requests kept alive");
run('CONNECTs', $count, \&connects);
$rss{end} = show("after $count CONNECTs");

printf "%d s\n", time() - $begin;
stop();

for my $when (qw/ middle end /) {
	my $growth = $rss{$when} - $rss{begin};
	die "the worker grew by $growth bytes\n" if $growth > LIMIT;
}

print "the worker did not grow\n";

###############################################################################
# The load

# Runs each kind so many times, in parts that show how far it is.
sub run {
	my ($name, $times, @kinds) = @_;

	for my $kind (@kinds) {
		for my $part (1 .. 10) {
			$kind->(int $times / 10);
			printf "    %s: %d %%, %d KiB\n", $name, 10 * $part, rss() / 1024;
		}
	}

	return;
}

my @kept;

# GETs, by turns over connections that live as long as the soak.
sub requests {
	my ($times) = @_;
	@kept = map { client() } 1 .. KEPT unless @kept;

	for my $number (1 .. $times) {
		my $socket = $kept[$number % KEPT];
		put($socket, "GET / HTTP/1.1\x0d\x0aHost: localhost\x0d\x0a\x0d\x0a");
		my $answer = get($socket, qr/\x0d\x0a\x0d\x0afine$/);
		die "GET was answered with \"$answer\"\n" unless $answer =~ m!^HTTP/1\.1 200 !;
	}

	return;
}

# Tunnels with an echo at the end.
sub connects {
	my ($times) = @_;
	my $authority = "127.0.0.1:$upstream_port";

	for (1 .. $times) {
		my $socket = client();
		put($socket, "CONNECT $authority HTTP/1.1\x0d\x0aHost: $authority\x0d\x0a\x0d\x0a");
		my $answer = get($socket, qr/\x0d\x0a\x0d\x0a$/);
		die "CONNECT was answered with \"$answer\"\n" unless $answer =~ m!^HTTP/1\.1 200 !;

		put($socket, 'there and back');
		get($socket, qr/^there and back$/);
		close $socket;
	}

	return;
}

# All ports of the machine may be in use for a moment.
sub client {
	for (1 .. 500) {
		my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port", Timeout => 10);
		return $socket if $socket;
		sleep 0.02;
	}

	die "can't connect to nginx: $@\n";
}

sub put {
	my ($socket, $bytes) = @_;
	(syswrite($socket, $bytes) // 0) == length $bytes or die "can't send: $!\n";
	return;
}

# Reads until what has come matches.
sub get {
	my ($socket, $pattern) = @_;
	my $bytes = '';

	until ($bytes =~ $pattern) {
		sysread($socket, $bytes, 4096, length $bytes) or die "the connection ended after \"$bytes\"\n";
	}

	return $bytes;
}

###############################################################################
# The processes

# The upstream: one connection after the other, as the tunnels come.
sub serve {
	while (my $socket = $upstream->accept()) {
		while (sysread($socket, my $bytes, 4096)) {
			syswrite($socket, $bytes);
		}
		close $socket;
	}

	return;
}

sub start_nginx {
	mkdir $folder;
	mkdir "$folder/logs";

	open my $conf, '>', "$folder/nginx.conf" or die "can't write $folder/nginx.conf: $!\n";
	print $conf <<"EOF" or die "can't write: $!\n";
daemon off;
worker_processes 1;
pid $folder/nginx.pid;
error_log $folder/error.log;
load_module $module;
events {
}
http {
    access_log off;
    keepalive_requests 1000000;
    keepalive_timeout 600s;
    server {
        listen 127.0.0.1:$port;
        proxy_connect;
        proxy_connect_allow all;
        location / {
            return 200 "fine";
        }
    }
}
EOF
	close $conf or die "can't write: $!\n";
	unlink "$folder/nginx.pid", "$folder/error.log";

	return start_child(sub { exec $nginx, '-p', "$folder/", '-c', "$folder/nginx.conf" });
}

sub start_child {
	my ($code) = @_;
	my $pid = fork() // die "can't fork: $!\n";
	return $pid if $pid;

	$code->();
	exit 1;
}

sub find_worker {
	for (1 .. 500) {
		my ($pid) = map { m!^/proc/(\d+)/! } grep { is_worker($_) } glob '/proc/[0-9]*/stat';
		return $pid if $pid;
		sleep 0.02;
	}

	die "nginx did not start; see $folder/error.log\n";
}

sub is_worker {
	my ($stat) = @_;
	return read_file($stat) =~ /\) \S $master /
		&& read_file($stat =~ s/stat$/cmdline/r) =~ /worker process/;
}

sub rss {
	my ($kib) = read_file("/proc/$worker/status") =~ /^VmRSS:\s*(\d+) kB/m
		or die "the worker is gone; see $folder/error.log\n";
	return 1024 * $kib;
}

sub show {
	my ($when) = @_;
	my $rss = rss();
	printf "==> RSS %s: %d KiB\n", $when, $rss / 1024;
	return $rss;
}

# A process may be gone in the meantime.
sub read_file {
	my ($name) = @_;
	open my $file, '<', $name or return '';
	local $/;
	return <$file> // '';
}

sub stop {
	kill 'TERM', grep { defined } $master, $echo;
	waitpid $_, 0 for grep { defined } $master, $echo;
	undef $_ for $master, $echo;
	return;
}

END {
	my $status = $?;
	stop() if ($master // 0) && ($echo // 0);
	$? = $status;
}

sub listener {
	return IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => SOMAXCONN)
		|| die "can't listen: $@\n";
}

sub free_port {
	my $socket = listener();
	return $socket->sockport();
}
