#!/usr/bin/perl

# proxy_connect_auth with the programs that people use: each goes through the proxy with a password, and gets no
# further with a wrong one.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Program;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl rewrite auth_basic proxy/);
my $dir = $t->testdir();

$t->write_file_expand('nginx.conf', <<'EOC');

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate      www.example.crt;
    ssl_certificate_key  www.example.key;

    log_format  tunnel  "$status $connection_requests $request_method $remote_user";
    log_format  inside  "$request|$http_authorization|$http_proxy_authorization";

    # The proxy. Whatever is asked for, it is the server below.
    server {
        listen       127.0.0.1:8080;
        listen       127.0.0.1:8444 ssl;
        server_name  localhost;

        access_log  %%TESTDIR%%/tunnel.log tunnel;

        proxy_connect;
        proxy_connect_address  127.0.0.1:%%PORT_8443%%;
        proxy_connect_auth     always;

        auth_basic            "proxy";
        auth_basic_user_file  %%TESTDIR%%/users;

        location / {
            proxy_pass http://127.0.0.1:%%PORT_8081%%;
        }
    }

    server {
        listen       127.0.0.1:8081;
        listen       127.0.0.1:8443 ssl;
        server_name  www.example;

        access_log  %%TESTDIR%%/inside.log inside;

        root  %%TESTDIR%%/site;
    }
}

EOC

$t->write_file('users', "user:{PLAIN}secret\n");
mkdir "$dir/site";
$t->write_file('site/page', "told\n");
certificate($t, 'www.example');

my $proxy = '127.0.0.1:' . port(8080);
my $crt = "$dir/www.example.crt";
my $https = 'https://www.example/page';
my $plain = 'http://www.example/page';

# A program; how often it is asked for a password, if that is known; whether it keeps the connection then;
# whether it is tried with an http:// URL; whether it tells the server its password for the proxy all by itself.
my @programs = grep { defined $_->{command} } (
	{ name => 'curl', asks => 0, plain => 1, command => curl() },
	{ name => 'curl --proxy-anyauth', asks => 1, keeps => 1, plain => 1, command => curl('--proxy-anyauth') },
	{ name => 'curl, over TLS', asks => 0, plain => 1, command => curl_tls() },
	{ name => 'wget', asks => undef, plain => 1, command => wget() },
	{ name => 'git', asks => undef, plain => 0, command => git($t) },
	{ name => 'apt', asks => undef, plain => 0, tells => 1, command => apt() },
	{ name => 'Python requests', asks => 0, plain => 1, command => requests() },
	{ name => 'Java', asks => 1, plain => 1, command => java($t) },
);

plan(skip_all => 'no program found') unless @programs;
$t->plan(9 * @programs + 2 * (grep { $_->{plain} } @programs) + 2 * (grep { $_->{keeps} } @programs));
$t->run();

###############################################################################

for my $program (@programs) {
	my ($name, $command) = @$program{qw/ name command /};
	log_mark($t, $_) for qw/ tunnel.log inside.log error.log /;

	my ($out, $err, $status) = run_program($t, $command->('secret', $https));
	is($status, 0, "$name: the exit status") or diag("$out\n$err");
	like($out . read_out($t), qr/told|[0-9a-f]{40}/, "$name: what it got");

	my @inside = eval { access_lines($t, 1, 'inside.log') };
	like($inside[0], $program->{tells} ? qr/^GET / : qr/^GET \S+ HTTP\S+\|-\|-$/,
		"$name: the server sees no password");

	my @tunnels = wait_for_lines($t, 1, qr/^200 \d+ CONNECT user$/, 'tunnel.log');
	ok(scalar @tunnels, "$name: the tunnel is the user's");

	my @asked = log_lines($t, qr/^407 /, 'tunnel.log');
	cmp_ok(scalar @asked, defined $program->{asks} ? '==' : '<=', $program->{asks} // 1,
		"$name: how often it was asked");
	is(scalar(grep { /^407 (?!1 )/ } @asked), 0, "$name: asked at the beginning");

	if ($program->{keeps}) {
		like($asked[0], qr/^407 1 CONNECT/, "$name: the attempt");
		like($tunnels[0], qr/^200 2 CONNECT/, "$name: the next is on the same connection");
	}

	# A wrong one
	log_mark($t, $_) for qw/ tunnel.log inside.log /;
	($out, $err, $status) = run_program($t, $command->('wrong', $https));
	isnt($status, 0, "$name: wrong: the exit status");
	ok(scalar wait_for_lines($t, 1, qr/^407 \d+ CONNECT/, 'tunnel.log'), "$name: wrong: asked again");
	is_deeply([ log_lines($t, qr/^/, 'inside.log') ], [], "$name: wrong: nothing comes through");

	next unless $program->{plain};

	log_mark($t, $_) for qw/ tunnel.log inside.log /;
	($out, $err, $status) = run_program($t, $command->('secret', $plain));
	like($out . read_out($t), qr/told/, "$name: http://: what it got") or diag("$out\n$err");
	like(wait_for_line($t, qr/^GET /, 'inside.log'), qr/^GET \S+ HTTP\S+\|-\|-$/,
		"$name: http://: the server sees no password");
}

###############################################################################
# The programs: a sub that gets a password and a URL, and gives what to start

sub curl {
	my (@options) = @_;
	my $path = installed('curl') or return;

	return sub {
		my ($password, $url) = @_;
		return [ $path, '--disable', '--silent', '--show-error', '--fail', '--max-time', 20,
			@options, '--proxy', "http://$proxy", '--proxy-user', "user:$password",
			'--cacert', $crt, $url ];
	};
}

sub curl_tls {
	my $path = installed('curl') or return;

	return sub {
		my ($password, $url) = @_;
		return [ $path, '--disable', '--silent', '--show-error', '--fail', '--max-time', 20,
			'--proxy', 'https://www.example:' . port(8444), '--proxy-user', "user:$password",
			'--resolve', 'www.example:' . port(8444) . ':127.0.0.1', '--proxy-cacert', $crt,
			'--cacert', $crt, $url ];
	};
}

sub wget {
	my $path = installed('wget') or return;

	return sub {
		my ($password, $url) = @_;
		return [ $path, '--no-config', '--quiet', '--tries=1', '--timeout=10', '-O', '-',
			'-e', 'use_proxy=yes', '-e', "https_proxy=http://$proxy", '-e', "http_proxy=http://$proxy",
			'--proxy-user=user', "--proxy-password=$password", "--ca-certificate=$crt", $url ];
	};
}

# A repository that git reads over HTTP, file by file.
sub git {
	my ($t) = @_;
	my $path = installed('git') or return;
	my $repository = $t->testdir() . '/site/repository';

	for my $command (
		[ 'init', '--quiet', $repository ],
		[ '-C', $repository, '-c', 'user.name=nobody', '-c', 'user.email=nobody@example', 'commit',
			'--quiet', '--allow-empty', '-m', 'one' ],
		[ '-C', $repository, 'update-server-info' ],
	) {
		system($path, @$command) == 0 or die "Can't make a repository with git\n";
	}

	return sub {
		my ($password) = @_;
		return [ $path, '-c', "http.proxy=http://user:$password\@$proxy", '-c', "http.sslCAInfo=$crt",
			'-c', 'credential.helper=', '-c', 'core.askPass=true', 'ls-remote',
			'https://www.example/repository/.git', 'HEAD' ];
	};
}

sub apt {
	my $path = installed('/usr/lib/apt/apt-helper') or return;

	return sub {
		my ($password, $url) = @_;
		unlink "$dir/program.file";
		return [ $path, '-o', 'APT::Sandbox::User=root', '-o', "Acquire::https::CAInfo=$crt",
			'-o', 'Acquire::Retries=0', '-o', "Acquire::https::Proxy=http://user:$password\@$proxy",
			'download-file', $url, "$dir/program.file" ];
	};
}

# The library itself, or the one that pip brings along.
sub requests {
	my ($path) = python() or return;
	my ($from) = grep { !system("$path -c 'from $_ import requests' 2>/dev/null") } 'pip._vendor';
	my $import = system("$path -c 'import requests' 2>/dev/null") == 0 ? 'import requests'
		: $from ? "from $from import requests" : return not_installed('requests');

	return sub {
		my ($password, $url) = @_;
		my $address = "http://user:$password\@$proxy";
		return [ $path, '-c', "$import\nanswer = requests.get('$url', verify='$crt', timeout=10, "
			. "proxies={'http': '$address', 'https': '$address'})\n"
			. "answer.raise_for_status()\nprint(answer.text)" ];
	};
}

# Java knows no password of a URL, and has Basic switched off for CONNECT.
sub java {
	my ($t) = @_;
	my $dir = $t->testdir();

	# A Java that compiles is too much to ask for.
	my ($path, $keytool, $compiler) = map { in_path($_) } qw/ java keytool javac /;
	return unless $compiler;

	system("$keytool -importcert -noprompt -storetype PKCS12 -storepass secret -alias www "
		. "-file $crt -keystore $dir/trusted >/dev/null 2>&1") == 0 or die "Can't run keytool\n";

	$t->write_file('Fetch.java', <<'EOJ');
import java.net.*;

public class Fetch {
    public static void main(String[] arguments) throws Exception {
        Authenticator.setDefault(new Authenticator() {
            int asked = 0;

            protected PasswordAuthentication getPasswordAuthentication() {
                return ++asked > 1 ? null
                    : new PasswordAuthentication("user", arguments[1].toCharArray());
            }
        });

        InetSocketAddress at = new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[2]));
        URLConnection connection = new URL(arguments[0]).openConnection(new Proxy(Proxy.Type.HTTP, at));
        System.out.print(new String(connection.getInputStream().readAllBytes()));
    }
}
EOJ

	return sub {
		my ($password, $url) = @_;
		return [ $path, '-Djdk.http.auth.tunneling.disabledSchemes=', "-Djavax.net.ssl.trustStore=$dir/trusted",
			'-Djavax.net.ssl.trustStorePassword=secret', "$dir/Fetch.java", $url, $password, port(8080) ];
	};
}

sub in_path {
	my ($name) = @_;
	return (grep { -x } map { "$_/$name" } split /:/, $ENV{PATH})[0];
}

# What a program has written to a file.
sub read_out {
	my ($t) = @_;
	return -e $t->testdir() . '/program.file' ? $t->read_file('program.file') : '';
}

###############################################################################
