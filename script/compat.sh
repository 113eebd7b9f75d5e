#!/usr/bin/env bash
# Owns "make compat": builds and tests the servers of script/compat/rows from NGINX_SOURCES, one after
# the other, and writes docs/compatibility.md. A row that has passed at this commit is not run again.
#
# usage: NGINX_SOURCES=FOLDER [ROW=NAME] [AGAIN=yes] script/compat.sh
#
# The name of a row: SERVER-LINK, as nginx-1.8.1-static, takes the row with a rewrite phase; the whole
# name SERVER-CORE-LINK takes any.

. "$(dirname "$0")/common.sh"

COMPAT=$BUILD/compat
ROWS=$ROOT/script/compat/rows
KNOWN=$ROOT/script/compat/known
TABLE=$ROOT/docs/compatibility.md
# What the build needs but may not bring: an nginx as old as 1.4 includes a header that is gone.
INCLUDE=$COMPAT/include

main() {
    [ -n "$NGINX_SOURCES" ] || die "NGINX_SOURCES has to name a folder with nginx-VERSION.tar.gz"

    mkdir -p "$COMPAT" "$INCLUDE/sys"
    [ -e /usr/include/sys/sysctl.h ] || : > "$INCLUDE/sys/sysctl.h"

    printf '%s\n' 'openssl_conf = all' '[all]' 'ssl_conf = ssl' '[ssl]' 'system_default = system' \
        '[system]' 'CipherString = DEFAULT@SECLEVEL=0' > "$COMPAT/openssl.cnf"

    local server core link more failed=0 ran=0 total at=0
    total=$(wanted_rows | wc -l)
    [ "$total" != 0 ] || die "no row of script/compat/rows is called \"$ROW\""

    while read -r server core link more; do
        at=$((at + 1))
        printf '[%d/%d] %s, %s, %s: ' "$at" "$total" "$server" "$core" "$link"
        run_row "$server" "$core" "$link" "$more" < /dev/null || failed=$((failed + 1))
        ran=$((ran + 1))
        write_table
    done < <(wanted_rows)

    echo "$ran rows, $failed failed; $TABLE has the table"
    [ "$failed" = 0 ]
}

rows() {
    grep -v '^#' "$ROWS" | grep .
}

wanted_rows() {
    local server core link more

    rows | while read -r server core link more; do
        case ${ROW:-all} in
            all | "$server-$core-$link") echo "$server $core $link $more" ;;
            "$server-$link")
                case $core in
                    proxy_connect | proxy_connect_1014) ;;
                    *) echo "$server $core $link $more" ;;
                esac
            ;;
        esac
    done
}

# A row's result: state, passed, failed, known, seconds, commit, date.
run_row() {
    local name=$1-$2-$3 began result
    result=$COMPAT/$name.result

    if [ -f "$result" ] && [ "${AGAIN:-}" != yes ] \
            && [ "$(cut -d' ' -f1,6 "$result")" = "passed $(commit)" ]; then
        echo "passed before"
        return 0
    fi

    began=$(date +%s)
    # the commit that is tested, whatever is committed meanwhile
    local commit
    commit=$(commit)
    local state=failed passed=0 fails=0 known=0

    if ! [ -f "$NGINX_SOURCES/$1.tar.gz" ]; then
        state=no-source
    elif ! build "$@" > "$COMPAT/$name.log" 2>&1; then
        state=not-built
    else
        test_row "$name" "$1" "$2"
        read -r state passed fails known < "$COMPAT/$name/summary"
    fi

    local seconds=$(($(date +%s) - began))
    echo "$state $passed $fails $known $seconds $commit $(date -u +%Y-%m-%d)" > "$result"
    echo "$state, $passed tests passed, $fails failed, $known as the core has it, $seconds s"

    [ "$state" = passed ] && rm -rf "${COMPAT:?}/$name/tree"
    [ "$state" = passed ] || { echo "    see $COMPAT/$name.log and $COMPAT/$name/"; return 1; }
}

commit() {
    git -C "$ROOT" rev-parse --short HEAD
}


# Building: in the folder $COMPAT/NAME/tree; the nginx of it is NAME/nginx, a module NAME/module.so

build() {
    local server=$1 core=$2 link=$3 more=$4 name=$1-$2-$3
    local here=$COMPAT/$name tree=$COMPAT/$name/tree

    rm -rf "$here"
    mkdir -p "$tree"
    tar -xzf "$NGINX_SOURCES/$server.tar.gz" -C "$tree" --strip-components=1 || return
    cd "$tree" || return

    case $server in
        openresty-*) build_openresty "$core" "$link" ;;
        *) build_nginx "$server" "$core" "$link" "$more" ;;
    esac || return

    cp "$(find . -path '*objs/nginx' -type f)" "$here/nginx" || return

    if [ "$link" = dynamic ]; then
        cp "objs/$MODULE.so" "$here/module.so"
    fi
}

build_nginx() {
    local patch=$ROOT/patch/$2.patch

    if [ -f "$patch" ]; then
        patch -p1 -F2 < "$patch" || return
    fi

    # shellcheck disable=SC2046
    ./configure $(options "$1") --with-cc-opt="$(cc_options)" $4 "$(add "$3")" && make -j2
}

build_openresty() {
    local without name

    without=--without-stream_lua_module
    for name in echo xss coolkit set_misc form_input encrypted_session srcache lua_upstream headers_more \
            array_var memc redis2 redis rds_json rds_csv; do
        without="$without --without-http_${name}_module"
    done
    without="$without $(./configure --help | grep -o -- '--without-lua_[a-z_]*' \
        | grep -v 'lua_resty_core\|lua_resty_lrucache' | sort -u | tr '\n' ' ')"

    # shellcheck disable=SC2086
    ./configure $without --with-debug --with-http_realip_module --with-http_auth_request_module \
        --with-http_stub_status_module --with-cc-opt="$(cc_options)" "$(add "$2")" || return
    patch -p1 -F2 -d build/nginx-* < "$ROOT/patch/$1.patch" && make -j2
}

# What the tests need, as far as this ./configure knows it.
options() {
    local help option

    help=$(./configure --help)

    for option in debug http_realip_module http_auth_request_module http_stub_status_module \
            http_v2_module threads ipv6; do
        case $help in *--with-$option\ *) echo "--with-$option" ;; esac
    done

    # nginx 1.8 and older does not know OpenSSL 3.
    case $1 in
        nginx-1.[4-8].*) ;;
        nginx-1.9.2) ;;
        *) echo --with-http_ssl_module ;;
    esac
}

# Old sources warn with a compiler of today, look for a field that libxcrypt has no longer, and find out
# wrongly how many errors the system has words for.
cc_options() {
    echo "-Wno-error -Dcurrent_salt=setting -DNGX_SYS_NERR=134 -I$INCLUDE"
}

add() {
    if [ "$1" = static ]; then
        echo "--add-module=$ROOT"
    else
        echo "--add-dynamic-module=$ROOT"
    fi
}


# Testing

test_row() {
    local here=$COMPAT/$1

    mkdir -p "$here/tap"
    globals "$here"

    # As root a worker is another user, and can't read the test's folder.
    find "$ROOT"/t -maxdepth 1 -name '*.t' -printf '%f\n' | sort \
        | xargs -P "$JOBS" -I '{}' bash -c \
            'cd "$1"; timeout 300 perl -I "$1/t/harness" "t/$3" > "$2/tap/$3" 2> "$2/tap/$3.err"; echo $? > "$2/tap/$3.rc"' \
            _ "$ROOT" "$here" '{}'

    perl "$ROOT/script/compat/summary.pl" "$here/tap" "$KNOWN" "$(version_of "$here/nginx")" "$3" > "$here/summary"
}

globals() {
    export TEST_NGINX_BINARY=$1/nginx TEST_NGINX_GLOBALS="" TEST_NGINX_GLOBALS_HTTP=""

    # The Diffie-Hellman parameters of nginx 1.10 and older are too short for OpenSSL's defaults.
    unset OPENSSL_CONF
    case $(version_of "$1/nginx") in 1.[4-9].* | 1.10.*) export OPENSSL_CONF=$COMPAT/openssl.cnf ;; esac

    [ "$(id -u)" != 0 ] || TEST_NGINX_GLOBALS="user root;"
    [ ! -f "$1/module.so" ] || TEST_NGINX_GLOBALS="load_module $1/module.so; $TEST_NGINX_GLOBALS"

    local path
    path=$(find "$1/tree/build" -maxdepth 2 -path '*lua-resty-*/lib' -printf '%p/?.lua;' 2>/dev/null)
    [ -z "$path" ] || TEST_NGINX_GLOBALS_HTTP="lua_package_path \"$path;\";"
}

version_of() {
    "$1" -V 2>&1 | sed -n 's/^\(nginx\|Tengine\|tengine\|openresty\) version:.*\/\([0-9]*\.[0-9]*\.[0-9]*\).*/\2/p' | head -1
}


# The table

write_table() {
    local server core link more result state passed failed known seconds commit date

    {
        cat << END
# Compatibility

Written by \`make compat\`, which builds each of these servers from its source and runs the tests in
\`t/\` on it. *Core*: the patch applied, *native* where the core parses CONNECT by itself, *stock*
without a patch, *own* where the server brings a patch. *As the core has it*: tests that fail for what
this core can't give; the reasons stand below.

| server | core | link | result | passed | failed | as the core has it | seconds | commit | date |
|---|---|---|---|--:|--:|--:|--:|---|---|
END
        rows | while read -r server core link more; do
            result=$COMPAT/$server-$core-$link.result
            if [ -f "$result" ]; then
                read -r state passed failed known seconds commit date < "$result"
                echo "| $server | $core | $link | $state | $passed | $failed | $known | $seconds | $commit | $date |"
            else
                echo "| $server | $core | $link | not run | | | | | | |"
            fi
        done

        printf '\n## What a core can'\''t give\n\n| up to nginx, or core | test | why |\n|---|---|---|\n'
        perl -F' \| ' -lane 'next if /^#|^\s*$/; s/^\s+|\s+$//g for @F;
            print "| $F[0] | $F[1] | $F[-1] |"' "$KNOWN" | sort -u -V
    } > "$TABLE"
}

main
