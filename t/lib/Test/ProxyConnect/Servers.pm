package Test::ProxyConnect::Servers;

# Owns servers that differ in some directives, and what a client gets from one of them, by its name. Each
# is chosen by its port: the name that a CONNECT gives is where it goes.

use warnings;
use strict;

use base 'Exporter';

use Test::Nginx qw/ port /;
use Test::ProxyConnect::Client qw/ client connect_request exchange status_of body_of /;

our @EXPORT = qw/
	server_blocks server_port answer page start header header_from status_from through
/;

my %port;

# The blocks of the servers for a configuration, each with the directives that stand under its name.
sub server_blocks {
	my (%servers) = @_;
	my $number = 8100;

	return join "\n", map {
		my $listen = "127.0.0.1:%%PORT_$number%%";
		server_port($_, $number++);
		<<"EOB";
    server {
        listen       $listen;
        server_name  $_;

        proxy_connect;
        proxy_connect_allow 1-65000;

        $servers{$_}
    }
EOB
	} sort keys %servers;
}

# The port of a server. With a number, it is the one that stands for that: of a server that the test has
# written itself.
sub server_port {
	my ($server, $number) = @_;
	$port{$server} = port($number) if defined $number;
	return $port{$server};
}

# All that comes for a CONNECT that gets no tunnel. What follows it must not be answered.
sub answer {
	my ($server, $authority, @fields) = @_;
	my $answer = exchange(connect_request($authority, @fields)
		. "GET /smuggled HTTP/1.1\x0d\x0aHost: x\x0d\x0a\x0d\x0a", port => $port{$server});

	die "What followed a CONNECT was answered: $answer\n"
		if (() = $answer =~ m!^HTTP/1\.!mg) > 1;
	return $answer;
}

# The status and the one line of the body.
sub page {
	my ($server, @request) = @_;
	my $answer = answer($server, @request);
	return status_of($answer) . ' ' . (body_of($answer) =~ s/\n//r);
}

# A client of that server, perhaps with an address of its own, that has sent its CONNECT.
sub start {
	my ($server, $local, @request) = @_;
	return client(port => $port{$server}, $local ? (local => $local) : ())
		->send(connect_request(@request));
}

# The header alone, whatever it says.
sub header {
	my ($server, @request) = @_;
	return header_from($server, undef, @request);
}

sub header_from {
	my $socket = start(@_);
	my $header = $socket->read_header();
	$socket->close();
	return $header;
}

sub status_from {
	return status_of(header_from(@_));
}

# The status, and what the echo says.
sub through {
	my ($server, @request) = @_;
	my $socket = start($server, undef, @request);

	my $status = status_of($socket->read_header());
	return $status unless $status eq 200;

	my $echo = $socket->send('echo')->read_bytes(4);
	$socket->close();
	return "$status $echo";
}

1;
