#!/bin/bash
# Owns "make rpm-test": the packages for the nginx of nginx.org and of RHEL are made, inspected, and installed into
# an empty root beside a package that says it is such an nginx; an nginx of that version takes what is installed.
# The database of packages of this machine is not touched.
#
# rpm-test.sh    for the distribution's nginx, which is quick; with NGINX_VERSION=VERSION one from source;
#                with MODULE_FILE=FILE.so as for rpm.sh, and NGINX_BINARY=FILE, an nginx of that version to try it with

# What the caller asks for, before common.sh fills it in.
asked_for=${NGINX_VERSION:-}${MODULE_FILE:-}

. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/checks.sh"

scratch=$BUILD/rpm-test
root=$scratch/root
so=/usr/lib64/nginx/modules/$MODULE.so
snippet=/usr/share/nginx/modules/mod-http-proxy-connect.conf

need_for_rpm_test() {
    need rpm has_command rpmbuild
    need rpmlint has_command rpmlint
    need busybox-static is_static_busybox
    need curl has_command curl
    [ -n "$asked_for" ] || need nginx has_server nginx
}

is_static_busybox() {
    has_command busybox && ! ldd "$(command -v busybox)" >/dev/null 2>&1
}

in_root() {
    rpm --root "$root" --dbpath /var/lib/rpm "$@"
}

# --- what stands for nginx

# make_fake NAME PROVIDES: a package with a shell for scriptlets, and all libraries that the module asks for
make_fake() {
    local spec=$scratch/$1.spec

    {
        printf '%s\n' "Name: $1" "Version: 1" "Release: 1" "Summary: In place of nginx" "License: none" \
            "AutoReqProv: no" "Provides: /bin/sh" "Provides: $2"
        rpm -q -p --requires "$rpm" | grep -v -e '^rpmlib' -e nginx -e '^/bin/sh' | sed 's/^/Provides: /'
        printf '%s\n' '%description' 'In place of nginx.' '%install' \
            "install -D $(command -v busybox) %{buildroot}/bin/busybox" \
            'for command in sh cat; do ln -s busybox %{buildroot}/bin/$command; done' \
            '%files' '/bin/*'
    } > "$spec"

    rpmbuild -bb --define "_topdir $scratch/fake" --define "_rpmdir $scratch/fake" --define "_rpmfilename $1.rpm" \
        --define "debug_package %{nil}" --define "__os_install_post %{nil}" "$spec"
}

empty_root() {
    rm -rf "$root"
    mkdir -p "$root/var/lib/rpm"
    in_root --initdb
}

# --- the package as a file

# Debian's rpmlint has no file of its own for this: it goes by the one in packaging/rpm.
is_clean() {
    rpmlint --config packaging/rpm/rpmlint.toml "$rpm" | tee "$scratch/rpmlint" | tail -n 40
    grep -E -q ' 0 errors, 0 warnings' "$scratch/rpmlint"
}

requires() {
    rpm -q -p --requires "$rpm" | grep -x -F -e "$1"
}

is_made_again() {
    cp "$rpm" "$scratch/first.rpm"
    REPO=$repo script/rpm.sh && cmp "$rpm" "$scratch/first.rpm"
}

names_build_folder() {
    grep -a -F -- "$ROOT" "$root$so"
}

# --- nginx

# nginx_takes PREAMBLE: what loads the module, at the top of a configuration
nginx_takes() {
    cat > "$scratch/nginx.conf" <<CONF
$1
pid $scratch/nginx.pid;
error_log stderr;
events {
}
http {
    access_log off;
    client_body_temp_path $scratch/temp;
    proxy_temp_path $scratch/temp;
    fastcgi_temp_path $scratch/temp;
    uwsgi_temp_path $scratch/temp;
    scgi_temp_path $scratch/temp;
    server {
        listen 127.0.0.1:$proxy;
        proxy_connect;
        proxy_connect_deny_address special;
    }
}
CONF
    # shellcheck disable=SC2046
    "$nginx" -t $(early_log "$nginx") -c "$scratch/nginx.conf"
}

refuses_inside() {
    local status

    # shellcheck disable=SC2046
    "$nginx" $(early_log "$nginx") -c "$scratch/nginx.conf" || return 1
    status=$(curl -q -s -m 10 -x "http://127.0.0.1:$proxy" -o /dev/null -w '%{http_connect}' https://127.0.0.1/) || true
    kill "$(cat "$scratch/nginx.pid")"
    echo "answered: $status"
    [ "$status" = 403 ]
}

# Sets nginx to the binary that is to take the module.
find_nginx() {
    nginx=${NGINX_BINARY:-}
    [ -z "$nginx" ] || return 0

    if [ -z "$asked_for" ]; then
        nginx=/usr/sbin/nginx
        MODULE_FILE=$(script/debian-nginx.sh)
        NGINX_VERSION=$($nginx -v 2>&1 | sed -n 's/.*nginx\/\([0-9.]*\).*/\1/p')
        export MODULE_FILE NGINX_VERSION
    else
        script/nginx-build.sh "$NGINX_VERSION" package dynamic stock
        nginx=$BUILD/nginx-$NGINX_VERSION-package-dynamic-stock/objs/nginx
    fi
}

# --- what is checked

refuses() {
    local text=$1
    shift

    "$@" > "$scratch/refusal" 2>&1 && return 1
    cat "$scratch/refusal"
    grep -q -F -e "$text" "$scratch/refusal"
}

# check_package REPO PROVIDES WRONG: what an nginx of that version provides, and of another
check_package() {
    repo=$1

    step "The package for nginx $NGINX_VERSION of $repo"
    rpm=$(REPO=$repo script/rpm.sh)
    name=$(rpm -q -p --queryformat '%{NAME}' "$rpm")

    check "rpmlint finds nothing" is_clean
    check "it wants that nginx" requires "$2"
    check "made again it is the same" is_made_again
    check "its licence and its documents" eval 'rpm -q -p --licensefiles "$rpm" | grep copyright && rpm -q -p --docfiles "$rpm" | grep docs/directives.md'

    check "a package of that nginx, to try it with" make_fake nginx "$2"
    check "a package of another" make_fake other-nginx "$3"
    check "an empty root" empty_root
    check "without nginx it is not installed" refuses "${2%% *}" in_root -i "$rpm"
    check "another nginx is there" in_root -i "$scratch/fake/other-nginx.rpm"
    check "beside that it is not installed" refuses "${2%% *}" in_root -i "$rpm"
    check "the other goes" in_root -e other-nginx
    check "that nginx is there" in_root -i "$scratch/fake/nginx.rpm"
    check "it is installed" in_root -i "$rpm"
    check "every file is as it was packed" in_root -V "$name"
    check "the module does not name the folder it was built in" not names_build_folder
    check "nginx is not removed beneath it" refuses "$name" in_root -e nginx

    if [ "$repo" = rhel ]; then
        check "the snippet loads the module" grep -x -F "load_module \"$so\";" "$root$snippet"
        check "nginx $NGINX_VERSION takes it" nginx_takes "load_module $root$so;"
    else
        check "nothing loads the module by itself" not test -e "$root$snippet"
        check "nginx $NGINX_VERSION takes it" nginx_takes "load_module $root$so;"
        check "and is a proxy that guards" refuses_inside
    fi

    check "it is removed" in_root -e "$name"
    check "nothing is left of it" eval '! find "$root/usr" -name "*proxy*connect*" | grep .'
}

check_refusals() {
    step "What no package is made of"

    check "a module for another nginx" refuses "the package is to be for 1.20.1" \
        env NGINX_VERSION=1.20.1 MODULE_FILE="$BUILD/rpm/work/SOURCES/$MODULE.so" script/rpm.sh
    check "a file that is none" refuses "README.md is no module" env MODULE_FILE=README.md script/rpm.sh
    check "a file that is not there" refuses 'MODULE is "none.so"' env MODULE_FILE=none.so script/rpm.sh
    check "a repository that is none" refuses 'REPO is "suse"' env REPO=suse script/rpm.sh
}

is_root || die "run this as root: scriptlets of a package run in a root of their own"

# shellcheck source=script/packages.sh
. script/packages.sh rpm_test

mkdir -p "$scratch"
find_ports proxy
find_nginx

check_package nginx.org "nginx-r$NGINX_VERSION" nginx-r1.2.3
check_package rhel "nginx(abi) = $NGINX_VERSION" "nginx(abi) = 1.2.3"
check_refusals

tell_result
