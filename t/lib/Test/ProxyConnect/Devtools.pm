package Test::ProxyConnect::Devtools;

# Owns the browser's protocol for debugging, over two pipes: it reads from descriptor 3 and writes to 4.

use warnings;
use strict;

use base 'Exporter';

use JSON::PP qw/ decode_json encode_json /;
use POSIX ();

use Test::ProxyConnect::Browser qw/ browser_options /;

our @EXPORT = qw/ start_browser new_page call receive result evaluate /;


sub start_browser {
	my ($t, $program, $proxy) = @_;
	my @options = (browser_options($t, $proxy), '--headless=new', '--remote-debugging-pipe');

	pipe my $its_input, my $input or die "Can't make a pipe: $!\n";
	pipe my $output, my $its_output or die "Can't make a pipe: $!\n";
	my $pid = fork() // die "Can't fork: $!\n";

	if ($pid == 0) {
		# Its processes are a group, to be ended together.
		setpgrp 0, 0;
		open STDERR, '>', $t->testdir() . '/browser.log';

		# Out of the way first.
		my ($in, $out) = map { POSIX::dup2(fileno $_->[0], $_->[1]) } [ $its_input, 103 ], [ $its_output, 104 ];
		POSIX::dup2(103, 3);
		POSIX::dup2(104, 4);
		exec { $program } $program, @options or POSIX::_exit(1);
	}

	close $its_input;
	close $its_output;
	$input->autoflush(1);

	return { pid => $pid, input => $input, output => $output, id => 0, read => '' };
}

# Sends a message, and returns its number.
sub call {
	my ($browser, $method, $params, %more) = @_;
	my $id = ++$browser->{id};

	local $SIG{PIPE} = 'IGNORE';
	print { $browser->{input} } encode_json({ id => $id, method => $method, params => $params, %more }), "\0";
	return $id;
}

# The next message.
sub receive {
	my ($browser) = @_;

	my $end;

	while (($end = index $browser->{read}, "\0") < 0) {
		sysread $browser->{output}, $browser->{read}, 65536, length $browser->{read}
			or die "The browser is gone\n";
	}

	my $message = substr $browser->{read}, 0, $end + 1, '';
	chop $message;
	return decode_json($message);
}

# The answer to a message; what else comes is dropped.
sub result {
	my ($browser, $id) = @_;

	while (1) {
		my $message = receive($browser);
		return $message->{result} // die "The browser refuses: $message->{error}{message}\n"
			if ($message->{id} // 0) == $id;
	}
}

# What goes with each message for a page, which is new and empty.
sub new_page {
	my ($browser) = @_;

	my $target = result($browser, call($browser, 'Target.createTarget', { url => 'about:blank' }));
	my $attached = result($browser, call($browser, 'Target.attachToTarget',
		{ targetId => $target->{targetId}, flatten => JSON::PP::true }));

	return (sessionId => $attached->{sessionId});
}

# The value of an expression, or of what it promises, in a page.
sub evaluate {
	my ($browser, $expression, %session) = @_;
	my $shown = result($browser, call($browser, 'Runtime.evaluate',
		{ expression => $expression, awaitPromise => JSON::PP::true, returnByValue => JSON::PP::true }, %session));

	return $shown->{result}{value};
}

1;
