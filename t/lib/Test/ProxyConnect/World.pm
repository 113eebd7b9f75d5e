package Test::ProxyConnect::World;

# Owns a network of a test's own, in two namespaces: one of the proxy, and behind a link the world, with
# whatever addresses a test wants to be there. In both a server listens at some ports and tells in the
# file world.log who reached it:
#
#   local|world ADDRESS PORT connected
#   local|world ADDRESS PORT got BYTES          the first bytes that came, in hex
#
# Needs root, and ip(8), unshare(1) of Debian's iproute2 and util-linux.

use warnings;
use strict;

use base 'Exporter';

use Carp qw/ croak /;
use FindBin;
use IO::Select;
use IO::Socket::IP;
use Socket qw/ SOCK_STREAM /;

use Test::ProxyConnect::Logs qw/ log_lines log_mark wait_for_line /;

our @EXPORT = qw/ enter_namespace make_world reached mark_world /;
our @EXPORT_OK = qw/ serve /;

use constant NOTES => 'world.log';

# The addresses of the link.
use constant PROXY => qw/ 192.0.2.1 2001:db8::1 /;
use constant WORLD => qw/ 192.0.2.2 2001:db8::2 /;

# How many marks were set, and the ports that they go to: of servers at which nothing else arrives.
my $marks = 0;
my %mark_port = (world => 9, local => 9);

# Goes on in a network namespace of its own: to be called before anything is started. False where that
# can't be.
sub enter_namespace {
	return 1 if $ENV{PROXY_CONNECT_NAMESPACE};
	return 0 if $> != 0 || system('unshare --net ip link set lo up 2>/dev/null') != 0;

	$ENV{PROXY_CONNECT_NAMESPACE} = 1;
	exec('unshare', '--net', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh', $^X,
		(map { "-I$_" } @INC), "$FindBin::Bin/$FindBin::Script", @ARGV)
		or croak "Can't run unshare: $!\n";
}

# Makes the world, with these addresses in it, and servers there and here at these ports.
sub make_world {
	my ($t, %options) = @_;
	my $notes = $t->testdir() . '/' . NOTES;

	start($t, 'world', $notes, [ $mark_port{world}, @{$options{ports}} ], 'unshare', '--net');
	start($t, 'local', $notes, [ $mark_port{local}, @{$options{local}} ]);
	my ($world) = wait_for_line($t, qr/^world listens /, NOTES) =~ /(\d+)$/;
	wait_for_line($t, qr/^local listens /, NOTES);

	my @there = ('nsenter', '-t', $world, '-n', 'ip');
	my ($proxy4, $proxy6, $world4, $world6) = (PROXY, WORLD);

	run('ip', 'link', 'add', 'proxy0', 'type', 'veth', 'peer', 'name', 'world0', 'netns', $world);
	run('ip', 'addr', 'add', "$proxy4/24", 'dev', 'proxy0');
	run('ip', '-6', 'addr', 'add', "$proxy6/64", 'dev', 'proxy0', 'nodad');
	run(@there, 'addr', 'add', "$world4/24", 'dev', 'world0');
	run(@there, '-6', 'addr', 'add', "$world6/64", 'dev', 'world0', 'nodad');

	run(@there, 'link', 'set', $_, 'up') for 'lo', 'world0';
	run('ip', 'link', 'set', 'proxy0', 'up');

	# There is a route to what is there and to nothing else: nobody waits for an address that is not.
	for my $address (@{$options{addresses}}) {
		if ($address =~ /:/) {
			run(@there, '-6', 'addr', 'add', "$address/128", 'dev', 'world0', 'nodad');
			run('ip', '-6', 'route', 'add', $address, 'via', $world6);
		} else {
			run(@there, 'addr', 'add', "$address/32", 'dev', 'world0');
			run('ip', 'route', 'add', $address, 'via', $world4);
		}
	}

	run(@there, 'route', 'add', 'default', 'via', $proxy4);
	return;
}

# What was reached since the last mark, a line each. Whatever a server was told before is in its file when it
# has told of a connection of the test's own.
sub reached {
	my ($t) = @_;
	my $number = ++$marks;

	for my $host ((WORLD)[0], '127.0.0.1') {
		my $port = $host eq '127.0.0.1' ? $mark_port{local} : $mark_port{world};
		my $socket = IO::Socket::IP->new(PeerHost => $host, PeerPort => $port, Type => SOCK_STREAM)
			or croak "Can't connect to $host: $@\n";
		$socket->syswrite("mark $number");
		my $name = $host eq '127.0.0.1' ? 'local' : 'world';
		wait_for_line($t, qr/^$name \Q$host\E $port got \Q@{[unpack 'H*', "mark $number"]}\E/, NOTES);
	}

	my ($world) = WORLD;
	my @marks = ("world $world $mark_port{world} ", "local 127.0.0.1 $mark_port{local} ");

	return grep { my $line = $_; $line !~ / listens / && !grep { index($line, $_) == 0 } @marks }
		log_lines($t, qr/^/, NOTES);
}

sub mark_world {
	my ($t) = @_;
	return log_mark($t, NOTES);
}

sub run {
	system(@_) == 0 or croak "\"@_\" failed\n";
}

###############################################################################
# The servers

sub start {
	my ($t, $name, $notes, $ports, @namespace) = @_;
	my @lib = map { "-I$_" } @INC;

	$t->run_daemon(sub {
		exec @namespace, $^X, @lib, '-MTest::ProxyConnect::World=serve', '-e', 'serve(@ARGV)', $name,
			$notes, @$ports;
	});
}

# Listens at all addresses of its namespace.
sub serve {
	my ($name, $notes, @ports) = @_;
	my %listener;

	for my $port (@ports) {
		for my $host ('0.0.0.0', '::') {
			my $socket = IO::Socket::IP->new(LocalHost => $host, LocalPort => $port, Listen => 100,
				ReuseAddr => 1, V6Only => 1, Type => SOCK_STREAM) or croak "Can't listen: $@\n";
			$listener{$socket} = 1;
			push @{$listener{all}}, $socket;
		}
	}

	note($notes, "$name listens $$");
	my $ready = IO::Select->new(@{$listener{all}});

	while (1) {
		for my $socket ($ready->can_read()) {
			if ($listener{$socket}) {
				my $client = $socket->accept() or next;
				note($notes, "$name " . $client->sockhost() . ' ' . $client->sockport() . ' connected');
				$ready->add($client);
			} elsif (!answer($name, $notes, $socket)) {
				$ready->remove($socket);
				$socket->close();
			}
		}
	}
}

# Tells what came, and sends it back. False at the end.
sub answer {
	my ($name, $notes, $socket) = @_;

	my $count = sysread $socket, my $bytes, 65536;
	return 0 unless $count;

	note($notes, "$name " . $socket->sockhost() . ' ' . $socket->sockport() . ' got '
		. unpack 'H64', $bytes);
	return syswrite $socket, $bytes;
}

sub note {
	my ($file, $line) = @_;
	open my $notes, '>>', $file or die "Can't write $file: $!\n";
	$notes->syswrite("$line\n");
}

1;
