# Owns the table of docs/egress-guard.md: this module and squid, each configured to let clients get to
# example.com over TLS and nowhere else, under the attacks of t/egress_guard.t. What counts is what was
# reached.
#
# guard-table.pl PAGE

use warnings;
use strict;
use utf8;

use FindBin;
use Test::More;

use Test::Nginx;
use Test::ProxyConnect;
use Test::ProxyConnect::Attacks;
use Test::ProxyConnect::DNS qw/ serve_names /;
use Test::ProxyConnect::Hello;
use Test::ProxyConnect::Network;
use Test::ProxyConnect::Program;
use Test::ProxyConnect::World;

# The ports of the namespace are all its own.
use constant { NGINX => 3128, SQUID => 3129, NAMES => 5353 };

# What smokescreen's documentation says of each kind: it was not run.
my %smokescreen = (address => 'yes', answer => 'yes', host => 'yes', port => '–', sni => '–');

my ($page) = @ARGV;
own_network();

my $t = Test::Nginx->new()->plan(1);
my $dir = $t->testdir();

$t->write_file('nginx.conf', <<"EOF" =~ s/%%TEST_GLOBALS%%/$ENV{TEST_NGINX_GLOBALS}/r);
%%TEST_GLOBALS%%
events {
}
http {
    access_log off;
    server {
        listen    @{[ NGINX ]};
        resolver  127.0.0.1:@{[ NAMES ]};

        proxy_connect;
        proxy_connect_allow         443;
        proxy_connect_allow_host    .example.com;
        proxy_connect_deny_address  special;
        proxy_connect_verify_sni    strict;
    }
}
EOF

certificate($t, "squid");
# squid does not run as root.
chmod 0777, $dir;
chmod 0644, "$dir/squid.key";

# The same with what squid has: the networks that are not for the public by their numbers.
$t->write_file('squid.conf', <<"EOF");
http_port @{[ SQUID ]} ssl-bump tls-cert=$dir/squid.crt tls-key=$dir/squid.key generate-host-certificates=off
dns_nameservers 127.0.0.1
hosts_file none
cache deny all
access_log none
cache_log $dir/squid.log
pid_filename $dir/squid.pid
cache_effective_user proxy
shutdown_lifetime 0 seconds

acl inside dst 0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24
acl inside dst 192.0.2.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/3
acl inside dst ::/127 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/23 2001:db8::/32 2002::/16
acl inside dst fc00::/7 fe80::/10 ff00::/8
acl names dstdomain .example.com
acl sni ssl::server_name .example.com
acl tls_port port 443
acl step1 at_step SslBump1

http_access deny !CONNECT
http_access deny !tls_port
http_access deny to_localhost
http_access deny inside
http_access allow names
http_access deny all

ssl_bump peek step1
ssl_bump splice sni
ssl_bump terminate all
EOF

serve_names($t, $_, world_names()) for NAMES, 53;
make_world($t, addresses => [ ADDRESSES ], ports => WORLD_PORTS, local => LOCAL_PORTS);
$t->run();

my $squid = start_program($t, [ installed('squid'), '-N', '-n', "guard$$", '-f', "$dir/squid.conf" ], 'squid.out');
wait_until('squid does not listen', sub { eval { client(port => SQUID)->close(); 1 } });

my @rows = map { row($t, $_) } attacks();
my ($ours, $theirs) = map { way($t, $_) } NGINX, SQUID;
is("$ours $theirs", 'yes yes', 'what is allowed gets through');
end_program($squid);

write_table($page, "With a name that is allowed a client gets through: this module $ours, squid $theirs.\n",
	table(@rows));

###############################################################################

sub row {
	my ($t, $attack) = @_;
	my ($kind, $name, $authority) = @$attack;

	print STDERR "$kind: $name\n";
	return [ $kind, $name, "`$authority`",
		(map { verdict(attack($t, $_, $attack)) } NGINX, SQUID), $smokescreen{$kind} ];
}

sub verdict {
	my @reached = map { join ' ', (split)[0 .. 2] } @_;
	return @reached ? "**reached $reached[0]**" : 'yes';
}

# Whether what is allowed works: a guard that refuses all is none.
sub way {
	my ($t, $port) = @_;
	my @reached = attack($t, $port, [ 'sni', '', 'www.example.com:443' ]);
	return @reached ? 'yes' : 'no';
}

sub table {
	my @rows = @_;
	my @refused = map { my $column = $_; scalar grep { $_->[$column] eq 'yes' } @rows } 3, 4;

	return join "\n", '| kind | attack | CONNECT | this module | squid | smokescreen, by its documentation |',
		'|---|---|---|---|---|---|', (map { '| ' . join(' | ', @$_) . ' |' } @rows),
		"| | refused, of " . @rows . " | | $refused[0] | $refused[1] | |", '';
}

# The lines between the markers of the page become the table.
sub write_table {
	my ($page, @text) = @_;
	my $path = "$FindBin::Bin/../$page";

	open my $file, '<:utf8', $path or die "Can't read $page: $!\n";
	my $old = do { local $/; <$file> };
	my $new = $old =~ s/(<!-- table: begin -->\n).*(<!-- table: end -->)/$1 . join("\n", '', @text, '') . $2/ser;

	open $file, '>:utf8', $path or die "Can't write $page: $!\n";
	print $file $new;
	close $file or die "Can't write $page: $!\n";
}
