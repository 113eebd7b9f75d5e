package Test::ProxyConnect::Proxies;

# Owns real proxies as parents: each program with the least configuration that has it build tunnels, in the test's folder.
# A function starts one at a port of 127.0.0.1 and returns when it listens; it returns its process, or nothing where the
# program is not installed, which the test's output tells.

use warnings;
use strict;

use base 'Exporter';

use Carp qw/ croak /;
use MIME::Base64 ();

use Test::Nginx;
use Test::ProxyConnect::Program;

our @EXPORT = qw/ squid tinyproxy apache haproxy microsocks dante second_nginx /;

# squid. With a user, one that wants credentials.
sub squid {
	my ($t, $port, %options) = @_;
	my $program = installed('squid') or return;
	my $dir = $t->testdir();
	my $access = 'http_access allow all';

	if (defined $options{user}) {
		my ($name, $password) = split /:/, $options{user};
		my $helper = installed('/usr/lib/squid/basic_ncsa_auth') or return;
		$t->write_file("squid-$port.users", "$name:" . crypt($password, '$1$salt') . "\n");

		# Its helper is another user.
		chmod 0711, $dir;
		chmod 0644, "$dir/squid-$port.users";
		$access = "auth_param basic program $helper $dir/squid-$port.users\n"
			. "acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all";
	}

	$t->write_file("squid-$port.conf", <<"EOF");
http_port 127.0.0.1:$port
visible_hostname localhost
$access
cache deny all
access_log none
cache_log /dev/null
cache_store_log none
netdb_filename none
pinger_enable off
pid_filename none
coredump_dir none
shutdown_lifetime 0 seconds
forward_max_tries 1
dns_v4_first on
EOF

	return start($t, $port, $program, '-N', '-f', "$dir/squid-$port.conf");
}

# tinyproxy. With a user, one that wants credentials.
sub tinyproxy {
	my ($t, $port, %options) = @_;
	my $program = installed('tinyproxy') or return;
	my $auth = defined $options{user} ? 'BasicAuth ' . $options{user} =~ s/:/ /r : '';

	$t->write_file("tinyproxy-$port.conf", <<"EOF");
Port $port
Listen 127.0.0.1
Timeout 60
MaxClients 1000
LogLevel Critical
DisableViaHeader Yes
$auth
EOF

	return start($t, $port, $program, '-d', '-c', $t->testdir() . "/tinyproxy-$port.conf");
}

# Apache httpd with mod_proxy_connect.
sub apache {
	my ($t, $port) = @_;
	my $program = installed('apache2', 'httpd') or return;
	my $dir = $t->testdir();
	my ($modules) = grep { -f "$_/mod_proxy_connect.so" } '/usr/lib/apache2/modules', '/usr/lib64/httpd/modules';
	return not_installed('mod_proxy_connect') unless defined $modules;

	my $load = join '', map { "LoadModule ${_}_module $modules/mod_$_.so\n" }
		qw/ mpm_event authz_core proxy proxy_connect /;
	my $user = $> == 0 ? "User www-data\nGroup www-data" : '';

	$t->write_file("httpd-$port.conf", <<"EOF");
$load
ServerRoot $dir
ServerName localhost
PidFile $dir/httpd-$port.pid
DefaultRuntimeDir $dir
Mutex sem
ErrorLog $dir/httpd-$port.log
Listen 127.0.0.1:$port
ProxyRequests On
AllowCONNECT 1-65535
$user
EOF

	return start($t, $port, $program, '-DFOREGROUND', '-f', "$dir/httpd-$port.conf");
}

# HAProxy in front of other proxies, which reads the PROXY protocol.
sub haproxy {
	my ($t, $port, @ports) = @_;
	my $program = installed('haproxy') or return;
	my $servers = join '', map { "    server s$_ 127.0.0.1:$_\n" } @ports;

	$t->write_file("haproxy-$port.cfg", <<"EOF");
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen front
    bind 127.0.0.1:$port accept-proxy
    balance roundrobin
$servers
EOF

	return start($t, $port, $program, '-db', '-f', $t->testdir() . "/haproxy-$port.cfg");
}

# microsocks. With a user, one that wants credentials.
sub microsocks {
	my ($t, $port, %options) = @_;
	my $program = installed('microsocks') or return;
	my @user = defined $options{user} ? do { my ($u, $p) = split /:/, $options{user}; ('-u', $u, '-P', $p) } : ();

	return start($t, $port, $program, '-i', '127.0.0.1', '-p', $port, @user);
}

# Dante.
sub dante {
	my ($t, $port) = @_;
	my $program = installed('danted', 'sockd') or return;
	my $dir = $t->testdir();
	my $user = $> == 0 ? "user.privileged: root\nuser.unprivileged: nobody" : '';

	$t->write_file("danted-$port.conf", <<"EOF");
logoutput: stderr
internal: 127.0.0.1 port = $port
external: 127.0.0.1
clientmethod: none
socksmethod: none
$user
client pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
socks pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
EOF

	return start($t, $port, $program, '-f', "$dir/danted-$port.conf", '-p', "$dir/danted-$port.pid");
}

# Another nginx, with the module and the blocks of http that it is given.
sub second_nginx {
	my ($t, $port, $blocks) = @_;
	my $dir = $t->testdir();
	my $globals = $t->test_globals() =~ s/\b(?:pid|error_log)\s[^;]*;//gr;
	my $http = $t->test_globals_http() =~ s/\baccess_log\s[^;]*;//gr;
	mkdir "$dir/logs";

	$t->write_file_expand('second.conf', <<"EOF");
$globals
daemon off;
worker_processes 1;
pid $dir/second.pid;
error_log $dir/second.log info;
events {
}
http {
    $http
    access_log $dir/second_access.log;
$blocks
}
EOF

	return start($t, $port, $Test::Nginx::NGINX, '-p', "$dir/", '-c', 'second.conf');
}

sub start {
	my ($t, $port, @command) = @_;
	my $pid = start_program($t, \@command, "program-$port.log");

	$t->waitforsocket("127.0.0.1:$port")
		or croak "@command does not listen: " . $t->read_file("program-$port.log") . "\n";
	return $pid;
}

1;
