package Test::Nginx::HTTP;

# A client for one request over one connection, and notes of what it said and heard.

use warnings;
use strict;

use base 'Exporter';

use IO::Socket::INET;
use Test::More ();

use Test::Nginx::Ports qw/ port /;

our @EXPORT_OK = qw/
	log_core log_in log_out http http_start http_end http_get http_head
	http_content http_gzip_request http_gzip_like
/;

# How long, in seconds, a request or an answer may take.
use constant TIMEOUT => 8;

# How much of a message a note shows.
use constant SHOWN => 2048;

###############################################################################
# Notes, with TEST_NGINX_VERBOSE

sub log_out { log_core('>>', @_) }
sub log_in { log_core('<<', @_) }

sub log_core {
	return unless $ENV{TEST_NGINX_VERBOSE};

	my $text = pop // '';
	my $prefix = join '', map { "$_ " } @_;

	my $size = length $text;
	$text = substr($text, 0, SHOWN) . "(... $size bytes)" if $size > SHOWN;

	for my $line (split /(?<=\n)/, $text) {
		$line =~ s/([^\x20-\x7e])/sprintf '\\x%02x', ord $1/ge;
		print "# $prefix$line\n";
	}
}

###############################################################################
# The client

sub http_get {
	my ($uri, %options) = @_;
	return http("GET $uri HTTP/1.0\x0d\x0aHost: localhost\x0d\x0a\x0d\x0a", %options);
}

sub http_head {
	my ($uri, %options) = @_;
	return http("HEAD $uri HTTP/1.0\x0d\x0aHost: localhost\x0d\x0a\x0d\x0a", %options);
}

# The whole answer up to the end of file; undef when that did not come in time. With "start", the
# socket once the request is sent.
sub http {
	my ($request, %options) = @_;
	my $socket = http_start($request, %options);

	return $socket if $options{start} || !defined $socket;
	return http_end($socket, %options);
}

sub http_start {
	my ($request, %options) = @_;

	return in_time(sub {
		my $socket = $options{socket} || open_socket(%options);
		start_tls($socket, %options) if $options{SSL};

		say_to($socket, $request);
		select undef, undef, undef, $options{sleep} if $options{sleep};
		say_to($socket, $options{body}) if $options{body} && !$options{aborted};

		return $socket;
	});
}

sub http_end {
	my ($socket) = @_;

	return in_time(sub {
		local $/;
		my $answer = $socket->getline();
		$socket->close();
		log_in($answer);
		return $answer;
	});
}

sub open_socket {
	my (%options) = @_;

	return IO::Socket::INET->new(
		Proto => 'tcp',
		PeerAddr => '127.0.0.1:' . port($options{SSL} ? 8443 : 8080),
		%options
	) || die "can't connect to nginx: $!\n";
}

sub start_tls {
	my ($socket, %options) = @_;
	require IO::Socket::SSL;

	IO::Socket::SSL->start_SSL(
		$socket,
		SSL_verify_mode => IO::Socket::SSL::SSL_VERIFY_NONE(),
		%options
	) or die IO::Socket::SSL::errstr() . "\n";
}

sub say_to {
	my ($socket, $text) = @_;
	log_out($text);
	$socket->print($text);
}

# What the code returns; undef, and a note why, when it dies or takes too long.
sub in_time {
	my ($code) = @_;

	my $result = eval {
		local $SIG{ALRM} = sub { die "timeout\n" };
		local $SIG{PIPE} = sub { die "the connection is closed\n" };
		alarm TIMEOUT;
		my $result = $code->();
		alarm 0;
		$result;
	};
	my $error = $@;
	alarm 0;

	log_in("died: $error") if $error;
	return $result;
}

###############################################################################
# Answers

# The body of an answer, out of its chunks if it comes in such.
sub http_content {
	my ($answer) = @_;

	my ($header, $body) = split /\x0d?\x0a\x0d?\x0a/, $answer // '', 2;
	return undef unless defined $body;
	return $body unless $header =~ /^Transfer-Encoding:\s*chunked/mi;

	my ($content, $size) = ('', undef);

	while ($body =~ s/^(?:\x0d?\x0a)?([0-9a-f]+)\x0d?\x0a//i) {
		$size = hex $1;
		$content .= substr $body, 0, $size, '';
	}

	$content .= '[no-last-chunk]' unless defined $size && $size == 0;
	return $content;
}

sub http_gzip_request {
	my ($uri) = @_;
	return http(join "\x0d\x0a", "GET $uri HTTP/1.1", 'Host: localhost',
		'Connection: close', 'Accept-Encoding: gzip', '', '');
}

sub http_gzip_like {
	my ($answer, $pattern, $name) = @_;

	SKIP: {
		eval { require IO::Uncompress::Gunzip }
			or Test::More::skip('IO::Uncompress::Gunzip not installed', 1);

		my ($content, $plain) = (http_content($answer), undef);
		IO::Uncompress::Gunzip::gunzip(\$content => \$plain);
		Test::More->builder()->like($plain, $pattern, $name);
	}
}

1;
