package Test::ProxyConnect::Wait;

# Waiting: always for something, and never for ever.

use warnings;
use strict;

use base 'Exporter';

use Carp qw/ croak /;
use Time::HiRes qw/ time sleep /;

our @EXPORT_OK = qw/ wait_until deadline left TIME SLOWNESS SHARE /;

# How many times slower nginx may be than it is: under valgrind it is, and with AddressSanitizer.
use constant SLOWNESS => $ENV{TEST_NGINX_VALGRIND} ? 10 : $ENV{TEST_NGINX_ASAN} ? 3 : 1;

# Which share of its tunnels, or bytes, a long test takes: TEST_NGINX_SHARE=0.1 for a tenth.
use constant SHARE => $ENV{TEST_NGINX_SHARE} || 1;

# How long, in seconds, anything may take, and how often it is looked at.
use constant TIME => SLOWNESS > 1 ? 60 : 10;
use constant STEP => 0.01;

# Asks until the answer is true, and returns it. The sentence says what did not come about.
sub wait_until {
	my ($sentence, $question, $seconds) = @_;
	my $deadline = deadline($seconds);

	while (1) {
		my $answer = $question->();
		return $answer if $answer;
		croak "$sentence within " . ($seconds // TIME) . " s\n"
			unless left($deadline);
		sleep STEP;
	}
}

sub deadline {
	my ($seconds) = @_;
	return time() + ($seconds // TIME);
}

# The seconds until a deadline, 0 when it has passed.
sub left {
	my ($deadline) = @_;
	my $left = $deadline - time();
	return $left > 0 ? $left : 0;
}

1;
