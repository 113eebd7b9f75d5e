#!/usr/bin/perl

# What a stock core is shown in place of a CONNECT can't be told from one on any other core: however
# the request is cut, and whoever sends the shown form himself gets what any unknown method gets.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->plan(17);

$t->write_file_expand('nginx.conf', <<'EOC');
%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format line '$status $request_method $request';
    access_log %%TESTDIR%%/line.log line;

    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow all;

        location / {
        }
    }
}

EOC

$t->write_file('file', 'SEE THIS FILE');
$t->run();

my $echo = upstream($t, echo(), port(8081));
my $connect = connect_request($echo);
my $get = "GET /none HTTP/1.1\x0d\x0aHost: localhost\x0d\x0a\x0d\x0a";

###############################################################################
# Cuts

is(join(' ', grep { !passes($_, $connect, 1) } 1 .. length $connect), '',
	'a CONNECT cut anywhere');
is(join(' ', grep { !passes($_, $get . $connect, 2) } 1 .. length $get . $connect), '',
	'a CONNECT behind a GET cut anywhere');
is(join(' ', grep { !passes($_, "\x0d\x0a\x0d\x0a$connect", 1) } 1 .. 12), '',
	'a CONNECT behind empty lines cut anywhere in front');
is(join(' ', grep { !passes($_, "\x0d\x0a$get\x0d\x0a$connect", 2) } 1 .. 12), '',
	'a CONNECT behind a GET, empty lines before each');

###############################################################################
# Imitation

for my $form ("CONNEC /$echo", "CON a://$echo", "CONNECT_ http://$echo/") {
	log_mark($t);

	my $answer = exchange("$form HTTP/1.1\x0d\x0aHost: localhost\x0d\x0aConnection: close\x0d\x0a\x0d\x0a");
	like($answer, qr!^HTTP/1\.1 (400|405) !, "$form: no tunnel");
	is(scalar(log_lines($t, qr/proxy_connect: /)), 0, "$form: not our affair");
}

my ($method) = $t->read_file('line.log') =~ m!^405 (\S+) CONNEC /!m;
is($method, 'CONNEC', 'the log shows what the client sent');

###############################################################################
# Near misses

for my $line ('CONNECTS /none', 'CONNEC /none', 'CON /none') {
	like(exchange("$line HTTP/1.1\x0d\x0aHost: localhost\x0d\x0aConnection: close\x0d\x0a\x0d\x0a"),
		qr!^HTTP/1\.1 (400|405) !, "$line: an unknown method");
}

# A first piece that is none of CONNECT's keeps nothing back.
my $copy = client();
$copy->send('CO');
ok($copy->is_quiet(0.05), 'the beginning of another method: nothing yet');
$copy->send("PY / HTTP/1.1\x0d\x0aHost: localhost\x0d\x0a\x0d\x0a");
is(status_of($copy->read_header()), '405', 'and then its answer');
$copy->close();

$t->stop();
is(join("\n", grep { !/^200 CONNECT CONNECT / } grep { /CONNECT \S+:/ && !/CONNECT_/ }
	split /\n/, $t->read_file('line.log')), '', 'every CONNECT is logged as it was sent');

###############################################################################

# Whether the last of some requests, sent in two pieces, becomes a tunnel.
sub passes {
	my ($cut, $requests, $count) = @_;

	my $socket = client();
	$socket->send(substr $requests, 0, $cut);
	$socket->is_quiet(0.001);
	$socket->send(substr($requests, $cut) . 'echo');

	while ($count-- > 1) {
		my $header = $socket->read_header();
		$socket->read_bytes($header =~ /Content-Length: (\d+)/ ? $1 : 0);
	}

	my $passes = status_of($socket->read_header()) eq '200' && $socket->read_bytes(4) eq 'echo';
	$socket->close();
	return $passes;
}
