#!/usr/bin/perl

# CONNECT beside lua-nginx-module: Lua that waits before the tunnel stands, by sleeping, in subrequests
# and in sockets of its own; and what the client does meanwhile.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Kernel;
use Test::ProxyConnect::Lua;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl rewrite access socket_ssl/);
lua_or_skip($t)->plan(179);
certificate($t, 'localhost');

my $init = <<'END';
    ssl_certificate      localhost.crt;
    ssl_certificate_key  localhost.key;

    resolver          127.0.0.1:%%PORT_8980_UDP%% ipv6=off;
    lua_socket_log_errors off;

    init_by_lua_block {
        -- says that it is there, then waits
        function wait(seconds)
            ngx.log(ngx.NOTICE, "waiting")
            ngx.sleep(seconds)
        end

        -- asks the echo
        function ask(host, port)
            local socket = ngx.socket.tcp()
            socket:settimeout(5000)
            local ok, err = socket:connect(host, port)
            if not ok then
                return nil, err
            end
            socket:send("question")
            return socket:receive(8), socket
        end
    }
END

my $granted = <<'END';
        location / {
            rewrite_by_lua_block {
            }
            access_by_lua_block {
            }
            location = /granted {
                content_by_lua_block {
                    ngx.print("granted ", ngx.req.get_method(), " ", ngx.var.connect_host)
                }
            }
            location = /slow {
                content_by_lua_block {
                    ngx.sleep(0.1)
                    ngx.print("granted")
                }
            }
            location = /proxied {
                proxy_pass http://127.0.0.1:%%PORT_8070%%/granted;
            }
        }
END

# A tunnel stands behind all of these.
my %waits = (
	sleep_rewrite => 'rewrite_by_lua_block { wait(0.1) }',
	sleep_access => 'access_by_lua_block { wait(0.1) }',
	sleep_both => 'rewrite_by_lua_block { wait(0.1) } access_by_lua_block { wait(0.1) }',
	sleep_zero => 'rewrite_by_lua_block { wait(0) } access_by_lua_block { wait(0) wait(0) }',

	thread => <<'END',
        access_by_lua_block {
            local first = ngx.thread.spawn(wait, 0.1)
            local second = ngx.thread.spawn(wait, 0.05)
            ngx.thread.wait(first, second)
        }
END

	capture_rewrite => <<"END",
        rewrite_by_lua_block {
            local answer = ngx.location.capture("/granted")
            assert(answer.body == "granted GET 127.0.0.1", answer.body)
        }
$granted
END
	capture_access => <<"END",
        access_by_lua_block {
            local answer = ngx.location.capture("/granted", { method = ngx.HTTP_POST, body = "x" })
            assert(answer.body == "granted POST 127.0.0.1", answer.body)
        }
$granted
END
	capture_slow => <<"END",
        access_by_lua_block {
            assert(ngx.location.capture("/slow").body == "granted")
            assert(ngx.location.capture("/slow").body == "granted")
        }
$granted
END
	capture_multi => <<"END",
        access_by_lua_block {
            local answers = { ngx.location.capture_multi({ { "/slow" }, { "/granted" }, { "/slow" } }) }
            assert(answers[1].body == "granted")
            assert(answers[2].body == "granted GET 127.0.0.1")
            assert(answers[3].body == "granted")
        }
$granted
END
	capture_proxied => <<"END",
        access_by_lua_block {
            local answer = ngx.location.capture("/proxied")
            assert(answer.body == "granted GET nil", answer.body)
        }
$granted
END

	socket_rewrite => <<'END',
        rewrite_by_lua_block {
            local answer, socket = ask("127.0.0.1", %%PORT_8082%%)
            assert(answer == "question")
            socket:close()
        }
END
	socket_access => <<'END',
        access_by_lua_block {
            local answer, socket = ask("127.0.0.1", %%PORT_8082%%)
            assert(answer == "question")
            socket:close()
        }
END
	socket_pool => <<'END',
        access_by_lua_block {
            for i = 1, 3 do
                local answer, socket = ask("127.0.0.1", %%PORT_8082%%)
                assert(answer == "question")
                socket:setkeepalive(100, 1)
            end
        }
END
	socket_name => <<'END',
        access_by_lua_block {
            local answer, socket = ask("echo.example", %%PORT_8082%%)
            assert(answer == "question")
            socket:close()
        }
END

	# left open, for the end of the request to close
	socket_open => <<'END',
        access_by_lua_block {
            ngx.ctx.answer, ngx.ctx.socket = ask("127.0.0.1", %%PORT_8082%%)
            assert(ngx.ctx.answer == "question")
        }
END

	abort => <<'END',
        lua_check_client_abort on;
        access_by_lua_block {
            wait(0.1)
        }
END
);

my %long = (
	long_access => 'access_by_lua_block { wait(0.5) }',
	long_rewrite => 'rewrite_by_lua_block { wait(0.5) }',
);

my %port = write_servers($t, $init, over_tls(%waits), over_tls(%long),
	long_abort => <<'END',
        lua_check_client_abort on;
        access_by_lua_block {
            ngx.on_abort(function ()
                ngx.log(ngx.NOTICE, "gone")
                ngx.exit(499)
            end)
            wait(30)
        }
END
	exit => 'access_by_lua_block { wait(0.1) ngx.exit(403) }',
	exit_rewrite => 'rewrite_by_lua_block { wait(0.1) ngx.exit(403) }',
	error => 'access_by_lua_block { wait(0.1) error("a secret of Lua") }',
	error_rewrite => 'rewrite_by_lua_block { wait(0.1) error("a secret of Lua") }',
	denied => <<"END",
        access_by_lua_block {
            ngx.exit(ngx.location.capture("/nowhere").status == 404 and 403 or 500)
        }
$granted
END
	socket_refused => <<'END',
        access_by_lua_block {
            local answer, err = ask("127.0.0.1", %%PORT_8083%%)
            ngx.exit(err == "connection refused" and 403 or 500)
        }
END

	# a server that is asked for /granted by another
	asked => "listen 127.0.0.1:%%PORT_8070%%; access_log off; $granted",
);

name_server($t, 8980, 'echo.example' => '127.0.0.1');
upstream($t, echo(), port(8082));
$t->run();

my $listener = listener(port(8081));
my $where = '127.0.0.1:' . port(8081);
my $worker = lone_worker($t);

# nginx keeps its socket to the name server.
logged($t, sub { through($listener, port => $port{socket_name}) });
my $before = steady_fds($worker);

###############################################################################
# What Lua waits for makes no difference

for my $server (sort keys %waits) {
	for my $tls (0, 1) {
		my $name = $server . ($tls ? ', TLS' : '');
		my %way = way_to($t, $server, $tls);

		is(logged($t, sub {
			my ($client, $upstream) = pair($listener, %way, authority => $where, early => 'early');
			is($upstream->read_bytes(5), 'early', "$name: early bytes");
			is_deeply([ cross($client, $upstream, noise(100_000), noise(200_000)) ],
				[ noise(100_000), noise(200_000) ], "$name: the tunnel");
			$_->close() for $client, $upstream;
		}), "$server 200|", "$name: the access log");
	}
}

###############################################################################
# What the client does meanwhile

# The rewrite phase comes last: where there is none the loop ends there.
SKIP: for my $server (sort keys %long) {
	skip NO_REWRITE, 30 if $server =~ /rewrite/ && !runs_rewrite($t);

	for my $tls (0, 1) {
		my $name = $server . ($tls ? ', TLS' : '');
		my %way = (way_to($t, $server, $tls), authority => $where);

		is(logged($t, sub {
			my $client = waiting($t, $listener, %way, early => 'early');
			$client->send(' bytes');
			$client->send(' more');
			cmp_ok(busy_share($worker, 0.2), '<', 0.5, "$name: bytes do not keep nginx busy");
			my $upstream = accept_end($listener);
			is($upstream->read_bytes(16), 'early bytes more', "$name: bytes while Lua sleeps");
			like($client->read_header(), qr/ 200 /, "$name: the tunnel stands");
			$_->close() for $client, $upstream;
		}), "$server 200|", "$name: the client sends on");

		is(logged($t, sub {
			my $client = waiting($t, $listener, %way, early => 'early');
			$client->handle()->can('get_cipher') ? send_close_notify($client)
				: $client->half_close();
			cmp_ok(busy_share($worker, 0.2), '<', 0.5,
				"$name: an end of file does not keep nginx busy");
			my $upstream = accept_end($listener);
			is($upstream->read_to_end(), 'early', "$name: the end of file while Lua sleeps");
			$upstream->send('answer');
			like($client->read_header(), qr/ 200 /, "$name: the client is still there");
			is($client->read_bytes(6), 'answer', "$name: and gets its answer");
			$_->close() for $client, $upstream;
		}), "$server 200|", "$name: the client has finished its part");

		for my $leave (qw/ close reset /) {
			is(logged($t, sub {
				log_mark($t);
				waiting($t, $listener, %way)->$leave();
			}), "$server 499|", "$name: the client is gone, $leave");
			is(scalar(log_lines($t, qr/proxy_connect: client prematurely closed connection(?!, so)/)),
				1, "$name: gone, the log, $leave");
			is(unaccepted($listener), 0, "$name: gone, nobody connects, $leave");
		}
	}
}

# Lua that is told of it need not sleep to the end.
for my $leave (qw/ close reset /) {
	is(logged($t, sub {
		waiting($t, $listener, port => $port{long_abort})->$leave();
	}), 'long_abort 499|', "on_abort, $leave");
	is(unaccepted($listener), 0, "on_abort: nobody connects, $leave");
}

###############################################################################
# Lua that has waited, and then refuses

SKIP: for my $case (
	[ exit => 403 ], [ error => 500 ], [ denied => 403 ], [ socket_refused => 403 ],
	[ exit_rewrite => 403 ], [ error_rewrite => 500 ],
) {
	my ($server, $status) = @$case;

	skip NO_REWRITE, 6 if $server =~ /rewrite/ && !runs_rewrite($t);

	is(logged($t, sub {
		my $answer = answer($server, $where);
		is(status_of($answer) . ' ' . header_of($answer, 'Connection'), "$status close",
			"$server: the answer");
	}), "$server $status|", "$server: the access log");
	is(unaccepted($listener), 0, "$server: nobody connects");
}

is(settled_fds($worker, $before), $before, 'nothing is left open');

###############################################################################

# The servers, reached over TLS at a unix socket too.
sub over_tls {
	my (%lua) = @_;
	return map { $_ => "listen unix:%%TESTDIR%%/$_.sock ssl; $lua{$_}" } keys %lua;
}

# Options of a client for a server.
sub way_to {
	my ($t, $server, $tls) = @_;
	return $tls ? (path => $t->testdir() . "/$server.sock", tls => plain_tls())
		: (port => $port{$server});
}

# A client that has sent its CONNECT, for which Lua sleeps.
sub waiting {
	my ($t, @knock) = @_;
	log_mark($t);
	my $client = knock(@knock);
	wait_for_line($t, qr/waiting/);
	return $client;
}

###############################################################################
