package Test::ProxyConnect::Parent;

# Owns scripted parents: what they do is what Test::ProxyConnect::Upstream has a server do. What they were asked is
# told in the file parent.log of the test's folder, a line each: what Test::ProxyConnect::Upstream calls the address,
# and the request with its ends of lines as "|".

use warnings;
use strict;

use base 'Exporter';

use Socket qw/ inet_ntoa inet_ntop AF_INET6 /;

use Test::ProxyConnect::Logs qw/ log_lines /;

our @EXPORT = qw/ answers says socks asked told_of OPEN /;

# The least answer that opens a tunnel.
use constant OPEN => "HTTP/1.1 200 OK\x0d\x0a\x0d\x0a";

use constant NOTES => 'parent.log';

# A parent that reads a CONNECT and answers with that text, in pieces if it is told how large; then it does as the
# other behaviour, or says what it hears.
sub answers {
	my ($t, $text, %options) = @_;
	my $file = $t->testdir() . '/' . NOTES;

	return sub {
		my ($socket) = @_;
		my $request = $socket->read_header();

		note($file, $socket->local() . ' ' . $request =~ s/\x0d\x0a/|/gr);
		say_in_pieces($socket, $text, $options{piece});
		return if $options{closes};
		return $socket->reset() if $options{resets};
		($options{then} // \&echo)->($socket);
	};
}

# The same for one that does not wait for a request.
sub says {
	my ($text, %options) = @_;

	return sub {
		my ($socket) = @_;
		say_in_pieces($socket, $text, $options{piece});
		return if $options{closes};
		($options{then} // \&echo)->($socket);
	};
}

sub say_in_pieces {
	my ($socket, $text, $piece) = @_;
	return if $text eq '';
	return $piece ? $socket->send_in_pieces($text, $piece, 0) : $socket->send($text);
}

sub echo {
	my ($socket) = @_;
	while (defined(my $bytes = $socket->read_some())) {
		$socket->send($bytes);
	}
}

# A SOCKS server. Options:
#
#   user     "NAME:PASSWORD" that it wants
#   method   the method that it answers with, in the place of the right one
#   auth     the status of its answer to credentials, in the place of the right one
#   reply    its reply, in the place of one that opens a tunnel
#   piece    in pieces of that size
#   dies     after so many bytes that it has sent it closes
sub socks {
	my ($t, %options) = @_;
	my $file = $t->testdir() . '/' . NOTES;

	return sub {
		my ($socket) = @_;
		my $left = $options{dies};

		my $answer = sub {
			my ($bytes) = @_;
			$bytes = substr $bytes, 0, $left if defined $left;
			say_in_pieces($socket, $bytes, $options{piece});
			$left -= length $bytes if defined $left;
			return !defined $left || $left > 0;
		};

		my $methods = $socket->read_bytes(unpack 'x C', $socket->read_bytes(2));
		my $wanted = defined $options{user} ? 2 : 0;
		my $is_offered = grep { $_ == $wanted } unpack 'C*', $methods;
		my $method = $options{method} // ($is_offered ? $wanted : 255);
		$answer->(pack 'CC', 5, $method) or return;
		return $socket->read_to_end() if $method == 255;

		my $user = '-';

		if ($method == 2) {
			my $name = $socket->read_bytes(unpack 'x C', $socket->read_bytes(2));
			my $password = $socket->read_bytes(unpack 'C', $socket->read_bytes(1));
			$user = "$name:$password";
			my $status = $options{auth} // ($user eq $options{user} ? 0 : 1);
			$answer->(pack 'CC', 1, $status) or return;
			return $socket->read_to_end() if $status;
		}

		my ($command, $type) = unpack 'x C x C', $socket->read_bytes(4);
		my $host = $type == 1 ? inet_ntoa($socket->read_bytes(4))
			: $type == 4 ? inet_ntop(AF_INET6, $socket->read_bytes(16))
			: '"' . $socket->read_bytes(unpack 'C', $socket->read_bytes(1)) . '"';
		my $port = unpack 'n', $socket->read_bytes(2);

		note($file, $socket->local() . " $command $user $host $port");
		my $reply = $options{reply} // pack 'C4 C4 n', 5, 0, 0, 1, 127, 0, 0, 1, 1;
		$answer->($reply) or return;
		echo($socket);
	};
}

sub note {
	my ($file, $line) = @_;
	open my $notes, '>>', $file or die "Can't write $file: $!\n";
	$notes->syswrite("$line\n");
}

# A configuration without those of nginx's variables that this version does not have.
my %since = (
	upstream_bytes_sent     => '1.15.8',
	upstream_bytes_received => '1.11.4',
	upstream_connect_time   => '1.9.1',
	upstream_header_time    => '1.9.1',
);

sub told_of {
	my ($t, $conf) = @_;

	for my $name (grep { !$t->has_version($since{$_}) } keys %since) {
		$conf =~ s/\$$name\b/-/g;
	}

	return $conf;
}

# What parents at that port were asked.
sub asked {
	my ($t, $port) = @_;
	return map { s/^\S+ //r } log_lines($t, defined $port ? qr/^\S+:$port / : qr/^/, NOTES);
}

1;
