package Test::ProxyConnect::OverHTTP2;

# Owns running tests, whatever they are of, with their tunnels over HTTP/2: between each client and nginx stands a process that
# takes a CONNECT of HTTP/1 and makes it a stream on a connection of its own. With TEST_NGINX_HTTP2=1 in the environment any
# test does so, on nginx 1.25.1 and newer.
#
#   END_STREAM                  an end of file
#   RST_STREAM                  a reset, once all bytes before it are delivered
#   the end of the connection   the end

use warnings;
use strict;

use base 'Exporter';

use IO::Select;
use IO::Socket::IP;
use POSIX ();
use Socket qw/ SHUT_WR SOL_SOCKET SO_LINGER /;

use Test::More ();
use Test::Nginx;
use Test::ProxyConnect::Client qw/ client /;
use Test::ProxyConnect::HTTP2 ();
use Test::ProxyConnect::Kernel qw/ unacknowledged /;
use Test::ProxyConnect::Socket;
use Test::ProxyConnect::Wait qw/ SHARE wait_until /;

our @EXPORT_OK = qw/ pass_over_http2 /;

use constant CHUNK => 65536;
use constant WINDOW => 262144;
use constant CANCEL => 8;

# Fields that have no place in a request of HTTP/2, or another one (RFC 9113, section 8.2.2).
my %own_fields = map { $_ => 1 } qw/ host connection proxy-connection /;

# How long it stands at most, in seconds.
use constant PATIENCE => 120;

# How many files of tests run at a time: they mostly wait.
use constant AT_ONCE => 3;

# A test for each file of tests that it passes with its tunnels over HTTP/2, with that share of its tunnels and bytes.
sub pass_over_http2 {
	my ($share, @files) = @_;

	local $ENV{TEST_NGINX_HTTP2} = 1;
	local $ENV{TEST_NGINX_SHARE} = $share * SHARE;
	my @running;

	while (@files || @running) {
		push @running, begin(shift @files) while @files && @running < AT_ONCE;
		IO::Select->new(map { $_->{output} } @running)->can_read();

		my @over = grep { has_ended($_) } @running;
		@running = grep { !$_->{is_over} } @running;
		passes($_) for @over;
	}
}

sub begin {
	my ($file) = @_;
	open my $test, '-|', $^X, (map { "-I$_" } @INC), $file or die "Can't run $file: $!\n";
	return { file => $file, output => $test, lines => '' };
}

# Takes what it says, and tells whether that was all.
sub has_ended {
	my ($run) = @_;
	my $has_more = IO::Select->new($run->{output})->can_read(0);
	$run->{is_over} = $has_more && !sysread $run->{output}, $run->{lines}, CHUNK, length $run->{lines};
	return $run->{is_over};
}

sub passes {
	my ($run) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 2;

	my @lines = split /^/, $run->{lines};
	my $has_ended = close $run->{output};
	my @failed = grep { /^not ok (?!.*# TODO)/ } @lines;

	return Test::More::ok($has_ended && !@failed && grep(/^ok /, @lines), "$run->{file} over HTTP/2")
		|| Test::More::diag(@failed);
}

my $write = \&Test::Nginx::write_file_expand;

sub write_with_http2 {
	my ($t, $name, $content) = @_;
	$content =~ s/(%%TEST_GLOBALS_HTTP%%)/$1\n    http2  on;/ if $name eq 'nginx.conf';
	return $write->($t, $name, $content);
}

if ($ENV{TEST_NGINX_HTTP2}) {
	no warnings qw/ redefine prototype /;
	*Test::Nginx::write_file_expand = \&write_with_http2;
}

# A handle whose other end is a process that stands before nginx, as a client with these options.
sub handle {
	my (%options) = @_;
	my $tls = delete $options{tls};
	my $listener = IO::Socket::IP->new(LocalHost => '127.0.0.1', LocalPort => 0, Listen => 1) or die "Can't listen: $!\n";

	# The certificates that a system trusts take a while to read.
	my %tls = $tls ? (h2 => tls_of($tls, 'h2'), other => tls_of($tls)) : ();

	# Its child is nobody's to wait for.
	my $pid = fork() // die "Can't fork: $!\n";

	if ($pid == 0) {
		POSIX::_exit(0) if fork();
		my $handle = $listener->accept();
		close_others(fileno $handle);
		$SIG{$_} = 'DEFAULT' for qw/ TERM INT CHLD ALRM /;
		open STDOUT, '>', '/dev/null';
		alarm PATIENCE;
		# Whichever end is gone, the other hears of it by this one's end.
		eval { stand(Test::ProxyConnect::Socket->new($handle), \%tls, %options); 1 } or $@ =~ /^Can't send/ or warn $@;
		POSIX::_exit(0);
	}

	waitpid $pid, 0;
	return IO::Socket::IP->new(PeerHost => '127.0.0.1', PeerPort => $listener->sockport()) || die "Can't connect: $!\n";
}

# Options of client() for TLS with these protocols. Of those that a test has, the name is no part of the context.
my %contexts;

sub tls_of {
	my ($options, @protocols) = @_;
	require IO::Socket::SSL;

	my %options = ref $options ? %$options : ();
	delete $options{SSL_reuse_ctx};
	my %name = map { $_ => delete $options{$_} } grep { exists $options{$_} } 'SSL_hostname';
	my $key = join ' ', @protocols, map { $_ => $options{$_} } sort keys %options;

	return { %name, SSL_reuse_ctx => $contexts{$key} //= IO::Socket::SSL::SSL_Context->new(
		SSL_verify_mode => IO::Socket::SSL::SSL_VERIFY_NONE(),
		%options,
		@protocols ? (SSL_alpn_protocols => \@protocols) : (),
	) };
}

# Others would never hear of an end.
sub close_others {
	my ($own) = @_;
	opendir my $fds, '/proc/self/fd' or die "No descriptors: $!\n";
	my $is_kept = sub { $_[0] <= 2 || $_[0] == $own };
	POSIX::close($_) for grep { /^\d+$/ && !$is_kept->($_) } readdir $fds;
}

# Stands between a client and nginx. What is no CONNECT goes on as it is.
sub stand {
	my ($client, $tls, %options) = @_;
	return unless eval { $client->read_while(sub { length $client->{input} < 7 }, 'a request'); 1 };
	return pass_on($client, client(%options, %$tls ? (tls => $tls->{other}) : ())) unless $client->{input} =~ /^CONNECT/;

	my $header = $client->read_header();
	my ($line, @lines) = split /\x0d\x0a/, $header;
	my ($authority) = $line =~ /^CONNECT +(\S+) +HTTP/ or die "\"$line\" is no CONNECT\n";
	my @fields = map { /^([^:]+):\s*(.*?)\s*$/ && !$own_fields{lc $1} ? (lc $1 => $2) : () } @lines;

	my $h2 = Test::ProxyConnect::HTTP2->new(%options, window => WINDOW,
		%$tls ? (tls => $tls->{h2}) : (cleartext => 1));
	my $id = $h2->connect($authority, @fields);
	my $stream = $h2->stream($id);
	my $is_over = 0;

	until ($is_over) {
		1 while $h2->hear();
		# What is left is no whole frame, and never will be.
		$h2->{ending} = $h2->{socket}{ending};
		answer($client, $stream) if !$stream->{is_answered} && $stream->{status};
		up($client, $h2, $id);
		$is_over = !down($client, $h2, $id) || !wait_for_more($client, $h2, $stream);
	}

	$h2->{socket}->close();
}

# What the answer would be over HTTP/1, where it has no words of the configuration. This one's connection ends with it.
my %words = (200 => 'Connection Established', 407 => 'Proxy Authentication Required');

sub answer {
	my ($client, $stream) = @_;
	my ($status, @fields) = ($stream->{status}, @{$stream->{lines}});
	my @lines = ("HTTP/1.1 $status " . ($words{$status} // '-'));

	while (my ($name, $value) = splice @fields, 0, 2) {
		push @lines, spelled($name) . ": $value" unless $name =~ /^:/;
	}

	push @lines, 'Connection: close' if $status >= 300;
	$client->send(join "\x0d\x0a", @lines, '', '');
	$stream->{is_answered} = 1;
}

# A name as nginx and this module spell it.
sub spelled {
	my ($name) = @_;
	return 'Proxy-agent' if $name eq 'proxy-agent';
	return $name =~ s/\b(www|\w)/\U$1/gr;
}

# What the client has sent, as far as the windows have room for it, and its end. One that ends without a byte and without
# an answer has left.
sub up {
	my ($client, $h2, $id) = @_;
	my $stream = $h2->stream($id);
	return if $stream->{is_up} || defined $stream->{code};

	while (length $client->{input}) {
		my ($len) = sort { $a <=> $b } $stream->{window}, $h2->{window}, length $client->{input}, 16384;
		return unless $len > 0;
		$h2->data($id, substr $client->{input}, 0, $len, '');
		$stream->{uploaded} += $len;
	}

	return unless $client->{ending};

	$stream->{is_up} = 1;
	$stream->{is_left} = $client->{ending} eq 'reset' || !$stream->{is_answered} && !$stream->{uploaded};
	$stream->{is_left} ? $h2->rst($id, CANCEL) : $h2->end($id);
}

# What nginx has sent. False once there is nobody to send to, or nothing to come.
sub down {
	my ($client, $h2, $id) = @_;
	my $stream = $h2->stream($id);

	if ($stream->{data} ne '') {
		my $n = $client->handle()->syswrite($stream->{data}, CHUNK);

		if ($n) {
			substr $stream->{data}, 0, $n, '';
			$h2->open_window($id, $n);
		} elsif (!$client->may_go_on()) {
			$h2->rst($id, CANCEL);
			return 0;
		}

		return 1 if $stream->{data} ne '';
	}

	if ($stream->{has_ended} && !$stream->{is_down}++) {
		shutdown $client->handle(), SHUT_WR;
	}

	return 0 if $stream->{is_left} || $stream->{is_up} && $stream->{is_down};
	return 0 if $stream->{is_down} && defined $stream->{code};

	# A worker that goes closes its connections, as those of HTTP/1.
	return 0 if $h2->{ending} && $h2->{ending} eq 'eof';
	return 1 unless defined $stream->{code} || $h2->{ending};

	# What the system has not delivered a reset takes along.
	eval { wait_until('Bytes are not acknowledged', sub { !unacknowledged($client) }, 5) };
	$client->reset();
	return 0;
}

sub wait_for_more {
	my ($client, $h2, $stream) = @_;
	my $socket = $h2->{socket};
	my ($reads, $writes) = ('', '');

	vec($reads, fileno $client->handle(), 1) = 1 if !$client->{ending} && length $client->{input} < CHUNK;
	vec($reads, fileno $socket->handle(), 1) = 1 unless $h2->{ending};
	vec($writes, fileno $client->handle(), 1) = 1 if $stream->{data} ne '';

	select $reads, $writes, undef, pending($socket) ? 0 : 5;

	$client->more(0) if vec $reads, fileno $client->handle(), 1;
	$socket->more(0);
	return 1;
}

# Whether TLS has bytes that the system has not.
sub pending {
	my ($socket) = @_;
	return $socket->handle()->can('pending') && $socket->handle()->pending();
}

# Whatever the two say, until one ends.
sub pass_on {
	my ($client, $server) = @_;
	my %peer = ($client => $server, $server => $client);

	until (grep { $_->{ending} } $client, $server) {
		for ($client, $server) {
			$peer{$_}->send(substr $_->{input}, 0, length $_->{input}, '') if length $_->{input};
		}

		my $reads = '';
		vec($reads, fileno $_->handle(), 1) = 1 for $client, $server;
		select $reads, undef, undef, pending($server) ? 0 : 5;
		$_->more(0) for $client, $server;
	}

	$client->send($server->{input}) if length $server->{input};
	$_->close() for $client, $server;
}

1;
