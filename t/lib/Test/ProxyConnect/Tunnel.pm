package Test::ProxyConnect::Tunnel;

# Tunnels with both ends in the test's own process, so that the test decides what each end does
# and when; and bytes to move through them.

use warnings;
use strict;

use base 'Exporter';

use Carp qw/ croak /;
use Digest::SHA qw/ sha256_hex /;
use POSIX ();

use Test::ProxyConnect::Client qw/ client connect_request /;
use Test::ProxyConnect::Logs qw/ log_lines wait_for_line /;
use Test::ProxyConnect::Socket;
use Test::ProxyConnect::Upstream;
use Test::ProxyConnect::Wait qw/ deadline left wait_until SLOWNESS /;
use Test::ProxyConnect::Worker qw/ wait_for_workers /;

our @EXPORT = qw/
	listener accept_end unaccepted knock pair cross fill fill_now flooded noise same is_logged
	plain_tls send_close_notify got_close_notify quietly lone_worker wait_for_exit
/;

use constant CHUNK => 65536;

# After how long, in seconds, a connection that took nothing will take no more.
use constant FULL => 0.2 * SLOWNESS;

# An upstream that the test itself accepts from. See Test::ProxyConnect::Upstream for addresses.
sub listener {
	my ($address) = @_;
	$address = "127.0.0.1:$address" if $address =~ /^\d+$/;
	return Test::ProxyConnect::Upstream::listen_at($address, 1024);
}

# The next connection to a listener.
sub accept_end {
	my ($listener, $seconds) = @_;

	vec(my $bits = '', fileno $listener, 1) = 1;
	select($bits, undef, undef, left(deadline($seconds))) > 0
		or croak "Nobody connected to the upstream\n";

	my $handle = $listener->accept() or croak "Can't accept: $!\n";
	return Test::ProxyConnect::Socket->new($handle);
}

# How many connections came to a listener that the test did not expect; they are dropped.
sub unaccepted {
	my ($listener) = @_;
	my $count = 0;

	while (1) {
		vec(my $bits = '', fileno $listener, 1) = 1;
		return $count unless select($bits, undef, undef, 0) > 0;
		$listener->accept() and $count++;
	}
}

# A client that has sent its CONNECT and has not read the answer. Options are those of client(),
# and:
#
#   authority   where to; the listener's own address unless told
#   fields      lines of the header
#   early       bytes right behind the header, in one piece with it
sub knock {
	my ($listener, %options) = @_;
	my $authority = $options{authority} // address_of($listener);
	my $client = client(%options);

	$client->send(connect_request($authority, @{$options{fields} // []})
		. ($options{early} // ''));

	return $client;
}

# Both ends of a tunnel that stands, and the header of the answer.
sub pair {
	my ($listener, %options) = @_;

	my $client = knock($listener, %options);
	my $upstream = accept_end($listener);
	my $header = $client->read_header();

	croak "No tunnel, but \"$header\"\n" unless $header =~ m!^HTTP/1\.1 200 !;
	return ($client, $upstream, $header);
}

sub address_of {
	my ($listener) = @_;
	return $listener->can('sockport')
		? '127.0.0.1:' . $listener->sockport() : '127.0.0.1:443';
}

###############################################################################
# Bytes

# Bytes without a pattern that a buffer's size could hide in: a block of them whose length is
# prime, over and over.
my $block;

sub noise {
	my ($size) = @_;
	$block //= substr join('', map { pack 'N', int rand 2 ** 32 } 1 .. 65536), 0, 262139;
	return substr $block x (1 + int($size / length $block)), 0, $size;
}

# Moves bytes both ways at once: "up" from the client, "down" to it. Returns what arrived at the
# upstream and at the client.
sub cross {
	my ($client, $upstream, $up, $down, $seconds) = @_;
	my $deadline = deadline($seconds);

	my @flows = (
		{ from => $client, to => $upstream, bytes => \$up, sent => 0, got => '' },
		{ from => $upstream, to => $client, bytes => \$down, sent => 0, got => '' },
	);

	local $SIG{PIPE} = 'IGNORE';
	$_->{got} = take_read($_->{to}) for @flows;

	while (grep { length $_->{got} < length ${$_->{bytes}} } @flows) {
		my $moved = 0;
		$moved += send_some($_) + read_some($_) for @flows;
		next if $moved;
		wait_for_flows($deadline, @flows) or last;
	}

	return map { $_->{got} } @flows;
}

# What read_header() and its like have read too much.
sub take_read {
	my ($end) = @_;
	return substr $end->{input}, 0, length $end->{input}, '';
}

sub send_some {
	my ($flow) = @_;
	return 0 unless $flow->{sent} < length ${$flow->{bytes}};

	my $n = $flow->{from}->handle()
		->syswrite(${$flow->{bytes}}, CHUNK, $flow->{sent});
	check($flow->{from}, $n);
	$flow->{sent} += $n // 0;
	return $n // 0;
}

sub read_some {
	my ($flow) = @_;
	return 0 unless length $flow->{got} < length ${$flow->{bytes}};

	my $n = $flow->{to}->handle()->sysread($flow->{got}, CHUNK, length $flow->{got});
	check($flow->{to}, $n);
	croak 'The end of file came after ' . length($flow->{got}) . ' of '
		. length(${$flow->{bytes}}) . " bytes\n" if defined $n && $n == 0;
	return $n // 0;
}

sub check {
	my ($end, $n) = @_;
	croak "The connection broke: $!\n" unless defined $n || $end->may_go_on();
}

sub wait_for_flows {
	my ($deadline, @flows) = @_;
	my ($reads, $writes) = ('', '');

	for my $flow (@flows) {
		my $size = length ${$flow->{bytes}};
		vec($reads, fileno $flow->{to}->handle(), 1) = 1 if length $flow->{got} < $size;
		vec($writes, fileno $flow->{from}->handle(), 1) = 1 if $flow->{sent} < $size;
	}

	return select($reads, $writes, undef, left($deadline)) > 0;
}

# Sends what the connection takes while nobody reads, and returns how much that was. It takes no
# more once it took nothing for so many seconds, FULL unless told.
sub fill {
	my ($end, $bytes, $seconds) = @_;
	local $SIG{PIPE} = 'IGNORE';
	my $sent = 0;

	while ($sent < length $bytes) {
		my $n = $end->handle()->syswrite($bytes, CHUNK, $sent);
		$sent += $n // 0;
		next if defined $n;

		check($end, $n);
		last unless $end->wait_for('write', deadline($seconds // FULL));
	}

	return $sent;
}

# Whether more than the buffers hold arrives at an end, from the other.
sub flooded {
	my ($to, $from) = @_;
	my $sent = fill($from, noise(32 * 2 ** 20));
	return $to->read_bytes($sent) eq noise($sent);
}

# Sends the noise, over and over, as far as it is taken at once.
sub fill_now {
	my ($end) = @_;
	local $SIG{PIPE} = 'IGNORE';
	my $bytes = noise(4 * CHUNK);
	1 while $end->handle()->syswrite($bytes);
	return;
}

# A test that two long strings are the same, which doesn't print them.
sub same {
	my ($got, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	Test::More::is(summary($got), summary($expected), $name);
}

sub summary {
	my ($bytes) = @_;
	return defined $bytes ? length($bytes) . ' bytes, ' . sha256_hex($bytes) : 'nothing';
}

# A test that the log of ends, ends.log, gets a line that matches. Other tunnels may still write
# theirs.
sub is_logged {
	my ($t, $pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	Test::More::ok(eval { wait_for_line($t, $pattern, 'ends.log') }, $name)
		or Test::More::diag("no line with $pattern, but:\n",
			join "\n", log_lines($t, qr/^/, 'ends.log'));
}

###############################################################################
# TLS

# Options of client() for TLS with nothing special. The certificates that a system trusts, which
# take a while to read, are read once, not for each client. None without IO::Socket::SSL, see
# Test::ProxyConnect::TLS.
my $context;

sub plain_tls {
	eval { require IO::Socket::SSL } or return {};
	$context //= IO::Socket::SSL::SSL_Context->new(
		SSL_verify_mode => IO::Socket::SSL::SSL_VERIFY_NONE())
		or croak 'No TLS: ' . IO::Socket::SSL::errstr() . "\n";

	return { SSL_reuse_ctx => $context };
}

# The half-close of TLS: the connection stays open both ways. Over HTTP/2 TLS is that of what stands before nginx.
sub send_close_notify {
	my ($end) = @_;
	return $end->half_close() unless $end->handle()->can('get_cipher');
	Net::SSLeay::shutdown($end->handle()->_get_ssl_object()) >= 0
		or croak "Can't send close_notify\n";
	return;
}

# Whether the other side has said that it will send no more, and has not just vanished.
sub got_close_notify {
	my ($end) = @_;
	return 1 if $ENV{TEST_NGINX_HTTP2};
	return Net::SSLeay::get_shutdown($end->handle()->_get_ssl_object()) & 2 ? 1 : 0;
}

###############################################################################

# A configuration whose log has no lines below a level, for tests that would write too many of
# them.
sub quietly {
	my ($t, $conf, $level) = @_;
	my $globals = $t->test_globals() =~ s/error\.log debug;/error.log $level;/r;
	return $conf =~ s/%%TEST_GLOBALS%%/$globals/r;
}

# The one worker, once it is there: nginx.pid is, a moment before it has something in it.
sub lone_worker {
	my ($t) = @_;
	wait_until('nginx.pid stayed empty', sub { -s $t->testdir() . '/nginx.pid' });
	return (wait_for_workers($t, 1))[0];
}

# Waits until an nginx that was told to go is gone. Test::Nginx, which will want to stop it, finds
# the pid of a process that has ended in its place.
sub wait_for_exit {
	my ($t, $seconds) = @_;
	my $file = $t->testdir() . '/nginx.pid';

	wait_until('nginx did not exit', sub { !-e $file }, $seconds);

	my $pid = fork() // croak "Can't fork: $!\n";
	POSIX::_exit(0) if $pid == 0;
	$t->write_file('nginx.pid', "$pid\n");
	$t->stop();
	return;
}

1;
