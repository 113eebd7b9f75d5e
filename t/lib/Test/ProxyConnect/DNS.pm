package Test::ProxyConnect::DNS;

# A name server with the names that a test gives it. Every query is told in the file dns.log of
# the test's folder, as "TYPE NAME".

use warnings;
use strict;

use base 'Exporter';

use IO::Handle;
use Net::DNS::Nameserver;
use Net::DNS::RR;
use Socket qw/ IPPROTO_UDP /;
use Time::HiRes ();

use Test::Nginx qw/ port /;
use Test::ProxyConnect::Logs qw/ log_lines /;

our @EXPORT_OK = qw/ name_server serve_names no_name_server queries has_ipv6 asks_for_ipv6 ipv4_only /;

use constant NOTES => 'dns.log';

# How many addresses go into an answer over UDP: it has 512 bytes (RFC 1035, section 4.2.1).
use constant UDP_RECORDS => 28;

# Starts a name server at port($number, udp => 1). A name is one of
#
#   name => '127.0.0.1'                       an address, or
#   name => [ '127.0.0.1', '::1' ]            several, in this order
#   name => { cname => 'other' }              another name for one of them
#   name => 'NXDOMAIN', 'SERVFAIL', 'REFUSED' a failure
#   name => 'drop'                            no answer at all
#   name => { addrs => ..., ttl => 5, delay => 0.2 }
#   name => { turns => [ ..., ... ], ttl => 0 }  something else for each query, the last for good
#
# A name that isn't there is an NXDOMAIN.
sub name_server {
	my ($t, $number, %names) = @_;

	# The harness holds a port with a TCP socket on it; the name server wants that for itself.
	my $port = port($number, udp => 1);
	port($number, udp => 1, socket => 1)->close();

	return serve_names($t, $port, %names);
}

# The same at a port that the harness does not know: in a network of the test's own.
sub serve_names {
	my ($t, $port, %names) = @_;

	my $notes = $t->testdir() . '/' . NOTES;
	my $server = Net::DNS::Nameserver->new(
		LocalAddr => '127.0.0.1',
		LocalPort => $port,
		ReplyHandler => sub {
			my ($name, undef, $type, undef, undef, $connection) = @_;
			note($notes, "$type $name");
			return shortened($connection, answer(\%names, $name, $type));
		},
	) or die "Can't start a name server\n";

	$t->run_daemon(sub { $server->main_loop() });

	return $port;
}

# What keeps the name server of the system away in a configuration without "resolver": Tengine asks that
# of /etc/resolv.conf.
sub no_name_server {
	my ($t) = @_;
	return $t->has_module('Tengine') ? 'resolver_file /dev/null;' : '';
}

# Whether nginx knows IPv6: before 1.11.5 only where it was configured with it.
sub has_ipv6 {
	my ($t) = @_;
	return $t->has_version('1.11.5') || $t->has_module('ipv6');
}

# Whether its resolver asks for IPv6 addresses too.
sub asks_for_ipv6 {
	my ($t) = @_;
	return $t->has_version('1.5.8') && has_ipv6($t);
}

# A configuration with "ipv6=off", which an nginx that asks for nothing else does not know.
sub ipv4_only {
	my ($t, $conf) = @_;
	return asks_for_ipv6($t) ? $conf : $conf =~ s/ ipv6=off//gr;
}

# The queries so far that match, as "TYPE NAME".
sub queries {
	my ($t, $pattern) = @_;
	return log_lines($t, $pattern, NOTES);
}

sub note {
	my ($file, $line) = @_;
	open my $notes, '>>', $file or die "Can't write $file: $!\n";
	$notes->syswrite("$line\n");
}

# No answer at all is an undefined rcode.
sub answer {
	my ($names, $name, $type) = @_;
	my $entry = $names->{lc $name} // 'NXDOMAIN';

	return undef if $entry eq 'drop';
	return ($entry, [], [], []) if $entry =~ /^[A-Z]+$/;

	Time::HiRes::sleep($entry->{delay})
		if ref $entry eq 'HASH' && $entry->{delay};

	return ('NOERROR', [ records($names, lc $name, $type) ], [], [],
		{ aa => 1, ra => 1 });
}

# An answer that is too long for UDP says so, and is asked for over TCP.
sub shortened {
	my ($connection, $rcode, $records, @rest) = @_;
	my $is_udp = ($connection->{protocol} // 0) == IPPROTO_UDP;

	return ($rcode, $records, @rest) unless $is_udp && @{$records // []} > UDP_RECORDS;

	$rest[2] = { %{$rest[2]}, tc => 1 };
	return ($rcode, [ @$records[0 .. UDP_RECORDS - 1] ], @rest);
}

sub records {
	my ($names, $name, $type) = @_;
	my $entry = $names->{$name} // return;
	my %options = ref $entry eq 'HASH' ? %$entry : (addrs => $entry);
	my $ttl = $options{ttl} // 300;

	if (my $other = $options{cname}) {
		return (record($name, $ttl, 'CNAME', $other),
			records($names, $other, $type));
	}

	if (my $turns = $options{turns}) {
		$options{addrs} = @$turns > 1 ? shift @$turns : $turns->[0];
	}

	my @addrs = ref $options{addrs} ? @{$options{addrs}} : $options{addrs};
	return map { record($name, $ttl, $type, $_) }
		grep { $type eq (/:/ ? 'AAAA' : 'A') } @addrs;
}

sub record {
	my ($name, $ttl, $type, $value) = @_;
	return Net::DNS::RR->new("$name. $ttl IN $type $value"
		. ($type eq 'CNAME' ? '.' : ''));
}

1;
