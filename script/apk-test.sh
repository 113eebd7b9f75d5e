#!/bin/bash
# Owns how far packaging/alpine/APKBUILD can be tried on Debian: its functions are run by busybox's shell, which is
# Alpine's, on the distribution's nginx, and the distribution's nginx takes what they put into the package. Alpine,
# abuild and musl are not here.

. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/checks.sh"

scratch=$BUILD/apk-test
shipped=/usr/share/nginx/src

need_for_apk_test() {
    need busybox has_command busybox
    need nginx has_server nginx
    need nginx-dev test -f $shipped/conf_flags
    need git has_command git
}

# What abuild does before it calls the functions.
lay_sources() {
    rm -rf "$scratch/src" "$scratch/pkg"
    mkdir -p "$scratch/src" "$scratch/pkg"
    cp -R $shipped "$scratch/src/nginx-$nginx_version"
    git archive --prefix=$MODULE/ HEAD | tar -x -C "$scratch/src"
    sed "s/^_nginx=.*/_nginx=$nginx_version/" packaging/alpine/APKBUILD > "$scratch/APKBUILD"
}

# run FUNCTION: as abuild does, in the folder of the sources
run() {
    # shellcheck disable=SC2016
    srcdir=$scratch/src pkgdir=$scratch/pkg PATH=$PATH:/usr/sbin busybox sh -euc '
        default_prepare() { :; }
        error() { echo "$*" >&2; }

        . "$1"
        cd "$builddir"
        "$2"
    ' sh "$scratch/APKBUILD" "$1"
}

is_of_this_version() {
    grep -x -F "pkgver=$(module_version)" packaging/alpine/APKBUILD
}

refuses_another_nginx() {
    local answer

    sed -i 's/^_nginx=.*/_nginx=1.2.3/' "$scratch/APKBUILD"
    mkdir -p "$scratch/src/nginx-1.2.3"
    answer=$(run prepare 2>&1) && return 1
    echo "$answer"
    [[ $answer == *"set _nginx in APKBUILD"* ]]
}

has_files() {
    local file

    for file in usr/lib/nginx/modules/$MODULE.so etc/nginx/modules/50_http_proxy_connect.conf \
        usr/share/licenses/nginx-mod-http-proxy-connect/{LICENSE,copyright}
    do
        [ -s "$scratch/pkg/$file" ] || {
            echo "there is no $file"
            return 1
        }
    done
}

# shellcheck source=script/packages.sh
. script/packages.sh build apk_test
require_cargo

nginx_version=$(/usr/sbin/nginx -v 2>&1 | sed -n 's/.*nginx\/\([0-9.]*\).*/\1/p')
mkdir -p "$scratch"

check "busybox' sh can read it" busybox sh -n packaging/alpine/APKBUILD
check "it is of this version" is_of_this_version
check "the sources" lay_sources
check "prepare" run prepare
check "build" run build
check "check: nginx $nginx_version takes it" run check
check "package" run package
check "its files" has_files
check "another nginx: it says what to do" refuses_another_nginx

tell_result
