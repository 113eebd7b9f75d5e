package Test::ProxyConnect::Lua;

# Owns what the tests with lua-nginx-module share: whether nginx has it, a configuration of servers that
# differ in their Lua, and what becomes of a CONNECT there.

use warnings;
use strict;

use base 'Exporter';

use Test::More ();

use Test::ProxyConnect::Client qw/ status_of body_of /;
use Test::ProxyConnect::Logs qw/ log_mark wait_for_line /;
use Test::ProxyConnect::Servers qw/ server_blocks server_port answer /;
use Test::ProxyConnect::Tunnel qw/ pair /;

our @EXPORT = qw/
	lua_or_skip write_servers answer page through logged
/;

# Skips the file where nginx doesn't know a directive of Lua, which "nginx -V" doesn't tell of a module
# that is loaded from a file. A Lua that is there and does not work is no reason to skip.
sub lua_or_skip {
	my ($t) = @_;

	Test::More::plan(skip_all => 'nginx before 1.9.2 does not say whether it has lua-nginx-module')
		unless $t->has_version('1.9.2');

	$t->write_file_expand('nginx.conf', <<'END');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    access_by_lua_block {
        ngx.exit(ngx.OK)
    }
}

END

	my $dump = $t->dump_config();

	# It leaves a file that run() waits for.
	unlink $t->testdir() . '/nginx.pid';

	Test::More::plan(skip_all => 'no lua-nginx-module in this nginx')
		if $dump =~ /unknown directive "(?:lua_package_path|access_by_lua_block)"/;

	return $t;
}

# Writes a configuration with a server for each name, which is chosen by its port: the name that a
# CONNECT gives is where it goes. The access log, line.log, ends with what Lua puts into $seen. Returns
# the ports by name.
sub write_servers {
	my ($t, $directives, %lua) = @_;

	my $servers = server_blocks(map { $_ => "set \$seen \"\";\n\n        $lua{$_}" } keys %lua);

	$t->write_file_expand('nginx.conf', <<"END");

%%TEST_GLOBALS%%

daemon off;
worker_processes 1;

events {
    worker_connections  1024;
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format  line  "\$server_name \$status|\$seen";
    access_log  %%TESTDIR%%/line.log line;

    # a request is in the log once it is answered
    lingering_close  off;

    $directives

$servers
}

END

	return map { $_ => server_port($_) } keys %lua;
}

###############################################################################
# What becomes of a CONNECT

# The status and the text of an answer. What Lua says comes in chunks.
sub page {
	my $answer = answer(@_);
	my ($body, $text) = (body_of($answer) // '', '');

	while ($body =~ s/^([0-9a-f]+)\x0d\x0a//i && hex $1) {
		$text .= substr $body, 0, hex $1, '';
		$body =~ s/^\x0d\x0a//;
	}

	return status_of($answer) . ' ' . $text =~ s/\n$//r;
}

# What the client gets of a tunnel: the header, and what an upstream echoes.
sub through {
	my ($listener, %options) = @_;
	my ($client, $upstream, $header) = pair($listener, %options);

	$client->send('question');
	$upstream->send($upstream->read_bytes(8) eq 'question' ? 'answer' : 'nonsense');
	my $answer = $client->read_bytes(6);

	$_->close() for $client, $upstream;
	return $header . $answer;
}

# The line of the access log for what the code does.
sub logged {
	my ($t, $code) = @_;
	log_mark($t, 'line.log');
	$code->();
	return wait_for_line($t, qr/^/, 'line.log');
}

1;
