#!/bin/bash
# Owns "make guard-table": has this module and squid attacked alike, and writes what each refused into
# docs/egress-guard.md.

. "$(dirname "$0")/common.sh"

# squid with OpenSSL can look at SNI, as Debian's other one can't.
need_for_guard() {
    need squid-openssl has_squid_with_openssl
    need iproute2 has_command ip
}

has_squid_with_openssl() {
    has_server squid && [[ $(PATH=$PATH:/usr/sbin squid -v) == *--with-openssl* ]]
}

is_root || die "the attacks need network namespaces of their own: run it as root"

# shellcheck source=script/packages.sh
. script/packages.sh build test guard

core=$(core_of "$NGINX_VERSION")
script/nginx-build.sh "$NGINX_VERSION" test dynamic "$core"
objs=$BUILD/nginx-$NGINX_VERSION-test-dynamic-$core/objs

step "Attacks"
TEST_NGINX_BINARY=$objs/nginx TEST_NGINX_GLOBALS="load_module $objs/$MODULE.so; user root;" \
    perl -I t/harness -I t/lib script/guard-table.pl docs/egress-guard.md

step "docs/egress-guard.md has the table"
