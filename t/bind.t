#!/usr/bin/perl

# proxy_connect_bind: from which local address the upstream is reached.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# Values that are no address, with what the log shows of them.
my @garbage = (
	[ 'localhost' ], [ '300.0.0.1' ], [ '127.0.0' ], [ '127.0.0.1:0' ],
	[ '127.0.0.1:65536' ], [ '127.0.0.1:x' ], [ '[::1' ], [ '[::g]' ], [ '::g' ],
	[ 'unix:/tmp/some.sock' ], [ 'off' ], [ 'a b' ], [ "\xff", '\xff' ],
	[ 'x' x 300 ],
);

my $t = Test::Nginx->new()->has(qw/http rewrite/)->plan(38 + 2 * @garbage);

my $conf = <<'EOF';
%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    resolver          127.0.0.1:%%PORT_8981_UDP%%;
    resolver_timeout  1s;

    SERVERS

    # the client says from where
    server {
        listen       127.0.0.1:8080;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_bind $http_bind;
    }

    # the rewrite phase says from where
    server {
        listen       127.0.0.1:8082;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_bind $from;

        set $from 127.0.0.6;
        if ($connect_port = %%PORT_8083%%) {
            set $from 127.0.0.7;
        }
        if ($http_user_agent = nobody) {
            set $from "";
        }
    }

    # one connection at a time
    server {
        listen       127.0.0.1:8090;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_connect_timeout 1s;
        proxy_connect_bind 127.0.0.2:%%PORT_8088%%;
    }

    server {
        listen       127.0.0.1:8084;
        server_name  localhost;

        proxy_connect;
        proxy_connect_address unix:%%TESTDIR%%/unix.sock;
        proxy_connect_bind 127.0.0.2;
    }
}

EOF

# A server for each value that stands in the configuration.
my @values = (
	'127.0.0.2', '127.0.0.2:%%PORT_8085%%', '127.0.0.02', '::1',
	'[::1]:%%PORT_8086%%', '$remote_addr', 'off', '""', '198.51.100.1',
	'127.0.0.1:%%PORT_8081%%', '2001:db8::1',
);

# Brackets without a port are for nginx an address since 1.27.
my $brackets = $t->has_version('1.27.5');
push @values, '[::1]' if $brackets;

# Before, nginx itself can't bind to an address of another host; directives.t has what is said.
my $transparent = $t->has_version('1.11.0');
push @values, '127.0.0.3 transparent', '$remote_addr transparent' if $transparent;

my %number;
@number{@values} = 8100 .. 8100 + $#values;

my $servers = join '', map { <<"EOF" } @values;
    server {
        listen       127.0.0.1:%%PORT_$number{$_}%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow all;
        proxy_connect_bind $_;
    }

EOF

$t->write_file_expand('nginx.conf', $conf =~ s/^ *SERVERS\n/$servers/mr);

name_server($t, 8981,
	'both.example' => [ '::1', '127.0.0.1' ],
	'stuck.example' => [ '127.0.0.1', '127.0.0.3' ],
);

$t->run();

# Says who it sees.
my $tell = sub { $_[0]->send($_[0]->peer() . '.') };
my $upstream = upstream($t, $tell, port(8081));
my $upstream6 = upstream($t, $tell, '[::1]:' . port(8081));
my $other = upstream($t, $tell, port(8083));
upstream($t, sub { $_[0]->send('unix.') }, 'unix:' . $t->testdir() . '/unix.sock');

my %by = map { $_ => port($number{$_}) } @values;

###############################################################################
# Values of the configuration

like(seen($upstream, $by{'127.0.0.2'}), qr/^127\.0\.0\.2:\d+$/, 'an address');
is(seen($upstream, $by{'127.0.0.2:%%PORT_8085%%'}), '127.0.0.2:' . port(8085),
	'an address with a port');
like(seen($upstream, $by{'127.0.0.02'}), qr/^127\.0\.0\.2:\d+$/,
	'an address with a leading zero');
like(seen($upstream6, $by{'::1'}), qr/^\[::1\]:\d+$/, 'an IPv6 address');

SKIP: {
	skip 'no address for this nginx', 1 unless $brackets;

	like(seen($upstream6, $by{'[::1]'}), qr/^\[::1\]:\d+$/, 'an IPv6 address in brackets');
}

is(seen($upstream6, $by{'[::1]:%%PORT_8086%%'}), '[::1]:' . port(8086),
	'an IPv6 address with a port');
like(seen($upstream, $by{'$remote_addr'}, local => '127.0.0.5'), qr/^127\.0\.0\.5:\d+$/,
	q/the client's address/);
like(seen($upstream, $by{off}), qr/^127\.0\.0\.1:\d+$/, 'off');
like(seen($upstream, $by{'""'}), qr/^127\.0\.0\.1:\d+$/, 'an empty value');
is(seen('some.example:443', port(8084)), 'unix', 'a unix socket is reached from anywhere');

SKIP: {
	skip 'no "transparent" before nginx 1.11.0', 2 unless $transparent;
	skip 'no superuser', 2 unless $> == 0;

	like(seen($upstream, $by{'127.0.0.3 transparent'}), qr/^127\.0\.0\.3:\d+$/,
		'transparent: an address');
	like(seen($upstream, $by{'$remote_addr transparent'}, local => '127.0.0.5'),
		qr/^127\.0\.0\.5:\d+$/, q/transparent: the client's address/);
}

###############################################################################
# Addresses that nothing can be reached from

log_mark($t);
is(seen($upstream, $by{'198.51.100.1'}), '502', 'not an address of this host');
is_logged($t, "upstream connect failed (peer:$upstream) (99: Cannot assign requested address)");

log_mark($t);
is(seen($upstream6, $by{'2001:db8::1'}), '502', 'not an IPv6 address of this host');
is_logged($t, "upstream connect failed (peer:$upstream6) (99: Cannot assign requested address)");

log_mark($t);
is(seen($upstream, $by{'127.0.0.1:%%PORT_8081%%'}), '502', 'a port that is in use');
is_logged($t, "upstream connect failed (peer:$upstream) (98: Address already in use)");

log_mark($t);
is(seen($upstream6, $by{'127.0.0.2'}), '502', 'IPv6 from an IPv4 address');
is_logged($t, "upstream connect failed (peer:$upstream6), it can't be reached from 127.0.0.2:0");

log_mark($t);
is(seen($upstream, $by{'::1'}), '502', 'IPv4 from an IPv6 address');
is_logged($t, "upstream connect failed (peer:$upstream), it can't be reached from [::1]:0");

# Of a name with addresses of both kinds, the one that can be reached is.
like(seen('both.example:' . port(8081), $by{'127.0.0.2'}), qr/^127\.0\.0\.2:\d+$/,
	'a name with both, from an IPv4 address');
like(seen('both.example:' . port(8081), $by{'::1'}),
	asks_for_ipv6($t) ? qr/^\[::1\]:\d+$/ : qr/^502$/,
	'a name with both, from an IPv6 address');

# A port is for one connection at a time: another address is not tried beside one that shows nothing.
my @queues = map { full_backlog("$_:" . port(8089)) } '127.0.0.1', '127.0.0.3';
log_mark($t);
is(seen('stuck.example:' . port(8089), port(8090)), '504', 'a port, and addresses that show nothing');
is_logged($t, qr/upstream connect timed out \(peer:127\.0\.0\.[13]:${\ port(8089)}\)/);
undef @queues;

# Neither of the core's lines is an alert, and its own stay below that too.
is(scalar(log_lines($t, qr/\[(?:alert|emerg)\]/)), 0, 'no alert');

###############################################################################
# Values of variables

like(asked('127.0.0.4'), qr/^127\.0\.0\.4:\d+$/, 'variable: an address');
is(asked('127.0.0.4:' . port(8087)), '127.0.0.4:' . port(8087), 'variable: with a port');
like(asked(undef), qr/^127\.0\.0\.1:\d+$/, 'variable: not there');
like(asked(''), qr/^127\.0\.0\.1:\d+$/, 'variable: empty');
like(seen($upstream6, port(8080), fields => [ 'Bind: ::1' ]), qr/^\[::1\]:\d+$/,
	'variable: an IPv6 address');

log_mark($t);
is(asked('198.51.100.1'), '502', 'variable: not an address of this host');
is_logged($t, "upstream connect failed (peer:$upstream) (99: Cannot assign requested address)");

for (@garbage) {
	my ($value, $shown) = @$_;
	$shown //= $value;

	log_mark($t);
	is(asked($value), '502', "garbage: $shown");
	is_logged($t, qq/invalid address "$shown" in "proxy_connect_bind"/);
}

SKIP: {
	skip NO_REWRITE, 3 unless runs_rewrite($t);

	like(seen($upstream, port(8082)), qr/^127\.0\.0\.6:\d+$/, 'set');
	like(seen($other, port(8082)), qr/^127\.0\.0\.7:\d+$/, 'if and set');
	like(seen($upstream, port(8082), fields => [ 'User-Agent: nobody' ]),
		qr/^127\.0\.0\.1:\d+$/, 'set to nothing');
}

# A worker that failed so often has nothing left open.
my $worker = worker_pid($t);
my $fds = steady_fds($worker);
asked('198.51.100.1') for 1 .. 20;
asked('nonsense') for 1 .. 20;
cmp_ok(settled_fds($worker, $fds), '<=', $fds, 'failures leave nothing open');

###############################################################################

# Whom the upstream sees, or the status.
sub seen {
	my ($authority, $port, %options) = @_;
	my $socket = client(port => $port, %options);

	$socket->send(connect_request($authority, @{$options{fields} // []}));
	my $status = status_of($socket->read_header());
	return $status unless $status eq 200;

	my $peer = $socket->read_to_end();
	$socket->close();
	return $peer =~ s/\.$//r;
}

# The same, from an address in a header field.
sub asked {
	my ($address) = @_;
	return seen($upstream, port(8080),
		fields => [ defined $address ? "Bind: $address" : () ]);
}

# The one line of ours, with these words or what matches.
sub is_logged {
	my ($t, $words) = @_;
	my $pattern = ref $words ? $words : quotemeta $words;
	my @lines = log_lines($t, qr/proxy_connect: /);

	return ok(@lines == 1
		&& $lines[0] =~ /\[error\] \d+#\d+: \*\d+ proxy_connect: $pattern( while .*)?, client: 127\.0\.0\.1, /,
		"in the log: $words") || diag(join "\n", @lines);
}

###############################################################################
