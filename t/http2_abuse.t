#!/usr/bin/perl

# Clients of HTTP/2 that mean no good: CONNECTs that are reset at once, or at any point, field blocks that unfold,
# floods of frames, and windows that never open. What nginx holds for them stays bounded, and others go on.

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::HTTP2 qw/ END_STREAM END_HEADERS PREFACE block as_frame http2_on /;
use Test::ProxyConnect::Tunnel;

use POSIX ();

use constant { DATA => 0, HEADERS => 1, RST_STREAM => 3, SETTINGS => 4, PING => 6, WINDOW_UPDATE => 8,
	CONTINUATION => 9 };
use constant { CANCEL => 8 };
use constant { READS => 3 * 2 ** 20, WINDOW => 2 * 2 ** 20 };

# Under sanitizers memory tells nothing.
use constant TELLS_MEMORY => !($ENV{TEST_NGINX_VALGRIND} || ($ENV{ASAN_OPTIONS} // '') ne '');

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_v2 rewrite/);

plan(skip_all => 'CONNECT over HTTP/2 needs nginx 1.22 or newer') unless $t->has_version('1.22.0');

my $on = http2_on($t);

my $conf = <<'EOF' =~ s/%%HTTP2%%/$on/gr;

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
    worker_connections  2048;
}

http {
    %%TEST_GLOBALS_HTTP%%

    access_log  off;

    keepalive_requests          1000000;
    proxy_connect_http2_window  1m;

    server {
        listen       127.0.0.1:8080%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow  all;

        location / {
            return 200 "here\n";
        }
    }

    server {
        listen       127.0.0.1:8085%%HTTP2%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow          all;
        proxy_connect_http2_window   2m;
        proxy_connect_socket_sndbuf  32k;
    }
}

EOF

$t->plan(35)->write_file_expand('nginx.conf', quietly($t, $conf, 'warn'));

upstream($t, echo(), port(8081));
upstream($t, sub { $_[0]->send('x' x 200_000); $_[0]->read_to_end() }, port(8082));
$t->write_file('stopped', '');
upstream($t, stop_reading($t->testdir() . '/stopped'), port(8084));
my $queue = full_backlog(port(8083));
$t->run();

my $worker = lone_worker($t);
my $to = '127.0.0.1:' . port(8081);
my $count = int(10_000 * SHARE) || 500;

sub h2 { return Test::ProxyConnect::HTTP2->new(cleartext => 1, port => port(8080), @_) }

my $bystander = h2();
my $beside = $bystander->tunnel($to);

sub others_go_on {
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$bystander->data($beside, 'alive');
	is($bystander->read_bytes($beside, 5), 'alive', "$name: others go on");
	return;
}

###############################################################################
# Rapid reset

for my $case ([ 'echo' => $to ], [ 'a full backlog' => '127.0.0.1:' . port(8083) ]) {
	my ($name, $authority) = @$case;
	my $block = block(':method' => 'CONNECT', ':authority' => $authority);
	my $before = memory($worker);
	my $watch = watch($worker);
	my ($sent, $connections) = (0, 0);

	# nginx closes a connection whose client has too many streams refused.
	while ($sent < $count) {
		my $h2 = h2();
		$connections++;

		while ($sent < $count && !$h2->{ending}) {
			eval {
				$h2->{socket}->send(join '', map {
					my $id = $h2->new_stream();
					as_frame(HEADERS, END_HEADERS, $id, $block) . as_frame(RST_STREAM, 0, $id, pack 'N', CANCEL)
				} 1 .. 100);
				$h2->ping();
			} or last;
			$sent += 100;
		}

		die "No connection takes any\n" if $connections > $sent / 100 + 10;
		eval { $h2->{socket}->close() };
	}

	my $peak = stop($watch);
	cmp_ok($peak, '<', 200, "rapid reset, $name: $sent CONNECTs, sockets at most");
	wait_until('Connections are left', sub { sockets($worker) < 20 });
	pass("rapid reset, $name: none is left");
	is_bounded($worker, $before, 4096, "rapid reset, $name");
	others_go_on("rapid reset, $name");
}

# Reset when the tunnel stands, and full of bytes.
{
	my $before = memory($worker);
	my $watch = watch($worker);

	for (1 .. (1 + $count / 500)) {
		my $h2 = h2();
		my @ids = map { $h2->connect($to) } 1 .. 50;
		$h2->status($_) for @ids;
		$h2->data($_, 'x' x 1000) for @ids;
		$h2->rst($_, CANCEL) for @ids;
		$h2->{socket}->reset();
	}

	cmp_ok(stop($watch), '<', 500, 'standing tunnels that are reset: sockets at most');
	wait_until('Connections are left', sub { sockets($worker) < 20 });
	is_bounded($worker, $before, 16384, 'standing tunnels that are reset');
	others_go_on('standing tunnels that are reset');
}

###############################################################################
# A client that leaves at every point

my $talk = PREFACE . as_frame(SETTINGS, 0, 0, '') . as_frame(HEADERS, END_HEADERS, 1,
	block(':method' => 'CONNECT', ':authority' => $to)) . as_frame(DATA, 0, 1, 'hello')
	. as_frame(HEADERS, 0, 3, "\0" . Test::ProxyConnect::HTTP2::string(':method') . "\x07CONNECT")
	. as_frame(CONTINUATION, END_HEADERS, 3, block(':authority' => $to)) . as_frame(DATA, END_STREAM, 3, 'x')
	. as_frame(DATA, 8, 1, "\x03abc\0\0\0") . as_frame(RST_STREAM, 0, 1, pack 'N', CANCEL);

for my $how (qw/ close reset half_close /) {
	for my $len (1 .. length $talk) {
		my $client = client();
		$client->send(substr $talk, 0, $len);
		$client->$how();
	}

	wait_until('Connections are left', sub { sockets($worker) < 20 });
	others_go_on("a client that leaves at every point, by $how");
}

###############################################################################
# Field blocks

# A large entry of the table, over and over: 64 KiB of a block are many MiB of fields.
{
	my $before = memory($worker);

	for (1 .. 20) {
		my $h2 = h2();
		my $entry = "\x40\x01x\x7f\x81\x1e" . 'v' x 4000;
		$h2->headers(block(':method' => 'CONNECT', ':authority' => $to) . $entry);
		$h2->headers("\xbe" x 16000);
		$h2->headers(block(':method' => 'CONNECT', ':authority' => $to) . "\xbe" x 16000);
		eval { $h2->ping() };
	}

	is_bounded($worker, $before, 4096, 'a table that unfolds');
	others_go_on('a table that unfolds');

	$before = memory($worker);

	for (1 .. 20) {
		my $h2 = h2();
		my $id = $h2->new_stream();
		eval {
			$h2->frame(HEADERS, 0, $id, block(':method' => 'CONNECT'));
			$h2->frame(CONTINUATION, 0, $id, block('x' => 'y' x 10_000)) for 1 .. 200;
		};
		like($h2->closing(), qr/^(?:eof|reset)/, 'a block without end') if $_ == 1;
	}

	is_bounded($worker, $before, 4096, 'blocks without end');

	$before = memory($worker);
	my $h2 = h2();
	my $id = $h2->new_stream();
	eval {
		$h2->frame(HEADERS, 0, $id, block(':method' => 'CONNECT'));
		$h2->{socket}->send(as_frame(CONTINUATION, 0, $id, '') x 1000) for 1 .. 100;
	};
	like($h2->closing(), qr/^(?:eof|reset)/, 'CONTINUATIONs without a byte');
	is_bounded($worker, $before, 1024, 'CONTINUATIONs without a byte');
	others_go_on('blocks without end');
}

###############################################################################
# Floods

for my $case (
	[ 'malformed CONNECTs', sub { as_frame(HEADERS, END_HEADERS | END_STREAM, $_[0]->new_stream(), block(':method' => 'CONNECT')) } ],
	[ 'empty DATA', sub { as_frame(DATA, 0, 1, '') } ],
	[ 'padding', sub { as_frame(DATA, 8, 1, "\0") } ],
	[ 'WINDOW_UPDATEs', sub { as_frame(WINDOW_UPDATE, 0, 1, pack 'N', 1) } ],
	[ 'DATA behind a reset', sub { as_frame(DATA, 0, 3, 'x') } ],
) {
	my ($name, $frame) = @$case;
	my $before = memory($worker);
	my $h2 = h2();
	$h2->tunnel($to);
	$h2->rst($h2->tunnel($to));

	# Before it ends, if it does: nginx calls it a flood.
	for (1 .. 200) {
		last unless eval { $h2->{socket}->send(join '', map { $frame->($h2) } 1 .. 1000); $h2->ping(); 1 };
		last if $h2->{ending};
	}

	is_bounded($worker, $before, 2048, "a flood of $name");
}

others_go_on('floods');

###############################################################################
# Windows that never open

{
	my $before = memory($worker);
	my $h2 = h2(window => 0);
	$h2->tunnel('127.0.0.1:' . port(8082)) for 1 .. 50;
	$h2->ping();
	is_bounded($worker, $before, 8192, '50 streams without a window');

	my $other = h2(window => 0);
	my @ids = map { $other->tunnel('127.0.0.1:' . port(8082)) } 1 .. 20;

	for my $round (1 .. 50) {
		$other->open_window($_, 1) for @ids;
		$other->wait_for('a byte of each', sub { !grep { length $other->data_of($_) < $round } @ids });
	}

	is(join(' ', map { length $other->data_of($_) } @ids), join(' ', (50) x 20), 'windows that open by 1');
}

# Upstreams that read until the windows of their streams have grown, and then no more. Together these grow by twice
# the largest window.
{
	my $before = memory($worker);
	my $h2 = h2(port => port(8085));
	my @ids = map { $h2->tunnel('127.0.0.1:' . port(8084)) } 1 .. 16;
	my $piece = 'x' x 65536;

	for (1 .. READS / length $piece) {
		$h2->upload($_, $piece) for @ids;
	}

	$h2->read_bytes($_, 7) for @ids;
	$h2->ping();
	my ($most, $bound) = (0, 2 * WINDOW + @ids * 65535);

	for my $id (@ids) {
		while ((my $window = $h2->ping()->stream($id)->{window}) > 0) {
			$h2->upload($id, 'x' x $window);
			$most += $window;
		}
	}

	# The system takes some, too.
	cmp_ok($most, '>', $bound / 2, 'upstreams that stop reading: the windows had grown');
	cmp_ok($most, '<', $bound + @ids * 2 ** 18, 'upstreams that stop reading: within a bound');
	is_bounded($worker, $before, $bound / 1024 + 8192, 'upstreams that stop reading');
	unlink $t->testdir() . '/stopped';
	$h2->end($_) for @ids;
	is(scalar(grep { $h2->ending($_) ne 'end' } @ids), 0, 'upstreams that stop reading: they go on');
	is($_->{ending}, undef, 'upstreams that stop reading: so does the connection') for $h2;
}

others_go_on('windows');
$bystander->{socket}->close();

###############################################################################

# Reads for a while, and then not until a file is gone.
sub stop_reading {
	my ($file) = @_;
	return sub {
		my ($socket) = @_;
		$socket->read_bytes(READS);
		$socket->shrink_buffers(16384);
		$socket->send('stopped');
		wait_until('The file stays', sub { !-e $file }, 60);
		$socket->read_to_end();
	};
}

# The memory of a process, in KiB.
sub memory {
	my ($pid) = @_;
	open my $file, '<', "/proc/$pid/status" or die "No status of $pid: $!\n";
	my ($size) = map { /^VmRSS:\s+(\d+)/ } <$file>;
	return $size;
}

# The most that there was since a process began, in KiB.
sub peak_memory {
	my ($pid) = @_;
	open my $file, '<', "/proc/$pid/status" or die "No status of $pid: $!\n";
	my ($size) = map { /^VmHWM:\s+(\d+)/ } <$file>;
	return $size;
}

sub is_bounded {
	my ($pid, $before, $more, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	SKIP: {
		skip 'memory tells nothing here', 1 unless TELLS_MEMORY;
		my $peak = peak_memory($pid);
		cmp_ok($peak, '<', $before + $more, "$name: the peak of memory, $before KiB before");
	}

	# From here on it counts anew.
	if (open my $refs, '>', "/proc/$pid/clear_refs") {
		print {$refs} "5\n";
	}

	return;
}

# Counts a process's sockets, the most of them, until it is told to stop.
sub watch {
	my ($pid) = @_;
	pipe my $read, my $write or die "No pipe: $!\n";
	pipe my $ends, my $end or die "No pipe: $!\n";
	my $watcher = fork() // die "Can't fork: $!\n";

	if (!$watcher) {
		close $end;
		my $most = 0;

		while (1) {
			my $now = sockets($pid);
			$most = $now if $now > $most;
			vec(my $bits = '', fileno $ends, 1) = 1;
			last if select $bits, undef, undef, 0.005;
		}

		syswrite $write, $most;
		POSIX::_exit(0);
	}

	close $write;
	return { pid => $watcher, read => $read, end => $end };
}

sub stop {
	my ($watch) = @_;
	close $watch->{end};
	my $most = readline $watch->{read};
	waitpid $watch->{pid}, 0;
	return $most;
}

###############################################################################
