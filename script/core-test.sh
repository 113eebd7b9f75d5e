#!/bin/bash
# Owns the proof that a module refuses a core that it was not built for, where nginx's own signature
# can't tell: a patched and an unpatched nginx of one version. And that each takes its own.

. "$(dirname "$0")/common.sh"

patched=$BUILD/nginx-$NGINX_VERSION-test-dynamic-patched/objs
stock=$BUILD/nginx-$NGINX_VERSION-test-dynamic-stock/objs
conf=$BUILD/core-test.conf
log=$LOGS/core-test.log

[ "$(CORE='' core_of "$NGINX_VERSION")" = patched ] \
    || die "the patch is not for nginx $NGINX_VERSION: there is but one core"

# try NGINX MODULE: has nginx test a configuration with the module
try() {
    cat > "$conf" <<END
load_module $2/$MODULE.so;
events {
}
http {
    access_log off;
    server {
        listen unix:$BUILD/core-test.sock;
        proxy_connect;
    }
}
END

    mkdir -p "${1%/objs}/prefix/logs"
    # shellcheck disable=SC2046
    "$1/nginx" -t -c "$conf" $(early_log "$1/nginx") > "$log" 2>&1
}

takes() {
    step "$1"
    try "$2" "$3" || {
        cat "$log"
        die "nginx refuses the module that was built for it"
    }
}

refuses() {
    step "$1"

    if try "$2" "$3"; then
        die "nginx takes a module that was built for another core"
    fi

    grep "\[emerg\] .*$4" "$log" || {
        cat "$log"
        die "nginx does not say \"$4\""
    }
}

script/packages.sh build
script/nginx-build.sh "$NGINX_VERSION" test dynamic patched
script/nginx-build.sh "$NGINX_VERSION" test dynamic stock

takes "Patched nginx, its own module" "$patched" "$patched"
takes "Stock nginx, its own module" "$stock" "$stock"
refuses "Stock nginx, the module of the patched one" "$stock" "$patched" \
    "$MODULE was built for an nginx whose source is patched for CONNECT"
refuses "Patched nginx, the module of the stock one" "$patched" "$stock" \
    "$MODULE was built for an nginx as released"
