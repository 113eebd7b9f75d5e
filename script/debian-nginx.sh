#!/bin/bash
# Owns the way to the distribution's own nginx: its tree, configured as the distribution did it, from
# the package nginx-dev, or in Debian 11 from nginx's source package, and the module built for it.
#
# debian-nginx.sh    prints the path of the module; all else goes to standard error

. "$(dirname "$0")/common.sh"

exec 3>&1 >&2

nginx=/usr/sbin/nginx
shipped=/usr/share/nginx/src

need_for_debian_nginx() {
    if has_nginx_dev; then
        need nginx-dev test -f $shipped/conf_flags
    else
        need nginx test -x $nginx
        need libpcre3-dev has_header pcre.h
    fi

    need dpkg-dev has_command dpkg-buildflags
}

# Debian 11 has nothing to build modules with.
has_nginx_dev() {
    ! grep -q '^VERSION_CODENAME=bullseye$' /etc/os-release
}

buildflags() {
    local name

    for name in "$@"; do
        dpkg-buildflags --get "$name" | tr '\n' ' '
    done
}

# Sets flags to what the distribution's nginx is configured with.
find_flags() {
    if has_nginx_dev; then
        find_shipped_flags
    else
        find_own_flags
    fi
}

# What the binary says of itself, but the modules that it loads: those take libraries of their own.
find_own_flags() {
    local flag arguments=()

    eval "arguments=($($nginx -V 2>&1 | sed -n 's/^configure arguments: //p'))"
    flags=()

    for flag in "${arguments[@]}"; do
        case $flag in
            --add-*module=* | --with-*=dynamic | --build=*) ;;
            *) flags+=("$flag") ;;
        esac
    done

    [ ${#flags[@]} -gt 0 ] || die "$nginx -V has no flags of nginx's configure"
}

find_shipped_flags() {
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

# Without a change to the lists of packages that this machine has. Not every update's source can be had: all have the
# same nginx, with other corrections in it, and the module takes but the headers.
unpack_source_package() {
    local sources=$tree/sources.list options candidate

    sed -n 's/^deb /deb-src /p' /etc/apt/sources.list > "$sources"
    mkdir -p "$tree/lists/partial"
    options=(-o "Dir::Etc::SourceList=$sources" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$tree/lists" -o APT::Sandbox::User=root)

    run_logged debian-nginx-update apt-get -q "${options[@]}" update

    for candidate in $(apt-cache "${options[@]}" showsrc nginx | sed -n 's/^Version: //p' | sort -r -V); do
        # What nginx's version is not the same in is none.
        [ "${candidate%%-*}" = "${version%%-*}" ] || continue

        if (cd "$tree" && apt-get -q "${options[@]}" source "nginx=$candidate") > "$LOGS/debian-nginx-source.log" 2>&1 </dev/null; then
            [ "$candidate" = "$version" ] || note "the source of $version is not to be had: that of $candidate, without its last corrections"
            mv "$tree"/nginx-*/ "$tree/src"
            return 0
        fi
    done

    die "apt-get can't get the source of nginx ${version%%-*}; see $LOGS/debian-nginx-source.log"
}

make_tree() {
    rm -rf "$tree"
    mkdir -p "$tree"

    step "Configuring nginx $version as the distribution did"
    if has_nginx_dev; then
        cp -R $shipped "$tree/src"
    else
        unpack_source_package
    fi

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

    # shellcheck disable=SC2046
    $nginx -t -q -c "$conf" $(early_log $nginx) || die "$nginx does not take $module, for the reason it gives above"
}

require_cargo

# shellcheck source=script/packages.sh
. script/packages.sh build debian_nginx

if has_nginx_dev; then
    version=$(dpkg-query -W -f='${Version}' nginx-dev)
else
    version=$(dpkg-query -W -f='${source:Version}' nginx-common)
fi
tree=$BUILD/debian-nginx-${version//:/%3a}
module=$tree/target/release/$MODULE.so

find_flags

if ! [ -f "$tree/configured-from" ] || ! key | cmp -s - "$tree/configured-from"; then
    make_tree
fi

build_module
load_module

echo "$module" >&3
