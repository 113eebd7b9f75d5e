package Test::ProxyConnect;

# Everything that the tests of this module share, under one name. Each part lies in a file of its
# own beside this one:
#
#   Wait      waiting with a deadline
#   Socket    one end of a connection: bytes, end of file, reset
#   Client    connections to nginx, CONNECT requests, tunnels
#   Upstream  the servers that tunnels lead to
#   DNS       a name server
#   Logs      lines of the logs, as they appear
#   Through   tunnels through a parent, for TEST_NGINX_PARENT
#   OverHTTP2 tunnels over HTTP/2, for TEST_NGINX_HTTP2
#   TLS       whether nginx has it
#   Way       whether CONNECT has a rewrite phase
#   Worker    nginx's processes, their descriptors
#
# A test must not use its Test::Nginx object in a named sub, only pass it there: the object does
# its last checks when it goes out of scope, and a named sub would keep it.

use warnings;
use strict;

use base 'Exporter';

use Test::ProxyConnect::Client qw/
	client tunnel connect_request exchange header_of status_of body_of certificate
/;
use Test::ProxyConnect::DNS qw/
	name_server no_name_server queries has_ipv6 asks_for_ipv6 ipv4_only
/;
use Test::ProxyConnect::Logs qw/
	log_lines wait_for_lines wait_for_line access_lines debug_lines pool_blocks log_mark
/;
use Test::ProxyConnect::OverHTTP2 qw/ pass_over_http2 /;
use Test::ProxyConnect::Through qw/ passes_again /;
use Test::ProxyConnect::TLS qw/ has_tls with_tls NO_TLS /;
use Test::ProxyConnect::Upstream qw/
	upstream full_backlog knocks upstream_lines wait_for_upstream
	echo discard source greet silent answer_at_eof half_close_after
	close_after reset_after reset_at_once pattern
/;
use Test::ProxyConnect::Wait qw/ wait_until SLOWNESS SHARE /;
use Test::ProxyConnect::Way qw/ runs_rewrite NO_REWRITE /;
use Test::ProxyConnect::Worker qw/
	run_quietly master_pid worker_pids worker_pid wait_for_workers fds pipes sockets steady_fds
	settled_fds size_of limit renew
/;

# The kind of the parent that all tunnels go through, if they do.
use constant THROUGH => $ENV{TEST_NGINX_PARENT} // '';

# Whether all tunnels are streams of HTTP/2.
use constant OVER_HTTP2 => $ENV{TEST_NGINX_HTTP2} // '';

# The version that nginx says of a CONNECT, if the test itself says HTTP/1.1.
use constant PROTOCOL => OVER_HTTP2 ? 'HTTP/2.0' : 'HTTP/1.1';

our @EXPORT = qw/
	THROUGH OVER_HTTP2 PROTOCOL passes_again pass_over_http2
	client tunnel connect_request exchange header_of status_of body_of certificate
	name_server no_name_server queries has_ipv6 asks_for_ipv6 ipv4_only
	log_lines wait_for_lines wait_for_line access_lines debug_lines pool_blocks log_mark
	upstream full_backlog knocks upstream_lines wait_for_upstream
	echo discard source greet silent answer_at_eof half_close_after
	close_after reset_after reset_at_once pattern
	has_tls with_tls NO_TLS
	wait_until SLOWNESS SHARE runs_rewrite NO_REWRITE
	run_quietly master_pid worker_pids worker_pid wait_for_workers fds pipes sockets steady_fds
	settled_fds size_of limit renew
/;

1;
