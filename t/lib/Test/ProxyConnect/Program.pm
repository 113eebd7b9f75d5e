package Test::ProxyConnect::Program;

# Programs that people use as clients. Each is started with its files in the test's folder and nothing
# of the environment that could lead it elsewhere.

use warnings;
use strict;

use base 'Exporter';

use Carp qw/ croak /;
use IO::Socket::UNIX;
use POSIX ();
use Socket qw/ AF_UNIX PF_UNSPEC SOCK_STREAM /;

use Test::More ();
use Test::ProxyConnect::Logs qw/ wait_for_line /;
use Test::ProxyConnect::Socket;
use Test::ProxyConnect::Wait qw/ wait_until SLOWNESS /;

our @EXPORT = qw/
	installed not_installed python run_program start_program end_program piped_program exit_status
	is_line
/;

# How long, in seconds, a program may take.
use constant PATIENCE => 20 * SLOWNESS;

# What script/test.sh looks for: a test without a program is to be seen.
use constant NOT_INSTALLED => 'skipped, not installed: ';

# The programs that run, each with the process that started it.
my %running;

# Where the first of some programs is that is there, each a name or a path. Where none is, undef, and
# the test's output tells.
sub installed {
	my (@names) = @_;
	my @folders = (split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin');

	for my $name (@names) {
		for my $path ($name =~ m!/! ? $name : map { "$_/$name" } @folders) {
			return $path if -f $path && -x _;
		}
	}

	return not_installed($names[0] =~ s!.*/!!r);
}

sub not_installed {
	my ($name) = @_;
	Test::More::diag(NOT_INSTALLED . $name);
	return undef;
}

# Where Python is, and the version of HTTP that its http.client speaks to a proxy, and what is made with
# it: 1.1 since Python 3.12. Nothing where it isn't.
sub python {
	my $path = installed('/usr/bin/python3', 'python3') or return;
	my $is_old = system($path, '-c', 'import sys; sys.exit(sys.version_info >= (3, 12))') == 0;
	return ($path, $is_old ? '1.0' : '1.1');
}

# Runs a program to its end. Options:
#
#   input   the name of a file in the test's folder for its standard input, nothing unless told
#
# Returns what it wrote to its standard output and to its standard error, and its exit status: "late"
# for one that took too long, "signal N" for one that was ended by a signal.
sub run_program {
	my ($t, $command, %options) = @_;
	my $dir = $t->testdir();

	my $pid = start($t, $command, sub {
		open STDIN, '<', defined $options{input} ? "$dir/$options{input}" : '/dev/null';
		open STDOUT, '>', "$dir/program.out";
		open STDERR, '>', "$dir/program.err";
	});

	my $status = exit_status($pid);
	return ($t->read_file('program.out'), $t->read_file('program.err'), $status);
}

# Starts a program that runs until end_program(); all that it says goes to a file of the test's folder.
# Returns its process.
sub start_program {
	my ($t, $command, $file) = @_;
	my $dir = $t->testdir();

	return start($t, $command, sub {
		open STDIN, '<', '/dev/null';
		open STDOUT, '>', "$dir/$file";
		open STDERR, '>&', \*STDOUT;
	});
}

# Tells a program to end, and returns its exit status as run_program() does.
sub end_program {
	my ($pid) = @_;
	kill 'TERM', $pid;
	return exit_status($pid);
}

# Starts a program that passes on its standard input and output. Returns the test's end of both, a
# Test::ProxyConnect::Socket, and the process, for whose end exit_status() waits.
sub piped_program {
	my ($t, $command) = @_;
	my $dir = $t->testdir();

	my ($near, $far) = IO::Socket::UNIX->socketpair(AF_UNIX, SOCK_STREAM, PF_UNSPEC)
		or croak "Can't make a pair of sockets: $!\n";

	my $pid = start($t, $command, sub {
		open STDIN, '<&', $far;
		open STDOUT, '>&', $far;
		open STDERR, '>', "$dir/program.err";
	});
	close $far;

	return (Test::ProxyConnect::Socket->new($near), $pid);
}

sub start {
	my ($t, $command, $redirect) = @_;
	my $pid = fork() // croak "Can't fork: $!\n";

	if ($pid != 0) {
		$running{$pid} = $$;
		return $pid;
	}

	$redirect->();

	%ENV = (
		PATH => $ENV{PATH},
		HOME => $t->testdir(),
		LC_ALL => 'C',
		PIP_CONFIG_FILE => '/dev/null',
	);

	exec { $command->[0] } @$command or POSIX::_exit(127);
}

sub exit_status {
	my ($pid) = @_;
	my $ended = eval {
		wait_until('', sub { waitpid($pid, POSIX::WNOHANG()) == $pid }, PATIENCE);
	};

	unless ($ended) {
		kill 'KILL', $pid;
		waitpid $pid, 0;
	}

	my $signal = $? & 127;
	delete $running{$pid};

	return !$ended ? 'late' : $signal ? "signal $signal" : $? >> 8;
}

# A test that the log of the proxy, tunnel.log, gets this line first.
sub is_line {
	my ($t, $line, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	Test::More::is(eval { wait_for_line($t, qr/^/, 'tunnel.log') }, $line,
		"$name: the access log");
	return;
}

# A test that ends early leaves none running. A child of the test must not end what is not its own.
END {
	local $?;
	kill 'KILL', grep { $running{$_} == $$ } keys %running;
}

1;
