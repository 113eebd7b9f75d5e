package Test::Nginx;

# One nginx under test: its folder, its process, the daemons beside it, and the checks that every
# test file ends with. The interface is that of the library of nginx's own test suite, so that a
# test runs with either.

use warnings;
use strict;

use base 'Exporter';

use File::Path ();
use File::Temp ();
use IO::Handle;
use IO::Socket::INET;
use POSIX ();
use Test::More ();
use Time::HiRes ();

use Test::Nginx::Features;
use Test::Nginx::Globals;
use Test::Nginx::HTTP qw/
	log_core log_in log_out http http_start http_end http_get http_head
	http_content http_gzip_request http_gzip_like
/;
use Test::Nginx::Ports qw/ port /;

our @EXPORT = qw/ log_in log_out http http_get http_head port /;
our @EXPORT_OK = qw/
	http_start http_end http_content http_gzip_request http_gzip_like
/;
our %EXPORT_TAGS = (gzip => [ qw/ http_gzip_request http_gzip_like / ]);

# Where Test::More looks for a reason to forgive a failure.
our $TODO;

our $NGINX = $ENV{TEST_NGINX_BINARY} // '../nginx/objs/nginx';

# The checks that DESTROY adds to the tests of a file.
use constant CHECKS => 2;

# How long, in seconds, a wait may take.
use constant {
	START_TIME => 10,
	QUIT_TIME => 90,
	DAEMON_TIME => 5,
	STEP => 0.01,
};

###############################################################################
# Its life

sub new {
	my ($class) = @_;

	Test::More::BAIL_OUT("$NGINX is no program to test") unless -x $NGINX;

	my $dir = File::Temp::tempdir('proxy-connect-test-XXXXXXXX', TMPDIR => 1);

	my $features = Test::Nginx::Features->new($NGINX);

	# Without "-e" the lines before the configuration is read go to logs/error.log.
	mkdir "$dir/logs" unless $features->version('1.19.5');

	# A file that forks must not clean up in the child.
	return bless {
		owner => $$,
		dir => $dir,
		features => $features,
		globals => {},
		daemons => [],
		forgives_alerts => 0,
	}, ref $class || $class;
}

sub DESTROY {
	my ($self) = @_;

	return if $self->{owner} != $$;

	local ($?, $@, $!);

	# One that has not written its pid yet would be left behind.
	eval { $self->stop(); 1 } or kill 'TERM', $self->{child};
	$self->stop_daemons();
	$self->check_logs() if Test::More->builder()->expected_tests();

	print $self->read_if_there('error.log') if $ENV{TEST_NGINX_CATLOG};
	File::Path::remove_tree($self->{dir}) unless $ENV{TEST_NGINX_LEAVE};
}

# As many checks as CHECKS says.
sub check_logs {
	my ($self) = @_;
	my $log = $self->read_if_there('error.log');

	{
		local $TODO = 'alerts' if $self->{forgives_alerts};
		Test::More::is(lines_with($log, '[alert]'), '', 'no alerts');
	}

	my @errors = (lines_with($log, 'Sanitizer'), $self->valgrind_errors());
	Test::More::is(join("\n", grep { $_ ne '' } @errors), '', 'no sanitizer errors');
}

sub lines_with {
	my ($text, $word) = @_;
	return join "\n", grep { index($_, $word) >= 0 } split /\n/, $text;
}

sub plan {
	my ($self, $tests) = @_;
	Test::More::plan(tests => $tests + CHECKS);
	return $self;
}

sub todo_alerts {
	my ($self) = @_;
	$self->{forgives_alerts} = 1;
	return $self;
}

###############################################################################
# What the binary can do

sub has {
	my ($self, @features) = @_;

	for my $feature (@features) {
		next if $self->has_module($feature) || $self->has_feature($feature);
		Test::More::plan(skip_all => "no $feature available");
	}

	return $self;
}

sub has_module {
	my ($self, $name) = @_;
	return $self->{features}->module($name);
}

sub has_feature {
	my ($self, $name) = @_;
	return $self->{features}->feature($name);
}

sub has_version {
	my ($self, $version) = @_;
	return $self->{features}->version($version);
}

sub has_daemon {
	my ($self, $name) = @_;

	my @found = grep { -x "$_/$name" } split /:/, $ENV{PATH};
	Test::More::plan(skip_all => "$name not found") unless @found;

	return $self;
}

###############################################################################
# The folder

sub testdir {
	my ($self) = @_;
	return $self->{dir};
}

sub read_file {
	my ($self, $name) = @_;

	open my $file, '<:raw', "$self->{dir}/$name"
		or die "Can't read $name: $!\n";
	local $/;
	return <$file> // '';
}

sub read_if_there {
	my ($self, $name) = @_;
	return -e "$self->{dir}/$name" ? $self->read_file($name) : '';
}

sub write_file {
	my ($self, $name, $content) = @_;

	open my $file, '>:raw', "$self->{dir}/$name"
		or die "Can't write $name: $!\n";
	print $file $content;
	close $file or die "Can't write $name: $!\n";

	return $self;
}

sub write_file_expand {
	my ($self, $name, $content) = @_;

	# The globals come first: they may hold what the others expand.
	$content =~ s/%%TEST_GLOBALS%%/$self->test_globals()/ge;
	$content =~ s/%%TEST_GLOBALS_HTTP%%/$self->test_globals_http()/ge;
	$content =~ s/%%TEST_GLOBALS_STREAM%%/$self->test_globals_stream()/ge;
	$content =~ s/%%TESTDIR%%/$self->{dir}/g;

	$content =~ s/(?<=127\.0\.0\.1:)(8\d{3})/port($1)/ge;
	$content =~ s/%%PORT_(\d+)%%/port($1)/ge;
	$content =~ s/%%PORT_(\d+)_UDP%%/port($1, udp => 1)/ge;

	return $self->write_file($name, $content);
}

sub test_globals {
	my ($self) = @_;
	return $self->{globals}{main} //=
		Test::Nginx::Globals::main($NGINX, $self->{dir}, $self->{features});
}

sub test_globals_http {
	my ($self) = @_;
	return $self->{globals}{http} //=
		Test::Nginx::Globals::http($self->{dir}, $self->{features});
}

sub test_globals_stream {
	my ($self) = @_;
	return $self->{globals}{stream} //= Test::Nginx::Globals::stream();
}

###############################################################################
# The process

sub run {
	my ($self, $conf) = @_;

	if (defined $conf) {
		open my $file, '<:raw', $conf or die "Can't read $conf: $!\n";
		local $/;
		$self->write_file_expand('nginx.conf', <$file> // '');
	}

	my @command = ($self->valgrind(), $self->command());
	my $pid = fork() // die "Can't fork: $!\n";
	$self->{child} = $pid;

	if ($pid == 0) {
		# Who runs the test waits for the end of its output, which a server left behind would keep open.
		open STDOUT, '>', '/dev/null' or POSIX::_exit(1);

		exec { $command[0] } @command
			or print STDERR "Can't run $command[0]: $!\n";
		POSIX::_exit(1);
	}

	$self->waitforfile("$self->{dir}/nginx.pid", $pid)
		or die "Can't start nginx\n";
	$self->{started} = 1;

	return $self;
}

sub try_run {
	my ($self, $message) = @_;

	open my $stderr, '>&', \*STDERR or die "Can't keep stderr: $!\n";
	open STDERR, '>', '/dev/null' or die "Can't hide stderr: $!\n";
	my $started = eval { $self->run(); 1 };
	open STDERR, '>&', $stderr or die "Can't restore stderr: $!\n";

	unless ($started) {
		log_core($self->read_if_there('error.log'));
		Test::More::plan(skip_all => $message);
	}

	return $self;
}

sub reload {
	my ($self) = @_;
	$self->signal('HUP') if $self->{started};
	return $self;
}

sub stop {
	my ($self) = @_;

	return $self unless $self->{started};
	$self->{started} = 0;

	my $pid = $self->signal('QUIT');

	unless (exits_within($pid, QUIT_TIME)) {
		kill 'TERM', $pid;
		waitpid $pid, 0;
	}

	return $self;
}

sub dump_config {
	my ($self) = @_;

	open my $output, '-|', 'sh', '-c', 'exec "$@" 2>&1', 'sh',
		$self->command('-T') or die "Can't run $NGINX: $!\n";
	local $/;
	return <$output>;
}

# Sends a signal to the master, and returns its pid.
sub signal {
	my ($self, $name) = @_;
	my ($pid) = $self->read_file('nginx.pid') =~ /(\d+)/
		or die "No pid in nginx.pid\n";
	kill $name, $pid;
	return $pid;
}

sub command {
	my ($self, @arguments) = @_;
	my @command = ($NGINX, '-p', "$self->{dir}/", '-c', 'nginx.conf', @arguments);

	# "-e" keeps the lines before the configuration is read out of the prefix.
	push @command, '-e', 'error.log' if $self->has_version('1.19.5');

	# A configuration without %%TEST_GLOBALS%% needs its essence from here.
	push @command, '-g', Test::Nginx::Globals::files($self->{dir})
		unless defined $self->{globals}{main};

	return @command;
}

sub valgrind {
	my ($self) = @_;
	my $options = $ENV{TEST_NGINX_VALGRIND} or return;

	return ('valgrind', '-q', "--log-file=$self->{dir}/valgrind.%p.log",
		$options eq '1' ? () : split ' ', $options);
}

sub valgrind_errors {
	my ($self) = @_;
	return join '', map { $self->read_file(s!.*/!!r) }
		glob "$self->{dir}/valgrind.*.log";
}

###############################################################################
# Daemons, and waiting

sub run_daemon {
	my ($self, $code, @arguments) = @_;
	my $pid = fork() // die "Can't fork: $!\n";

	if ($pid == 0) {
		unless (ref $code) {
			exec { $code } $code, @arguments or POSIX::_exit(1);
		}

		my $done = eval { $code->(@arguments); 1 };
		print STDERR "A daemon died: $@" unless $done;
		exit($done ? 0 : 1);
	}

	push @{$self->{daemons}}, $pid;
	return $self;
}

sub stop_daemons {
	my ($self) = @_;

	while (defined(my $pid = shift @{$self->{daemons}})) {
		kill 'TERM', $pid;
		next if exits_within($pid, DAEMON_TIME);

		kill 'KILL', $pid;
		waitpid $pid, 0;
	}

	return $self;
}

# Waits for a file; gives up early when the process that should make it has failed. One that goes to
# the background ends well before its child has made it.
sub waitforfile {
	my ($self, $name, $pid) = @_;
	my $gone = 0;

	return within(START_TIME, sub {
		return 1 if -e $name;
		return 0 if $gone;
		$gone = defined $pid && waitpid($pid, POSIX::WNOHANG()) == $pid && $? != 0;
		return undef;
	});
}

# Waits until somebody accepts connections.
sub waitforsocket {
	my ($self, $peer) = @_;

	return within(START_TIME, sub {
		return IO::Socket::INET->new(Proto => 'tcp', PeerAddr => $peer)
			? 1 : undef;
	});
}

sub exits_within {
	my ($pid, $seconds) = @_;
	return within($seconds, sub {
		my $ended = waitpid($pid, POSIX::WNOHANG());
		# One in the background is no child.
		return $ended > 0 || $ended < 0 && !kill(0, $pid) ? 1 : undef;
	});
}

# Asks until there is an answer, at most for so many seconds.
sub within {
	my ($seconds, $question) = @_;
	my $deadline = Time::HiRes::time() + $seconds;

	while (1) {
		my $answer = $question->();
		return $answer if defined $answer;
		return undef if Time::HiRes::time() >= $deadline;
		Time::HiRes::sleep(STEP);
	}
}

1;
