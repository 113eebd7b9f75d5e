#!/usr/bin/perl

# The page of proxy_connect_tunnels in a real browser, while tunnels come and go: it shows what stands, shows hostile
# names as text, filters, turns its pages, and closes a tunnel, by keyboard.

use warnings;
use strict;

use Test::More;
use MIME::Base64 qw/ decode_base64 encode_base64 /;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib 'lib';
use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Browser;
use Test::ProxyConnect::Devtools;
use Test::ProxyConnect::Status;
use Test::ProxyConnect::Tunnel;

select STDERR; $| = 1;
select STDOUT; $| = 1;

# More than one page.
use constant TUNNELS => 250;

my $program = chromium_or_skip();

my $t = Test::Nginx->new()->has(qw/http auth_basic/);

my $reuseport = $t->has_version('1.9.1') ? ' reuseport' : '';

$t->plan(31)->write_file_expand('nginx.conf', quietly($t, <<'EOF' =~ s/%%REUSEPORT%%/$reuseport/r, 'info'));

%%TEST_GLOBALS%%

daemon off;
worker_processes 2;

events {
    worker_connections  2048;
}

http {
    %%TEST_GLOBALS_HTTP%%

    access_log  off;

    proxy_connect_status_zone  main:1m;

    server {
        listen       127.0.0.1:8080%%REUSEPORT%%;
        server_name  localhost;

        proxy_connect;
        proxy_connect_allow    all;
        proxy_connect_auth     on;
        auth_basic             users;
        auth_basic_user_file   users;
    }

    server {
        listen       127.0.0.1:8081;
        server_name  localhost;

        location /tunnels  { proxy_connect_tunnels html control=on; }
        location /status   { proxy_connect_status; }
    }
}

EOF

my $hostile = q{<img src=x onerror='alert(1)'>};
$t->write_file('users', "alice:{PLAIN}secret\n$hostile:{PLAIN}secret\n");
run_quietly($t);

my $listener = listener(port(8090));
my @pairs = map { [ (pair($listener, user('alice')))[0, 1] ] } 1 .. TUNNELS;
my ($evil, $end) = pair($listener, user($hostile));
push @pairs, [ $evil, $end ];

# Traffic while the page is looked at.
my $load = fork() // die "Can't fork: $!\n";

if ($load == 0) {
	setpgrp 0, 0;
	my $noise = noise(65536);
	eval { cross(@{$pairs[0]}, $noise, $noise) while 1 };
	POSIX::_exit(0);
}

###############################################################################

my $browser = start_browser($t, $program, 'direct://');
my %seen;
my ($done) = patiently($t, sub { visit($browser, \%seen) });
end_browser($t, $browser->{pid});
kill 'KILL', $load;
waitpid $load, 0;

ok($done, 'the page is looked at');
is($seen{problem}, '', 'it has no problem');
is($seen{range}, '1 to 100 of ' . (TUNNELS + 1), 'it shows the first page');
is($seen{rows}, 100, 'with as many rows');
like($seen{cards}, qr/Tunnels that stand\s*\Q${\ (TUNNELS + 1)}\E/, 'how many stand');
like($seen{connects}, qr/established\s*1\.1\s*\Q${\ (TUNNELS + 1)}\E/, 'what became of CONNECTs');
like($seen{down}, qr/[1-9]/, 'rates, after a while');

is($seen{user}, $hostile, 'a hostile name is text');
is($seen{images}, 0, 'and makes no element');
is($seen{title}, 'CONNECT tunnels', 'and runs nothing');
is($seen{refused}, 'refused', 'nor would a script that got into the page');

is($seen{next}, '101 to 200 of ' . (TUNNELS + 1), 'the next page');
is($seen{last}, '201 to ' . (TUNNELS + 1) . ' of ' . (TUNNELS + 1), 'the last one');
ok($seen{last_disabled}, 'behind which there is none');
is($seen{filtered}, '1 to 1 of 1', 'a filter');
is($seen{unmatched}, 'none', 'that nothing passes');
is($seen{unnamed}, '', 'each field and button has a name');
is($seen{headers}, 1, 'each column has one');
is($seen{tables}, 'all', 'each table that is shown has one for who listens');
is($seen{nameless}, '', 'and so has all else that can be used or read');
is($seen{language}, 'en', 'the language is told');
is($seen{tabs}, 'zone period filter order next Close Close', 'Tab leads from one to the next, in the order of the page');
is($seen{focus}, 'seen', 'and it is seen where one is');
is($seen{kept}, 'Close', 'what the keyboard is at stays while news come');
is($seen{quiet}, 0, 'what is the same is not said again');
like($seen{slowest}, qr/\S/, 'the slowest destinations');
is($seen{dark}, 'differs', 'dark is another page');

is($seen{button}, 'closing', 'a button closes a tunnel');
is($evil->read_to_end(), '', 'which ends for the client');
is($end->read_to_end(), '', 'and the upstream');
is(wait_for_count('main', sub { $_[0]{closed}{closed_by_operator} == 1 }, port => port(8081))->{active}, TUNNELS,
	'the others stand');

$_->close() for map { @$_ } @pairs;

###############################################################################

sub visit {
	my ($browser, $seen) = @_;
	my %session = new_page($browser);
	my $see = sub { evaluate($browser, $_[0], %session) };
	my $text = sub { $see->("document.getElementById('$_[0]').innerText") };
	my $until = sub {
		my ($is) = @_;
		wait_until("\"$is\" did not become true", sub { $see->($is) }, 20);
	};
	my $press = sub {
		my ($key, $code) = @_;
		result($browser, call($browser, 'Input.dispatchKeyEvent',
			{ type => $_, key => $key, code => $key, windowsVirtualKeyCode => $code,
				$_ eq 'keyDown' && $key eq 'Enter' ? (text => "\r") : () }, %session)) for qw/ keyDown keyUp /;
	};

	result($browser, call($browser, 'Emulation.setEmulatedMedia',
		{ features => [ { name => 'prefers-color-scheme', value => $ENV{TEST_PAGE_SCHEME} // 'light' } ] }, %session));
	result($browser, call($browser, 'Page.enable', {}, %session));
	result($browser, call($browser, 'Page.navigate', { url => 'http://127.0.0.1:' . port(8081) . '/tunnels' }, %session));

	$until->("document.getElementById('tunnels') && document.getElementById('tunnels').rows.length == 100");
	$seen->{rows} = $see->("document.getElementById('tunnels').rows.length");
	$seen->{$_} = $text->($_) for qw/ range problem connects /;

	my $down = "document.querySelectorAll('#cards dd')[3].innerText";
	$until->("$down != '0 B'");
	$seen->{down} = $see->($down);
	$seen->{cards} = $text->('cards');

	$seen->{user} = $see->("document.querySelector('#tunnels tr td:nth-child(2)').textContent");
	$seen->{images} = $see->("document.images.length");
	$seen->{title} = $see->("document.title");
	$seen->{refused} = $see->("(() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
		. "document.body.append(s); return window.ran ? 'ran' : 'refused'; })()");

	$seen->{unnamed} = $see->("[...document.querySelectorAll('button, input, select')]"
		. ".filter(e => !(e.labels && e.labels.length) && !e.textContent && !e.ariaLabel).map(e => e.id).join()");
	$seen->{language} = $see->("document.documentElement.lang");
	$seen->{slowest} = $text->('slowest');
	hear($browser, $seen, %session);
	$seen->{headers} = $see->("[...document.querySelectorAll('th')].every(e => e.scope == 'col' && e.textContent) ? 1 : 0");

	if (my $file = $ENV{TEST_PAGE_SCREENSHOT}) {
		result($browser, call($browser, 'Emulation.setDeviceMetricsOverride',
			{ width => 1280, height => 1000, deviceScaleFactor => 1, mobile => \0 }, %session));
		my $shot = result($browser, call($browser, 'Page.captureScreenshot', { format => 'png' }, %session));
		open my $handle, '>:raw', $file or die "Can't write $file: $!\n";
		print $handle decode_base64($shot->{data});
		close $handle;
	}

	# What Tab comes to, from the beginning on.
	my $where = "(() => { const e = document.activeElement; return e.id || e.textContent; })()";
	$see->("document.activeElement.blur()");
	$seen->{tabs} = join ' ', map { $press->('Tab', 9); $see->($where) } 1 .. 7;
	$seen->{focus} = $see->("getComputedStyle(document.activeElement).outlineStyle") ne 'none' ? 'seen' : 'not seen';

	# News come meanwhile.
	my $tunnels = "document.querySelectorAll('#cards dd')[5].innerText";
	my $cards = $see->($tunnels);
	$see->("new MutationObserver(list => { window.said = (window.said || 0) + list.length; })"
		. ".observe(document.getElementById('range'), { childList: true })");
	$until->("$tunnels != '$cards'");
	$seen->{kept} = $see->($where);
	$see->("document.activeElement.blur()");
	$cards = $see->($tunnels);
	$until->("$tunnels != '$cards'");
	$seen->{quiet} = $see->("window.said || 0");

	my $colour = "getComputedStyle(document.body).backgroundColor";
	my @colours = map {
		result($browser, call($browser, 'Emulation.setEmulatedMedia',
			{ features => [ { name => 'prefers-color-scheme', value => $_ } ] }, %session));
		$see->($colour);
	} qw/ light dark /;
	$seen->{dark} = $colours[0] ne $colours[1] ? 'differs' : "is $colours[0]";

	# By keyboard alone.
	for my $place (qw/ next last /) {
		my $before = $text->('range');
		$see->("document.getElementById('next').focus()");
		$press->('Enter', 13);
		$until->("document.getElementById('range').innerText != '$before'");
		$seen->{$place} = $text->('range');
	}

	$seen->{last_disabled} = $see->("document.getElementById('next').disabled ? 1 : 0");

	my $filter = sub {
		my ($value, $range) = @_;
		$see->("(() => { const f = document.getElementById('filter'); f.value = '$value';"
			. "f.dispatchEvent(new Event('input')); })()");
		$until->("document.getElementById('range').innerText == '$range'");
		return $text->('range');
	};

	$seen->{unmatched} = $filter->('nothing has this', 'none');
	$seen->{filtered} = $filter->('onerror', '1 to 1 of 1');

	$see->("document.querySelector('#tunnels button').focus()");
	$press->('Enter', 13);
	my $button = "document.querySelector('#tunnels td:last-child').innerText";
	$until->("$button != 'Close'");
	$seen->{button} = $see->($button);

	return 1;
}

# What a screen reader is given.
sub hear {
	my ($browser, $seen, %session) = @_;
	result($browser, call($browser, 'Accessibility.enable', {}, %session));
	my @nodes = grep { !$_->{ignored} }
		@{result($browser, call($browser, 'Accessibility.getFullAXTree', {}, %session))->{nodes}};
	my $role = sub { $_[0]{role}{value} // '' };
	my $name = sub { $_[0]{name}{value} // '' };

	my @tables = grep { $role->($_) eq 'table' } @nodes;
	$seen->{tables} = @tables && !grep({ $name->($_) eq '' } @tables) ? 'all' : 'not all';

	my %is_named = map { $_ => 1 } qw/ button searchbox combobox meter columnheader heading /;
	$seen->{nameless} = join ' ', map { $role->($_) } grep { $is_named{$role->($_)} && $name->($_) eq '' } @nodes;
	return;
}

sub user {
	my ($name) = @_;
	return fields => [ 'Proxy-Authorization: Basic ' . encode_base64("$name:secret", '') ];
}
