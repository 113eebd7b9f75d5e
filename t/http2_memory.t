#!/usr/bin/perl

# Without memory CONNECTs over HTTP/2 fail and tunnels end, but the worker lives, and serves again when there is some.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::HTTP2 qw/ PREFACE as_frame block http2_on /;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# As many as don't find room in what the worker has already.
use constant CONNECTIONS => 100;

# How much a client sends to an upstream that reads nothing: more than the system takes.
use constant UNREAD => 4 * 2 ** 20;

use constant { HEADERS => 1, END_HEADERS => 4 };

plan(skip_all => 'no prlimit') unless eval { limit($$, 'as') };
plan(skip_all => 'what watches nginx takes memory of its own') if SLOWNESS > 1;

# nginx tells of malloc() that failed with an [emerg], which is no alert.
my $t = Test::Nginx->new()->has(qw/http http_v2/);

plan(skip_all => 'CONNECT over HTTP/2 needs nginx 1.22 or newer') unless $t->has_version('1.22.0');

$t->plan(5)->write_file_expand('nginx.conf', quietly($t, <<'EOC' =~ s/%%HTTP2%%/http2_on($t)/er, 'info'));

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
    worker_connections  2048;
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  ends  "$status $proxy_connect_close_reason";
    access_log  %%TESTDIR%%/ends.log ends;

    server {
        listen       127.0.0.1:8080 backlog=1024%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow         all;
        proxy_connect_http2_window  8m;
    }
}

EOC

$t->run();

my $worker = lone_worker($t);
my $listener = listener(port(8081));
my $to = '127.0.0.1:' . port(8081);
my $headers = as_frame(HEADERS, END_HEADERS, 1, block(':method' => 'CONNECT', ':authority' => $to));

sub h2 { return Test::ProxyConnect::HTTP2->new(cleartext => 1, @_) }

my @standing = map { stand($_) } (h2()) x 5, map { h2() } 1 .. 5;

# Some are known to nginx before; they need memory for what follows.
my @begun = map { h2() } 1 .. CONNECTIONS;
$_->{socket}->send(substr $headers, 0, 20) for @begun;
wait_until('They are not accepted', sub { sockets($worker) > @standing + @begun });
is(exchanged($standing[0]), 'up down', 'a tunnel stands');

# Enough for some of it.
my $limit = limit($worker, 'as', size_of($worker) + 400 * 1024);

# What stands and is not read needs memory of its own now.
fill_now($_->{upstream}) for @standing;
upload($_) for @standing;
eval { $_->{socket}->send(substr $headers, 20) } for @begun;
my @late = map { eval { client()->send(PREFACE . as_frame(4, 0, 0, '') . $headers) } // () } 1 .. CONNECTIONS;

my %answers;
$answers{answer($_)}++ for @begun;
note(join ', ', map { "$answers{$_} times $_" } sort keys %answers);
my @failed = log_lines($t, qr/\(12: /);
note(scalar(grep { /"CONNECT / } @failed) . ' of them in a CONNECT');
note(scalar(@failed) . ' lines tell of no memory, such as ' . ($failed[0] // 'none'));

cmp_ok(scalar @failed, '>', 0, 'there is too little memory');
is(scalar(log_lines($t, qr/exited on signal/)), 0, 'no worker dies of it');

limit($worker, 'as', $limit);
$_->{socket}->close() for @begun, map { $_->{h2} } @standing;
$_->close() for @late, map { $_->{upstream} } @standing;

my $new = eval { stand(h2()) };
is($new && exchanged($new), 'up down', 'memory again: a tunnel') or diag($@);
is((worker_pids($t))[0], $worker, 'by the worker that it was');

###############################################################################

# Both ends of a tunnel on a connection.
sub stand {
	my ($h2) = @_;
	my $id = $h2->tunnel($to);
	$h2->data($id, 'here');

	# Others that were connected to it are gone.
	while (1) {
		my $upstream = accept_end($listener);
		return { h2 => $h2, id => $id, upstream => $upstream } if eval { $upstream->read_bytes(4) eq 'here' };
	}
}

sub exchanged {
	my ($tunnel) = @_;
	my ($h2, $id, $upstream) = @$tunnel{qw/ h2 id upstream /};
	$h2->data($id, 'up');
	$upstream->send('down');
	return join ' ', $upstream->read_bytes(2), $h2->read_bytes($id, 4);
}

sub upload {
	my ($tunnel) = @_;
	my ($h2, $id) = @$tunnel{qw/ h2 id /};
	eval { local $h2->{socket}{patience} = 1; $h2->upload($id, 'x' x UNREAD) };
}

# The status that a client gets, or how its stream or connection ends.
sub answer {
	my ($h2) = @_;
	local $h2->{socket}{patience} = 1;
	my $stream = $h2->stream($h2->new_stream());
	my $status = eval { $h2->status(1) } // 'no end';
	return $status || (defined $stream->{code} ? "rst $stream->{code}" : $h2->{ending} // 'nothing');
}
