#!/bin/bash
# Owns "make build": nginx with the module, below build/.

. "$(dirname "$0")/common.sh"

require_cargo
script/packages.sh build

LINK=${LINK:-dynamic}
core=$(core_of "$NGINX_VERSION")

script/nginx-build.sh "$NGINX_VERSION" run "$LINK" "$core"

objs=$BUILD/nginx-$NGINX_VERSION-run-$LINK-$core/objs

step "Built"
note "$objs/nginx"

if [ "$LINK" = dynamic ]; then
    note "$objs/$MODULE.so"
fi
