#!/usr/bin/perl

# ssh to a real sshd, through the proxy by each of the lines for ~/.ssh/config that docs/clients.md has.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Program;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant SIZE => 4 * 2 ** 20;

# What docs/clients.md calls the proxy.
use constant { PROXY => qr/\bproxy\b(?![-=])/, PORT => qr/\b3128\b/ };

my $t = Test::Nginx->new()->has(qw/http/);
my $dir = $t->testdir();

my %ssh = map { $_ => installed($_) } qw/ ssh sshd ssh-keygen /;
plan(skip_all => 'no ssh and sshd found') if grep { !$_ } values %ssh;

my @lines = proxy_commands('../docs/clients.md');
my @names = qw/ www.example my_host.example /;

$t->plan(1 + @lines * (4 * @names + 4 + 3) + 1)
	->write_file_expand('nginx.conf', ipv4_only($t, <<'EOC'));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    # Every byte moved would be a line.
    error_log  %%TESTDIR%%/error.log info;

    resolver  127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    log_format  tunnel  "$request|$status";
    access_log  %%TESTDIR%%/tunnel.log tunnel;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  %%PORT_8022%%;
    }
}

EOC

name_server($t, 8980, map { $_ => '127.0.0.1' } @names);
$t->run();
start_sshd($t, port(8022), %ssh);

my $octets = join '', map { chr } 0 .. 255;
$t->write_file('octets', $octets);
$t->write_file('noise', noise(SIZE));

my $sshd = port(8022);
my $tunnels = 0;
my ($out, $err, $status);

###############################################################################

is(scalar(@lines), 4, 'docs/clients.md has four lines');

for my $line (@lines) {
	my ($name, $rest) = split ' ', $line, 2;

	SKIP: {
		# There are other programs of that name.
		my $path = installed($name eq 'nc' ? ('nc.openbsd', $name) : $name);
		skip "no $name", 4 * @names + 4 + 3 unless $path;

		$tunnels += @names + 1;
		write_ssh_config($t, "$path $rest");

		for my $host (@names) {
			log_mark($t, 'tunnel.log');
			($out, $err, $status) = ssh($t, $host, $sshd,
				"cat $dir/octets; echo trouble >&2; exit 7");
			is($status, 7, "$name to $host: the command's status");
			is($out, $octets, "$name to $host: what the command says");
			is($err, "trouble\n", "$name to $host: what the command says of errors");
			is_line($t, "CONNECT $host:$sshd HTTP/1.0|200", "$name to $host");
		}

		# The command keeps what it hears, and says it.
		unlink "$dir/up";
		log_mark($t, 'tunnel.log');
		($out, $err, $status) = ssh($t, 'www.example', $sshd, "tee $dir/up", input => 'noise');
		is($status, 0, "$name, 4 MiB: the status") or diag($err);
		same(-e "$dir/up" && $t->read_file('up'), noise(SIZE), "$name, 4 MiB: up");
		same($out, noise(SIZE), "$name, 4 MiB: down");
		is_line($t, "CONNECT www.example:$sshd HTTP/1.0|200", "$name, 4 MiB");

		my $closed = port(8023);
		log_mark($t, 'tunnel.log');
		($out, $err, $status) = ssh($t, 'www.example', $closed, 'echo here');
		is($status, 255, "$name, a port that is not allowed: the status") or diag($err);
		is($out, '', "$name, a port that is not allowed: nothing is said");
		is_line($t, "CONNECT www.example:$closed HTTP/1.0|403",
			"$name, a port that is not allowed");
	}
}

# Nothing got in by another way.
my @sessions = log_lines($t, qr/^Accepted publickey for /, 'sshd.log');
is(scalar(@sessions), $tunnels, 'a session of sshd for each tunnel');

###############################################################################

# The values of ProxyCommand in a file, with the proxy of this test.
sub proxy_commands {
	my ($file) = @_;
	my ($host, $port) = ('127.0.0.1', port(8080));

	open my $readme, '<', $file or die "Can't read $file: $!\n";
	my @lines = map { /^\s*#?ProxyCommand (.+)$/ ? $1 : () } <$readme>;

	return map { s/(?<![-\w])${\PROXY}/$host/r =~ s/${\PORT}/$port/r } @lines;
}

# A server of the user that runs the test, who is the only one to get in.
sub start_sshd {
	my ($t, $port, %ssh) = @_;
	my $dir = $t->testdir();

	for my $key (qw/ host_key user_key /) {
		system($ssh{'ssh-keygen'}, '-q', '-t', 'ed25519', '-N', '', '-f', "$dir/$key") == 0
			or die "Can't make a key with ssh-keygen\n";
	}

	# Debian's has an empty folder there, made at the start of the system.
	mkdir '/run/sshd', 0755 if $> == 0 && -d '/run' && !-d '/run/sshd';

	$t->write_file('sshd_config', <<"EOC");
ListenAddress 127.0.0.1:$port
HostKey $dir/host_key
PidFile none
AuthorizedKeysFile $dir/user_key.pub
PermitRootLogin yes
PubkeyAuthentication yes
PasswordAuthentication no
UsePAM no
StrictModes no
PrintMotd no
# so that no file of the user's says something
SetEnv HOME=$dir
EOC

	$t->run_daemon($ssh{sshd}, '-D', '-f', "$dir/sshd_config", '-E', "$dir/sshd.log");
	wait_for_line($t, qr/Server listening on/, 'sshd.log');
	return;
}

sub write_ssh_config {
	my ($t, $command) = @_;
	my $dir = $t->testdir();
	my $user = getpwuid $>;

	$t->write_file('known_hosts', 'sshd ' . $t->read_file('host_key.pub'));
	$t->write_file('ssh_config', <<"EOC");
ProxyCommand $command
User $user
HostKeyAlias sshd
UserKnownHostsFile $dir/known_hosts
GlobalKnownHostsFile /dev/null
StrictHostKeyChecking yes
IdentityFile $dir/user_key
IdentitiesOnly yes
IdentityAgent none
BatchMode yes
LogLevel ERROR
EOC

	return;
}

sub ssh {
	my ($t, $host, $port, $command, %options) = @_;
	return run_program($t, [ installed('ssh'), '-T', '-F', $t->testdir() . '/ssh_config',
		'-p', $port, $host, $command ], %options);
}

###############################################################################
