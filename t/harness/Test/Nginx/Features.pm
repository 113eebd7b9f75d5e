package Test::Nginx::Features;

# What a binary was built with, and what this machine has for testing it.

use warnings;
use strict;

# Modules that are there unless configure was told to leave them out.
my %WITHOUT = (
	(map { $_ => "http_${_}_module" } qw/
		access auth_basic autoindex browser charset empty_gif fastcgi geo grpc
		gzip limit_conn limit_req map memcached mirror proxy referer rewrite
		scgi split_clients ssi tunnel upstream_hash upstream_ip_hash
		upstream_keepalive upstream_least_conn upstream_least_time
		upstream_random upstream_sticky upstream_zone userid uwsgi
	/),
	(map { $_ => "mail_${_}_module" } qw/ imap pop3 smtp /),
	(map { $_ => "${_}_module" } qw/
		stream_access stream_geo stream_limit_conn stream_map stream_pass
		stream_return stream_set stream_split_clients stream_upstream_hash
		stream_upstream_least_conn stream_upstream_least_time
		stream_upstream_random stream_upstream_zone
	/),
	cache => 'http-cache',
	http => 'http',
	pcre => 'pcre',
);

# Modules that configure has to be asked for.
my %WITH = (
	(map { $_ => "http_${_}_module" } qw/ auth_request flv perl realip sub /),
	mail => 'mail',
	stream => 'stream',
	stream_ssl => 'stream_ssl_module',
);

# Modules whose files a test's globals may load.
my %FILE = (
	http_geoip => 'ngx_http_geoip_module',
	image_filter => 'ngx_http_image_filter_module',
	mail => 'ngx_mail_module',
	perl => 'ngx_http_perl_module',
	stream => 'ngx_stream_module',
	stream_geoip => 'ngx_stream_geoip_module',
	xslt => 'ngx_http_xslt_filter_module',
);

# What IO::Socket::SSL can do.
my %SOCKET_SSL = (
	socket_ssl => sub { 1 },
	socket_ssl_alpn => sub { IO::Socket::SSL->can_alpn() },
	socket_ssl_reused => sub { IO::Socket::SSL->can('get_session_reused') },
	socket_ssl_sni => sub { IO::Socket::SSL->can_client_sni() },
	socket_ssl_sslversion => sub { IO::Socket::SSL->can('get_sslversion') },
);

sub new {
	my ($class, $nginx) = @_;
	return bless { nginx => $nginx }, $class;
}

# What "nginx -V" says.
sub description {
	my ($self) = @_;
	return $self->{description} //= do {
		open my $output, '-|', 'sh', '-c', 'exec "$0" -V 2>&1', $self->{nginx}
			or die "Can't run $self->{nginx}: $!\n";
		local $/;
		<$output> // '';
	};
}

sub configured_with {
	my ($self, $pattern) = @_;
	return $self->description() =~ $pattern ? 1 : 0;
}

# A name that no table knows is looked for in what "nginx -V" says.
sub module {
	my ($self, $name) = @_;

	return 1 if $self->is_loaded($name);
	return $self->configured_with(qr/TLS SNI support enabled/) if $name eq 'sni';

	if (my $option = $WITHOUT{$name}) {
		return !$self->configured_with(qr/--without-\Q$option\E(?!\S)/);
	}

	if (my $option = $WITH{$name}) {
		return $self->configured_with(qr/--with-\Q$option\E(?:=dynamic)?(?!\S)/);
	}

	return $self->configured_with(qr/$name/);
}

sub is_loaded {
	my ($self, $name) = @_;
	my $file = $FILE{$name} or return 0;
	my $globals = $ENV{TEST_NGINX_GLOBALS} // '';
	return $globals =~ /load_module\s[^;]*\b\Q$file\E[-\w]*\.so\s*;/;
}

sub feature {
	my ($self, $name) = @_;

	return 1 if $name =~ /^(?:symlink|unix|udp)$/;
	return $self->library($1, $2) if $name =~ /^(openssl|libressl):(\S+)$/;

	if (my $ability = $SOCKET_SSL{$name}) {
		return eval { require IO::Socket::SSL; $ability->() } ? 1 : 0;
	}

	if ($name eq 'cryptx') {
		return eval { require Crypt::Misc; $Crypt::Misc::VERSION >= 0.067 };
	}

	return 0;
}

sub library {
	my ($self, $name, $version) = @_;
	return 0 unless $self->description() =~ /with $name ([0-9.]+[a-z]*)/i;
	return is_at_least($1, $version);
}

sub version {
	my ($self, $version) = @_;

	# OpenResty has its own name before the number, and so has Tengine, some with nginx's behind it.
	my $told = $self->description();
	$told =~ m!\(nginx/([0-9.]+)\)! || $told =~ m!nginx version: \S+/([0-9.]+)!
		or die "No version in what $self->{nginx} -V says\n";
	return is_at_least($1, $version);
}

# Compares versions part by part: "1.0.2k" is after "1.0.2".
sub is_at_least {
	my ($have, $need) = map { [ map { /^\d/ ? $_ : ord } /\d+|[a-z]/g ] } @_;

	for my $part (@$need) {
		my $own = shift @$have // 0;
		return $own > $part if $own != $part;
	}

	return 1;
}

1;
