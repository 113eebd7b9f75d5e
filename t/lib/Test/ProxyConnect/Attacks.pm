package Test::ProxyConnect::Attacks;

# Owns attacks on a proxy that guards a network: forty ways to a place where its clients must not get. The
# same are tried on others, see script/guard-table.sh.
#
# The world that they take place in: example.com is what the clients may reach, at 93.184.215.14 and by TLS
# at port 443; everything else is not for them.

use warnings;
use strict;

use base 'Exporter';

use MIME::Base64 qw/ encode_base64 /;

use Test::ProxyConnect::Client qw/ client connect_request status_of /;
use Test::ProxyConnect::Hello;
use Test::ProxyConnect::World;

our @EXPORT = qw/ attacks attack world_names ADDRESSES WORLD_PORTS LOCAL_PORTS /;

use constant GOOD => '93.184.215.14';
use constant OTHER => '151.101.1.1';

# What is there beside the good one.
use constant ADDRESSES => (GOOD, OTHER, '10.0.0.5', '172.16.0.5', '192.168.0.5', '100.64.0.5',
	'169.254.169.254', '198.18.0.5', '2606:2800:21f::1', 'fd00:ec2::254', '64:ff9b::a9fe:a9fe',
	'2002:a9fe:a9fe::1');

use constant WORLD_PORTS => [ 22, 25, 80, 443 ];
use constant LOCAL_PORTS => [ 443, 8000 ];

# What the name server says, for name_server().
sub world_names {
	return (
		'example.com' => GOOD,
		'www.example.com' => GOOD,
		'other.net' => OTHER,
		'example.com.other.net' => OTHER,
		'notexample.com' => OTHER,
		'inside.example.com' => '10.0.0.5',
		'metadata.example.com' => '169.254.169.254',
		'self.example.com' => '127.0.0.1',
		'mapped.example.com' => '::ffff:10.0.0.5',
		'alias.example.com' => { cname => 'inside.example.com' },
		'mixed.example.com' => [ GOOD, '10.0.0.5', '127.0.0.1' ],
		'rebinding.example.com' => { turns => [ GOOD, '10.0.0.5' ], ttl => 0 },
	);
}

# Each attack: what kind it is, its name, the authority, and options:
#
#   fields     lines of the header, in place of the good credentials
#   hello      what a client sends once it has its tunnel, a ClientHello for the good name unless told
#   allows     an address that may be reached
#   first      a CONNECT before it that may be answered with a tunnel
sub attacks {
	my $split = hello(name => 'other.net', record => 1);

	return (
		[ address => 'loopback', '127.0.0.1:443' ],
		[ address => 'loopback, another', '127.8.8.8:443' ],
		[ address => 'loopback, short', '127.1:443' ],
		[ address => 'loopback, one number', '2130706433:443' ],
		[ address => 'loopback, hexadecimal', '0x7f000001:443' ],
		[ address => 'loopback, octal', '0177.0.0.1:443' ],
		[ address => 'loopback by 0.0.0.0', '0.0.0.0:443' ],
		[ address => 'loopback by [::]', '[::]:443' ],
		[ address => 'loopback, IPv6', '[::1]:443' ],
		[ address => 'loopback, mapped', '[::ffff:127.0.0.1]:443' ],
		[ address => 'loopback, mapped, hexadecimal', '[::ffff:7f00:1]:443' ],
		[ address => "the proxy's own address", '198.51.100.1:443' ],
		[ address => 'metadata service', '169.254.169.254:443' ],
		[ address => 'metadata service, mapped', '[::ffff:169.254.169.254]:443' ],
		[ address => 'metadata service, NAT64', '[64:ff9b::a9fe:a9fe]:443' ],
		[ address => 'metadata service, 6to4', '[2002:a9fe:a9fe::1]:443' ],
		[ address => 'metadata service, IPv6', '[fd00:ec2::254]:443' ],
		[ address => 'private, 10/8', '10.0.0.5:443' ],
		[ address => 'private, 172.16/12', '172.16.0.5:443' ],
		[ address => 'private, 192.168/16', '192.168.0.5:443' ],
		[ address => 'shared, 100.64/10', '100.64.0.5:443' ],
		[ address => 'benchmarking, 198.18/15', '198.18.0.5:443' ],

		[ answer => 'a name for a private address', 'inside.example.com:443' ],
		[ answer => 'a name for the metadata service', 'metadata.example.com:443' ],
		[ answer => 'a name for loopback', 'self.example.com:443' ],
		[ answer => 'a name for a mapped address', 'mapped.example.com:443' ],
		[ answer => 'an alias for a private address', 'alias.example.com:443' ],
		[ answer => 'an answer with good and bad', 'mixed.example.com:443', allows => GOOD ],
		[ answer => 'an answer that changes', 'rebinding.example.com:443', first => 1, allows => GOOD ],

		[ host => 'a name that is not listed', 'other.net:443' ],
		[ host => 'the same in capitals', 'OTHER.Net:443' ],
		[ host => 'the same with a dot at its end', 'other.net.:443' ],
		[ host => 'a listed name in front of it', 'example.com.other.net:443' ],
		[ host => 'a name that ends like a listed one', 'notexample.com:443' ],
		[ host => 'a public address in place of a name', OTHER . ':443' ],

		[ port => 'a port that is not allowed', 'example.com:25' ],
		[ port => 'the same with zeros', 'example.com:0022' ],

		[ sni => 'TLS for another name', 'example.com:443', hello => hello(name => 'other.net') ],
		[ sni => 'the same in records of one byte', 'example.com:443', hello => $split ],
		[ sni => 'no TLS', 'example.com:443', hello => "SSH-2.0-OpenSSH\x0d\x0a" ],
	);
}

# Tries an attack at a port. What it reached that it must not have, a line each.
sub attack {
	my ($t, $port, $attack, @fields) = @_;
	my ($kind, undef, $authority, %options) = @$attack;

	talk($port, $authority, hello(name => 'example.com'), @fields) if $options{first};
	mark_world($t);
	talk($port, $authority, $options{hello} // hello(name => $authority =~ s/\.?:\d+$//r), @fields);

	my @reached = reached($t);
	@reached = grep { / got / } @reached if $kind eq 'sni';
	@reached = grep { !/^world \Q$options{allows}\E / } @reached if $options{allows};
	return @reached;
}

# A CONNECT, and what follows where there is a tunnel, until it is over or something came back.
sub talk {
	my ($port, $authority, $hello, @fields) = @_;
	my $client = client(port => $port);

	$client->send(connect_request($authority, @fields));
	my $status = status_of($client->read_header());

	# The server of the world sends back what it gets.
	if ($status eq 200) {
		eval { $client->send($hello) };
		eval { $client->read_bytes(1) };
	}

	$client->close();
	return $status;
}

1;
