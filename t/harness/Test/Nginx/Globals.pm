package Test::Nginx::Globals;

# What every configuration of a test has in common: %%TEST_GLOBALS%% and its like.

use warnings;
use strict;

use File::Basename ();
use File::Spec ();

# Modules that nginx's build can make a file of, by what "nginx -V" then says.
my @DYNAMIC = (
	[ qr/http_geoip_module=dynamic/ => 'ngx_http_geoip_module' ],
	[ qr/http_image_filter_module=dynamic/ => 'ngx_http_image_filter_module' ],
	[ qr/http_perl_module=dynamic/ => 'ngx_http_perl_module' ],
	[ qr/http_xslt_module=dynamic/ => 'ngx_http_xslt_filter_module' ],
	[ qr/--with-mail=dynamic/ => 'ngx_mail_module' ],
	[ qr/--with-stream=dynamic/ => 'ngx_stream_module' ],
	[ qr/stream_geoip_module=dynamic/ => 'ngx_stream_geoip_module' ],
);

# The files that nginx must not share with another test.
sub files {
	my ($dir) = @_;
	return "pid $dir/nginx.pid; error_log $dir/error.log debug;";
}

sub main {
	my ($nginx, $dir, $features) = @_;
	my $objs = File::Spec->rel2abs(File::Basename::dirname($nginx));
	my $modules = File::Spec->rel2abs($ENV{TEST_NGINX_MODULES} // $objs);

	my @lines = (files($dir), $ENV{TEST_NGINX_GLOBALS} // '');

	# A distribution has each in a package of its own.
	push @lines, map { "load_module $modules/$_->[1].so;" }
		grep { $features->configured_with($_->[0]) && -e "$modules/$_->[1].so" } @DYNAMIC;

	if ($features->module('perl') && $lines[1] !~ /env PERL5LIB/) {
		my $perl = "$objs/src/http/modules/perl";
		push @lines, "env PERL5LIB=$perl:$perl/blib/arch;";
	}

	return join "\n", @lines, '';
}

sub http {
	my ($dir, $features) = @_;

	my @lines = ("root $dir;", "access_log $dir/access.log;",
		"client_body_temp_path $dir/client_body_temp;");

	push @lines, map { "${_}_temp_path $dir/${_}_temp;" }
		grep { $features->module($_) } qw/ fastcgi proxy uwsgi scgi /;

	return join "\n", @lines, $ENV{TEST_NGINX_GLOBALS_HTTP} // '', '';
}

sub stream {
	return $ENV{TEST_NGINX_GLOBALS_STREAM} // '';
}

1;
