#!/bin/bash
# Owns the way to the distribution's own nginx: its tree, configured as the distribution did it, from
# the package nginx-dev, and the module built for it.
#
# debian-nginx.sh    prints the path of the module; all else goes to standard error

. "$(dirname "$0")/common.sh"

exec 3>&1 >&2

nginx=/usr/sbin/nginx
shipped=/usr/share/nginx/src

need_for_debian_nginx() {
    need nginx-dev test -f $shipped/conf_flags
    need dpkg-dev has_command dpkg-buildflags
}

buildflags() {
    local name

    for name in "$@"; do
        dpkg-buildflags --get "$name" | tr '\n' ' '
    done
}

# Sets flags to what the distribution's nginx is configured with.
find_flags() {
    NGX_CONF_FLAGS=()

    # shellcheck disable=SC1091
    . $shipped/conf_flags

    [ ${#NGX_CONF_FLAGS[@]} -gt 0 ] || die "$shipped/conf_flags has no flags of nginx's configure"

    flags=(--with-cc-opt="$(buildflags CFLAGS CPPFLAGS)-fPIC"
           --with-ld-opt="$(buildflags LDFLAGS)-fPIC"
           "${NGX_CONF_FLAGS[@]}")
}

# All that the configured tree depends on.
key() {
    echo "$tree"
    echo "${flags[@]}"
    cc --version
}

make_tree() {
    rm -rf "$tree"
    mkdir -p "$tree"

    step "Configuring nginx $version as the distribution did"
    cp -R $shipped "$tree/src"

    (cd "$tree/src" && run_logged debian-nginx-configure \
        ./configure "${flags[@]}" --builddir="$tree/objs")

    key > "$tree/configured-from"
}

# The module shall not carry the folders of the machine that built it.
build_module() {
    step "Building the module for nginx $version"

    export NGINX_SOURCE_DIR=$tree/src NGINX_BUILD_DIR=$tree/objs
    export CFLAGS RUSTFLAGS
    CFLAGS=$(buildflags CFLAGS CPPFLAGS)
    RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$ROOT=."
    RUSTFLAGS+=" --remap-path-prefix=${CARGO_HOME:-${HOME:-}/.cargo}=cargo"

    run_logged debian-nginx-cargo cargo build --locked --release --target-dir "$tree/target"
}

# The distribution's binary takes the module.
load_module() {
    local conf=$tree/load.conf

    cat > "$conf" <<CONF
load_module $module;
error_log stderr;
pid $tree/load.pid;
events {
}
http {
    access_log off;
    client_body_temp_path $tree/temp;
    proxy_temp_path $tree/temp;
    fastcgi_temp_path $tree/temp;
    uwsgi_temp_path $tree/temp;
    scgi_temp_path $tree/temp;
    server {
        listen unix:$tree/load.sock;
        proxy_connect;
    }
}
CONF

    $nginx -t -q -c "$conf" -e stderr || die "$nginx does not take $module, for the reason it gives above"
}

require_cargo

# shellcheck source=script/packages.sh
. script/packages.sh build debian_nginx

version=$(dpkg-query -W -f='${Version}' nginx-dev)
tree=$BUILD/debian-nginx-${version//:/%3a}
module=$tree/target/release/$MODULE.so

find_flags

if ! [ -f "$tree/configured-from" ] || ! key | cmp -s - "$tree/configured-from"; then
    make_tree
fi

build_module
load_module

echo "$module" >&3
