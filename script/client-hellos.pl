#!/usr/bin/perl

# Takes what real clients send first over TLS into core/tests/hellos, a file for each: the tests of the reader
# (core/src/client_hello) read them. Each client is started against a listener that says nothing and hangs up.
#
#     script/client-hellos.pl
#
# A client that is not installed is passed over, and its file stays.

use warnings;
use strict;

use Cwd qw/ abs_path /;
use File::Basename qw/ dirname /;
use File::Temp qw/ tempdir /;
use IO::Select;
use IO::Socket::INET;

my $folder = dirname(abs_path($0)) . '/../core/tests/hellos';
my $home = tempdir(CLEANUP => 1);
my $name = 'localhost';

my $listener = IO::Socket::INET->new(Listen => 8, LocalAddr => '127.0.0.1')
	or die "Can't listen: $!\n";
my $to = "$name:" . $listener->sockport();
my $address = '127.0.0.1:' . $listener->sockport();

my @openssl = ('openssl', 's_client', '-connect', $to);
my $python = 'import socket, ssl, sys; c = ssl.create_default_context();'
	. ' c.set_alpn_protocols(["http/1.1"]);'
	. ' c.wrap_socket(socket.create_connection((sys.argv[1], int(sys.argv[2]))),'
	. ' server_hostname="LocalHost")';

take('openssl-tls13', @openssl, '-servername', $name, '-alpn', 'h2,http/1.1');
take('openssl-tls12', @openssl, '-servername', $name, '-tls1_2');
take('openssl-tls10', @openssl, '-servername', $name, '-tls1', '-cipher', 'ALL:@SECLEVEL=0');
take('openssl-no-sni', @openssl, '-noservername', '-alpn', 'acme-tls/1');
take('openssl-address', 'openssl', 's_client', '-connect', $address);
take('openssl-fragments', @openssl, '-servername', $name, '-max_send_frag', '512',
	'-sigalgs', 'RSA+SHA256', '-alpn', join ',', map { "protocol-number-$_" } 1 .. 1000);
take('curl', 'curl', '-sk', "https://$to/");
take('curl-http1', 'curl', '-sk', '--http1.1', "https://$to/");
take('wget', 'wget', '-q', '-O', '/dev/null', "https://$to/");
take('python', 'python3', '-c', $python, split /:/, $to);
take('node', 'node', '-e', "require('https').get('https://$to/').on('error', () => {})");
take('git', 'git', 'ls-remote', "https://$to/x");
take('ncat', 'ncat', '--ssl', split /:/, $to);
take('socat', 'socat', '-', "OPENSSL:$to,verify=0");
take('chromium', 'chromium', '--headless', '--no-sandbox', '--disable-gpu',
	"--user-data-dir=$home/chromium", "https://$to/");

# Runs a client, and keeps the first flight of what it sends.
sub take {
	my ($file, @command) = @_;

	my $pid = fork() // die "Can't fork: $!\n";

	if ($pid == 0) {
		open STDIN, '<', '/dev/null';
		open STDOUT, '>', '/dev/null';
		open STDERR, '>', '/dev/null';
		$ENV{HOME} = $home;
		exec { $command[0] } @command or exit 127;
	}

	my $bytes = first_flight();
	kill 'KILL', $pid;
	waitpid $pid, 0;

	return print "$file: nothing came\n" if $bytes eq '';

	open my $handle, '>:raw', "$folder/$file" or die "Can't write $file: $!\n";
	print {$handle} $bytes;
	print "$file: ", length $bytes, " bytes\n";
}

# What comes until the client has been quiet for a moment.
sub first_flight {
	my $bytes = '';

	IO::Select->new($listener)->can_read(15) or return '';
	my $client = $listener->accept();
	my $wait = IO::Select->new($client);

	while ($wait->can_read($bytes eq '' ? 5 : 0.3)) {
		$client->sysread($bytes, 65536, length $bytes) or last;
	}

	return $bytes;
}
