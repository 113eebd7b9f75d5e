#!/usr/bin/perl

# A core with a patch that is not called "rewrite": what stands in the rewrite phase of the server is
# not for CONNECT, but for all other methods; what stands in the phases behind it is for both.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use MIME::Base64 qw/ encode_base64 /;

use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Servers;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http rewrite access auth_basic limit_conn/);

my $conf = <<'EOF';
%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format line '$server_name $request_method $status "$proxy_connect_data_timeout"';
    access_log %%TESTDIR%%/line.log line;

    limit_conn_zone  $binary_remote_addr  zone=client:1m;

    SERVERS

    # a server is chosen by the authority
    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        deny all;
    }

    server {
        listen       127.0.0.1:8080;
        server_name  one.example ~^(?<found>regex)$ [::1];

        proxy_connect;
        deny all;
        error_page 403 @told;

        # not for CONNECT; but the location of error_page is one as any other
        set $told "in the server";

        location @told {
            set $told "$told, in the location";
            return 403 "$found|$host|$connect_host|$connect_port|$told\n";
        }
    }
}

EOF

my %servers = (
	# the rewrite phase
	return => 'return 403 "no\n";',
	if => <<'EOF',
        if ($http_user_agent = robot) {
            return 403 "no\n";
        }
        location / {
            return 200 "yes\n";
        }
EOF
	if_method => <<'EOF',
        if ($request_method = CONNECT) {
            return 403;
        }
        location / {
            return 200 "yes\n";
        }
EOF
	set => <<'EOF',
        set $proxy_connect_data_timeout  5s;
        set $proxy_connect_response      "HTTP/1.1 200 Set\r\n\r\n";
        set $value                       yes;
        location / {
            return 200 "$value\n";
        }
EOF
	rewrite => <<'EOF',
        rewrite ^ /elsewhere break;
        location /elsewhere {
            return 200 "elsewhere\n";
        }
        location / {
            return 200 "here\n";
        }
EOF
	redirect => 'rewrite ^ http://elsewhere.example/ redirect;',

	# the phases behind it
	deny => 'deny all;',
	allow => 'allow 127.0.0.2; deny all;',
	basic => 'auth_basic closed; auth_basic_user_file %%TESTDIR%%/users;',
	limit => 'limit_conn client 1;',
	both => <<'EOF',
        return 200 "returned\n";
        deny all;
EOF
);

my $http = server_blocks(%servers);

$t->write_file_expand('nginx.conf', $conf =~ s/^\s*SERVERS$/$http/mr);
$t->write_file('users', "user:{PLAIN}secret\n");
$t->run();

plan(skip_all => 'this core runs the rewrite phase for CONNECT') if runs_rewrite($t);
$t->plan(35);

my $echo = upstream($t, echo(), port(8081));
my $default = "HTTP/1.1 200 Connection Established\x0d\x0aProxy-agent: nginx\x0d\x0a\x0d\x0a";

###############################################################################
# The rewrite phase

is(through('return', $echo), '200 echo', 'return: not for CONNECT');
is(get('return'), '403 no', 'return: for GET');

is(through('if', $echo, 'User-Agent: robot'), '200 echo', 'if: not for CONNECT');
is(get('if', 'User-Agent: robot'), '403 no', 'if: for GET');
is(get('if'), '200 yes', 'if: for GET, does not hold');

is(through('if_method', $echo), '200 echo', 'if on the method: not for CONNECT');
is(get('if_method'), '200 yes', 'if on the method: another one');

log_mark($t, 'line.log');
is(header('set', $echo), $default, 'set: not for CONNECT');
is(wait_for_line($t, qr/^set CONNECT/, 'line.log'), 'set CONNECT 200 "60000"',
	'set: not for CONNECT, in the log');
is(get('set'), '200 yes', 'set: for GET');

is(through('rewrite', $echo), '200 echo', 'rewrite: not for CONNECT');
is(get('rewrite'), '200 elsewhere', 'rewrite: for GET');
is(through('redirect', $echo), '200 echo', 'a redirect: not for CONNECT');
is(header_of(exchange(get_request(), port => server_port('redirect')), 'Location'),
	'http://elsewhere.example/', 'a redirect: for GET');

is(scalar(log_lines($t, qr/\[(?:warn|error|crit|alert|emerg)\]/)), 0,
	'the log has nothing to say of it');

###############################################################################
# The phases behind it

log_mark($t);
is(status_of(header('deny', $echo)), '403', 'deny: CONNECT');
like(wait_for_line($t, qr/\[error\]/), qr/access forbidden by rule, client: /,
	'deny: in the log');
like(get('deny'), qr/^403 /, 'deny: GET');
is(status_of(header('both', $echo)), '403', 'deny beside return: CONNECT');
is(get('both'), '200 returned', 'deny beside return: GET');

is(status_from('allow', '127.0.0.1', $echo), '403', 'allow: another address');
is(status_from('allow', '127.0.0.2', $echo), '200', 'allow: the address');

my $good = 'Authorization: Basic ' . encode_base64('user:secret', '');
my $bad = 'Authorization: Basic ' . encode_base64('user:wrong', '');

my $unauthorised = header('basic', $echo);
is(status_of($unauthorised), '401', 'auth_basic: nobody');
is(header_of($unauthorised, 'WWW-Authenticate'), 'Basic realm="closed"',
	'auth_basic: the realm');
is(status_of(header('basic', $echo, $bad)), '401', 'auth_basic: a wrong password');
is(through('basic', $echo, $good), '200 echo', 'auth_basic: the password');

my @tunnels = map { start('limit', $_, $echo) } '127.0.0.1', '127.0.0.2';
is(status_of($_->read_header()), '200', 'limit_conn: a first tunnel') for @tunnels;
is(status_of(header('limit', $echo)), '503', 'limit_conn: a second one');
$_->close() for @tunnels;

###############################################################################
# The server

is(told('one.example:443'), '|one.example|one.example|443|, in the location',
	'a server by its name');
is(told('ONE.Example:0443'), '|one.example|one.example|443|, in the location',
	'a name in capitals');
is(told('regex:1'), 'regex|regex|regex|1|, in the location', 'a server by an expression');
is(told('[::1]:65535'), '|[::1]|[::1]|65535|, in the location',
	'a server by an IPv6 literal');
is(told('one.example:443', 'Host: none.example'),
	'|one.example|one.example|443|, in the location', 'the authority counts, not Host');
unlike(exchange(connect_request('none.example:443', 'Host: one.example')),
	qr/in the location/, 'another name: another server');

###############################################################################

sub get_request {
	my (@fields) = @_;
	return join "\x0d\x0a", 'GET / HTTP/1.0', @fields, '', '';
}

# The status and the body of a GET.
sub get {
	my ($server, @fields) = @_;
	my $answer = exchange(get_request(@fields), port => server_port($server));
	return status_of($answer) . ' ' . (body_of($answer) =~ s/\n//r);
}

# What a server tells of a CONNECT in a page of error_page.
sub told {
	my (@request) = @_;
	return body_of(exchange(connect_request(@request))) =~ s/\n//r;
}

###############################################################################
