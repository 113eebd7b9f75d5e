#!/usr/bin/perl

# The module beside ngx_http_tunnel_module, nginx's own since 1.31.0: each has its servers, on one
# socket too, and none takes the other's.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http rewrite/);

plan(skip_all => 'no ngx_http_tunnel_module before nginx 1.31.0')
	unless $t->has_version('1.31.0');
plan(skip_all => 'no ngx_http_tunnel_module in this nginx') unless $t->has_module('tunnel');

$t->plan(26);

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  line  "$server_name $status [$connect_host] [$connect_addr] "
                       "[$proxy_connect_data_timeout] [$proxy_connect_resolve_time]";
    access_log  %%TESTDIR%%/line.log line;

    SERVERS
}

EOF

my $servers = <<'EOF';
    server {
        listen       127.0.0.1:8080;
        server_name  ours;

        proxy_connect;
        proxy_connect_allow    all;
        proxy_connect_address  127.0.0.1:8081;
        proxy_connect_response "HTTP/1.1 200 Ours\r\n\r\n";

        location / {
            return 200 "ours";
        }
    }

    server {
        listen       127.0.0.1:8080;
        server_name  theirs;

        location / {
            tunnel_pass 127.0.0.1:8081;
        }
    }

    server {
        listen       127.0.0.1:8080;
        server_name  nobodys;

        location / {
            return 200 "nobody's";
        }
    }

    server {
        listen       127.0.0.1:8082;
        server_name  whole;

        tunnel_pass  127.0.0.1:8081;
    }
EOF

write_conf($t, $conf, $servers);

my $echo = upstream($t, echo(), port(8081));
$t->run();

###############################################################################
# Each has its own

for my $case (
	[ 'ours', 'ours', 8080, '200 Ours' ],
	[ 'theirs, in a location', 'theirs', 8080, '200 OK' ],
	[ 'theirs, in a server', 'whole', 8082, '200 OK' ],
) {
	my ($name, $host, $port, $answer) = @$case;
	log_mark($t, 'line.log');

	my $client = client(port => port($port))->send(connect_request("$host:443"));
	like($client->read_header(), qr!^HTTP/1\.1 \Q$answer\E\x0d\x0a!, "$name: the answer");
	is($client->send('there and back')->read_bytes(14), 'there and back', "$name: a tunnel");
	$client->close();

	my $ours = $host eq 'ours';
	is(wait_for_line($t, qr/^$host /, 'line.log'),
		"$host 200 [$host] " . ($ours ? "[$echo] [60000] [0.000]" : '[-] [] []'),
		"$name: in the access log");
}

is(status_of(exchange(connect_request('nobodys:443'))), '405', "nobody's");
is(body_of(exchange("GET / HTTP/1.0\x0d\x0aHost: ours\x0d\x0a\x0d\x0a")), 'ours', 'GET of ours');
is(status_of(exchange("GET / HTTP/1.0\x0d\x0aHost: theirs\x0d\x0a\x0d\x0a")), '405',
	'GET of theirs');

# What the tunnel module refuses it refuses by itself, and nothing of it is ours.
is_deeply([ log_lines($t, qr/proxy_connect: client.* request: (?!"CONNECT nobodys:)/) ], [],
	'no word of ours about theirs');
is(scalar(log_lines($t, qr/proxy_connect: client sent connect method/)), 1, "but about nobody's");

$t->stop();

###############################################################################
# Two that want the same

for my $case (
	[ 'in one server', "proxy_connect;\n        tunnel_pass;" ],
	[ 'the other way round', "tunnel_pass;\n        proxy_connect;" ],
	[ 'in a location of the server',
		"proxy_connect;\n        location /a/ {\n            tunnel_pass;\n        }" ],
	[ 'in an if of a location',
		"location / {\n            if (\$host = a) {\n                tunnel_pass;\n            }\n"
			. "        }\n        proxy_connect;" ],
) {
	my ($name, $directives) = @$case;

	write_conf($t, $conf, <<"EOF");
    server {
        listen       127.0.0.1:8080;
        server_name  both;

        $directives
    }
EOF

	my $line = line_of($t, qr/^\s*server \{/);
	my $said = refusal($t);

	like($said, qr/\[emerg\] "proxy_connect" and another module, such as that of "tunnel_pass",/,
		"$name: refused");
	like($said, qr/ of the server at \S*nginx\.conf:$line, /, "$name: where it is");
	unlike($said, qr/test is successful/, "$name: nginx does not start");
}

###############################################################################

sub write_conf {
	my ($t, $conf, $servers) = @_;
	$t->write_file_expand('nginx.conf', $conf =~ s/^ *SERVERS\n/$servers/mr);
}

# The number of the first line of the configuration that matches.
sub line_of {
	my ($t, $pattern) = @_;
	my @lines = split /\n/, $t->read_file('nginx.conf');
	my ($index) = grep { $lines[$_] =~ $pattern } 0 .. $#lines;
	return $index + 1;
}

# What "nginx -T" says of the configuration.
sub refusal {
	my ($t) = @_;
	return $t->dump_config();
}

###############################################################################
