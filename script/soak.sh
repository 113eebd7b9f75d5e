#!/bin/bash
# Owns "make soak": that a worker's memory does not grow with the requests that it served.

. "$(dirname "$0")/common.sh"

LINK=dynamic
core=$(core_of "$NGINX_VERSION")
tree=$BUILD/nginx-$NGINX_VERSION-test-$LINK-$core

script/packages.sh build
script/nginx-build.sh "$NGINX_VERSION" test "$LINK" "$core"

step "nginx $NGINX_VERSION, $core core, one worker"
exec perl script/soak.pl "$tree/objs/nginx" "$tree/objs/$MODULE.so" "$BUILD/soak" "${COUNT:-100000}"
