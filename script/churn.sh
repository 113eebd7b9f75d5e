#!/bin/bash
# Owns "make churn": that counters and list are right after tunnels by the ten thousand, killed workers and reloads.

. "$(dirname "$0")/common.sh"

LINK=dynamic
core=$(core_of "$NGINX_VERSION")
tree=$BUILD/nginx-$NGINX_VERSION-test-$LINK-$core

script/packages.sh build
script/nginx-build.sh "$NGINX_VERSION" test "$LINK" "$core"

step "nginx $NGINX_VERSION, $core core, 8 workers"
exec perl script/churn.pl "$tree/objs/nginx" "$tree/objs/$MODULE.so" "$BUILD/churn" "${CHURN_SECONDS:-60}"
