#!/usr/bin/perl

# CONNECT beside lua-nginx-module: what Lua knows of it, and sets, changes and refuses in the rewrite
# and the access phase.

use warnings;
use strict;

use Test::More;
use Time::HiRes qw/ time /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Lua;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http rewrite access/);
lua_or_skip($t)->plan(122);

my %port = write_servers($t, '',
	# what Lua knows of a CONNECT
	knows => <<'END',
        access_by_lua_block {
            ngx.status = 403
            ngx.say(table.concat({
                ngx.req.get_method(), ngx.req.http_version(), ngx.var.request_method,
                ngx.var.request, ngx.var.host, ngx.var.uri, ngx.var.connect_host,
                ngx.var.connect_port, tostring(ngx.var.connect_addr),
                ngx.req.get_headers()["Host"], tostring(ngx.req.is_internal())
            }, "|"))
            ngx.exit(ngx.HTTP_OK)
        }
END

	raw => <<'END',
        access_by_lua_block {
            ngx.status = 403
            ngx.print(ngx.req.raw_header())
            ngx.exit(ngx.HTTP_OK)
        }
END

	# what it sets
	response => <<'END',
        rewrite_by_lua_block {
            ngx.var.proxy_connect_response = string.format(
                "HTTP/1.1 200 Lua\r\nX-Host: %s\r\n\r\n", ngx.var.connect_host)
        }
END
	response_access => <<'END',
        access_by_lua_block {
            ngx.var.proxy_connect_response = "HTTP/1.1 200 Access\r\n\r\n"
        }
END
	response_nil => <<'END',
        proxy_connect_response "HTTP/1.1 200 Directive\r\n\r\n";
        rewrite_by_lua_block {
            ngx.var.proxy_connect_response = "HTTP/1.1 200 Lua\r\n\r\n"
        }
        access_by_lua_block {
            ngx.var.proxy_connect_response = nil
        }
END
	timeouts => <<'END',
        proxy_connect_connect_timeout  30s;
        rewrite_by_lua_block {
            ngx.var.proxy_connect_connect_timeout = ngx.var.http_x_connect
            ngx.var.proxy_connect_data_timeout = ngx.var.http_x_data
        }
        log_by_lua_block {
            ngx.var.seen = ngx.var.proxy_connect_connect_timeout .. " "
                .. ngx.var.proxy_connect_data_timeout
        }
END
	number => <<'END',
        rewrite_by_lua_block {
            ngx.var.proxy_connect_data_timeout = 7
        }
        log_by_lua_block {
            ngx.var.seen = ngx.var.proxy_connect_data_timeout
        }
END
	set => <<'END',
        set_by_lua_block $where {
            return ngx.var.connect_port == "1" and "127.0.0.1:%%PORT_8081%%" or ""
        }
        proxy_connect_address $where;
END

	# what it refuses
	exit => 'access_by_lua_block { ngx.exit(tonumber(ngx.var.http_x_exit)) }',
	exit_rewrite => 'rewrite_by_lua_block { ngx.exit(tonumber(ngx.var.http_x_exit)) }',
	say => 'access_by_lua_block { ngx.say("said") }',
	say_rewrite => 'rewrite_by_lua_block { ngx.say("said") }',
	say_status => <<'END',
        access_by_lua_block {
            ngx.status = 407
            ngx.header["Proxy-Authenticate"] = "Basic realm=lua"
            ngx.say("who are you?")
            ngx.exit(ngx.HTTP_OK)
        }
END
	redirect => 'access_by_lua_block { ngx.redirect("http://elsewhere.example/") }',
	page => <<'END',
        error_page 403 502 /page;
        access_by_lua_block {
            if ngx.var.http_x_exit then
                ngx.exit(tonumber(ngx.var.http_x_exit))
            end
        }
        location = /page {
            access_by_lua_block {
            }
            content_by_lua_block {
                ngx.say("page ", ngx.status, " ", ngx.req.get_method(), " ", ngx.var.connect_host)
            }
        }
END
	filter => <<'END',
        access_by_lua_block {
            if ngx.var.http_x_exit then
                ngx.status = tonumber(ngx.var.http_x_exit)
                ngx.say("filtered")
                ngx.exit(ngx.HTTP_OK)
            end
        }
        header_filter_by_lua_block {
            ngx.header["X-Filter"] = ngx.var.connect_host
        }
        body_filter_by_lua_block {
            ngx.arg[1] = string.upper(ngx.arg[1])
        }
END

	# what it changes
	exec => <<'END',
        access_by_lua_block {
            ngx.exec(ngx.var.http_x_exec)
        }
        location / {
            access_by_lua_block {
            }
            content_by_lua_block {
                ngx.say("elsewhere")
            }
        }
        location @named {
            access_by_lua_block {
            }
            content_by_lua_block {
                ngx.say("named")
            }
        }
END
	method => <<'END',
        rewrite_by_lua_block {
            ngx.req.set_method(ngx.HTTP_GET)
        }
END
	uri => <<'END',
        rewrite_by_lua_block {
            ngx.req.set_uri("/elsewhere")
            ngx.req.set_uri_args("a=b")
            ngx.req.set_header("Host", "elsewhere.example")
        }
END
	body => <<'END',
        rewrite_by_lua_block {
            ngx.req.read_body()
            ngx.var.seen = tostring(ngx.req.get_body_data())
        }
        access_by_lua_block {
            ngx.req.discard_body()
        }
END
	need_body => <<'END',
        lua_need_request_body on;
        rewrite_by_lua_block {
            ngx.var.seen = tostring(ngx.req.get_body_data())
        }
END

	# errors
	error => 'access_by_lua_block { error("a secret of Lua") }',
	error_rewrite => 'rewrite_by_lua_block { local none; none.secret = 1 }',
	error_object => 'access_by_lua_block { error({ "a secret of Lua" }) }',
	error_set => 'set_by_lua_block $secret { error("a secret of Lua") }',
	error_thread => <<'END',
        access_by_lua_block {
            ngx.thread.spawn(function () error("a secret of Lua") end)
        }
END
);

$t->run();

my $listener = listener(port(8081));
my $where = '127.0.0.1:' . port(8081);
my $refused = '127.0.0.1:' . port(8082);
my $full = full_backlog(port(8083));
my $full_address = '127.0.0.1:' . port(8083);

my $worker = lone_worker($t);
logged($t, sub { through($listener, port => $port{uri}) });
my $before = steady_fds($worker);

my ($answer, $begin);

###############################################################################
# What Lua knows

is(page('knows', $where, 'Host: host.example'),
	"403 CONNECT|1.1|CONNECT|CONNECT $where HTTP/1.1|127.0.0.1||127.0.0.1|" . port(8081)
		. '|nil|host.example|false', 'what Lua knows');
is(page('raw', $where, 'Host: host.example'),
	"403 CONNECT $where HTTP/1.1\x0d\x0aHost: host.example\x0d\x0a\x0d", 'the header as it came');

###############################################################################
# What it sets

is_deeply([ tunnelled($t, 'response_access') ],
	[ "HTTP/1.1 200 Access\x0d\x0a\x0d\x0aanswer", 'response_access 200|' ],
	'access: the response');
is_deeply([ tunnelled($t, 'response_nil') ],
	[ "HTTP/1.1 200 Directive\x0d\x0a\x0d\x0aanswer", 'response_nil 200|' ],
	'access: the response set to nil is that of the directive');

SKIP: {
	skip NO_REWRITE, 14 unless runs_rewrite($t);

	is_deeply([ tunnelled($t, 'response') ],
		[ "HTTP/1.1 200 Lua\x0d\x0aX-Host: 127.0.0.1\x0d\x0a\x0d\x0aanswer", 'response 200|' ],
		'rewrite: the response');

	$begin = time();
	is(logged($t, sub {
		my ($client, $upstream) = pair($listener, port => $port{timeouts},
			fields => [ 'X-Data: 300ms' ]);
		is($client->read_to_end() . $upstream->read_to_end(), '', 'rewrite: the data timeout');
	}), 'timeouts 200|30000 300', 'rewrite: the data timeout, in the access log');
	ok(between(0.3, time() - $begin, 10), 'rewrite: when it runs out');

	$begin = time();
	is(logged($t, sub {
		is(status_of(answer('timeouts', $full_address, 'X-Connect: 300ms')), '504',
			'rewrite: the connect timeout');
	}), 'timeouts 504|300 60000', 'rewrite: the connect timeout, in the access log');
	ok(between(0.3, time() - $begin, 10), 'rewrite: when it runs out');

	is((tunnelled($t, 'timeouts'))[1], 'timeouts 200|30000 60000',
		'rewrite: timeouts set to nil are those of the directives');
	is((tunnelled($t, 'number'))[1], 'number 200|7000', 'rewrite: a number is seconds');

	log_mark($t);
	is((tunnelled($t, 'timeouts', 'X-Data: soon'))[1], 'timeouts 200|30000 60000',
		'rewrite: garbage changes nothing');
	is(scalar(log_lines($t, qr/proxy_connect: invalid time "soon" set for \$proxy_connect_data_timeout/)),
		1, 'rewrite: garbage is in the log');

	is(logged($t, sub {
		my $client = knock($listener, port => $port{set}, authority => 'some.example:1');
		my $upstream = accept_end($listener);
		like($client->read_header(), qr/ 200 /, 'set_by_lua: an address to connect to');
		is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ],
			'set_by_lua: the tunnel');
		$_->close() for $client, $upstream;
	}), 'set 200|', 'set_by_lua: the access log');
}

###############################################################################
# What it refuses

# The rewrite phase comes last: where there is none the loop ends there.
SKIP: for my $server (qw/ exit exit_rewrite /) {
	skip NO_REWRITE, 26 if $server =~ /rewrite/ && !runs_rewrite($t);

	for my $status (401, 403, 407, 429, 500, 502, 503) {
		is_refused($t, $server, $status, "$server $status", "X-Exit: $status");
	}

	is(logged($t, sub {
		is(answer($server, $where, 'X-Exit: 444'), '', "$server 444: no answer");
	}), "$server 444|", "$server 444: in the access log");
	is(unaccepted($listener), 0, "$server 444: nobody connects");

	# ngx.OK and ngx.DECLINED
	for my $code (0, -5) {
		is((tunnelled($t, $server, "X-Exit: $code"))[1], "$server 200|", "$server $code: a tunnel");
	}
}

SKIP: for my $server (qw/ say say_rewrite /) {
	skip NO_REWRITE, 3 if $server =~ /rewrite/ && !runs_rewrite($t);

	is(logged($t, sub {
		is(page($server, $where), '200 said', "$server: an answer in place of a tunnel");
	}), "$server 200|", "$server: in the access log");
	is(unaccepted($listener), 0, "$server: nobody connects");
}

$answer = answer('say_status', $where);
is(status_of($answer), '407', 'say: another status');
is(header_of($answer, 'Proxy-Authenticate'), 'Basic realm=lua', 'say: a field');
is(header_of($answer, 'Connection'), 'close', 'say: the connection closes');
is(page('say_status', $where), '407 who are you?', 'say: a page');

$answer = answer('redirect', $where);
is(header_of($answer, 'Location'), 'http://elsewhere.example/', 'redirect');
is(header_of($answer, 'Connection'), 'close', 'redirect: the connection closes');

is(page('page', $where, 'X-Exit: 403'), '403 page 403 GET 127.0.0.1',
	'error_page: for what Lua refuses');
is(page('page', $refused), '502 page 502 GET 127.0.0.1',
	'error_page: for what the module refuses');

is(header_of(answer('filter', $where, 'X-Exit: 403'), 'X-Filter'), '127.0.0.1',
	'header_filter_by_lua');
is(page('filter', $where, 'X-Exit: 403'), '403 FILTERED', 'body_filter_by_lua');
is((tunnelled($t, 'filter'))[0],
	"HTTP/1.1 200 Connection Established\x0d\x0aProxy-agent: nginx\x0d\x0a\x0d\x0aanswer",
	'filters have no say in a tunnel');

###############################################################################
# What it changes

is(page('exec', $where, 'X-Exec: @named'), '200 named', 'exec: a named location');
is(page('exec', $where, 'X-Exec: /elsewhere'), '200 elsewhere', 'exec: a location');
is(unaccepted($listener), 0, 'exec: nobody connects');

SKIP: {
	skip NO_REWRITE, 9 unless runs_rewrite($t);

	like(status_of(answer('method', $where)), qr/^4\d\d$/, 'another method is no CONNECT');
	is(unaccepted($listener), 0, 'another method: nobody connects');
	is((tunnelled($t, 'uri'))[1], 'uri 200|', 'another URI and Host change nothing');

	for my $server (qw/ body need_body /) {
		is(logged($t, sub {
			my ($client, $upstream) = pair($listener, port => $port{$server}, early => 'early');
			is($upstream->read_bytes(5), 'early', "$server: early bytes are none");
			is_deeply([ cross($client, $upstream, 'up', 'down') ], [ 'up', 'down' ],
				"$server: the tunnel");
			$_->close() for $client, $upstream;
		}), "$server 200|nil", "$server: Lua finds no body");
	}
}

###############################################################################
# Errors

SKIP: for my $case (
	[ error => qr/a secret of Lua/ ],
	[ error_object => qr/lua entry thread aborted/ ],
	[ error_rewrite => qr/attempt to index/ ],
	[ error_set => qr/a secret of Lua/ ],
) {
	my ($server, $words) = @$case;

	skip NO_REWRITE, 10 if $server =~ /rewrite/ && !runs_rewrite($t);

	log_mark($t);
	is_refused($t, $server, 500, $server);
	unlike(answer($server, $where), qr/secret/, "$server: the client is told nothing");
	is(scalar(log_lines($t, qr/\[error\] .*$words/)), 2, "$server: in the log");
}

log_mark($t);
is((tunnelled($t, 'error_thread'))[1], 'error_thread 200|', 'a light thread that fails');
is(scalar(log_lines($t, qr/\[error\] .*a secret of Lua/)), 1, 'a light thread: in the log');

is(settled_fds($worker, $before), $before, 'nothing is left open');

###############################################################################

# What the client gets of a tunnel, and the line of the access log.
sub tunnelled {
	my ($t, $server, @fields) = @_;
	my $got;

	my $line = logged($t, sub {
		$got = through($listener, port => $port{$server}, fields => \@fields);
	});

	return ($got, $line);
}

# A status, a connection that closes, no connection to the upstream, a line in the access log.
sub is_refused {
	my ($t, $server, $status, $name, @fields) = @_;

	is(logged($t, sub {
		my $answer = answer($server, $where, @fields);
		is(status_of($answer) . ' ' . header_of($answer, 'Connection'), "$status close",
			"$name: the answer");
	}), "$server $status|", "$name: in the access log");
	is(unaccepted($listener), 0, "$name: nobody connects");
}

sub between {
	my ($least, $value, $most) = @_;
	return $least <= $value + 0.005 && $value <= $most;
}

###############################################################################
