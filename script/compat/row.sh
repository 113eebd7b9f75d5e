#!/usr/bin/env bash
# Owns one row of "make compat": unpacks a server, builds it with the module, tests it, and writes
# build/compat/NAME.result: state, passed, failed, as the core has it, files skipped, seconds, commit, date.
#
# row.sh SERVER CORE LINK [VARIANT]

. "$(dirname "$0")/../common.sh"
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/../crates.sh"

server=$1
core=$2
link=$3
variant=${4:-}

name=$(name_of "$@")
here=$COMPAT/$name
tree=$here/tree
result=$COMPAT/$name.result

# How long one file of Perl tests may take, in seconds.
FILE_LIMIT=300

# How many files are tested at once. They mostly wait.
TEST_JOBS=3

main() {
    # the commit that is tested, whatever is committed meanwhile
    local commit
    commit=$(git -C "$ROOT" rev-parse --short HEAD)

    # Some of the tests say nothing of a row: it has not passed, and the table keeps what it has.
    if [ -n "${TESTS:-}" ]; then
        result=$here.some
    fi

    if has_passed; then
        tell "passed before"
        return 0
    fi

    local began state=failed passed=0 failed=0 known=0 skipped=0
    began=$(date +%s)

    if ! [ -f "$NGINX_SOURCES/$server.tar.gz" ]; then
        state=no-source
    elif is_built && [ -s "$here/failures" ]; then
        test_failed
        read -r state passed failed known skipped < "$here/summary"
    elif ! build > "$COMPAT/$name.log" 2>&1 < /dev/null; then
        state=not-built
    else
        built_from HEAD > "$here/built-from"
        test_all
        read -r state passed failed known skipped < "$here/summary"
    fi

    local seconds=$(($(date +%s) - began))
    echo "$state $passed $failed $known $skipped $seconds $commit $(date -u +%Y-%m-%d)" > "$result"
    tell "$state, $passed tests passed, $failed failed, $known as the core has it, $skipped files skipped, $seconds s"

    if [ "$state" = passed ]; then
        rm -rf "$tree"
    else
        cat "$here/failures" 2>/dev/null || true
        echo "    see $COMPAT/$name.log and $here/"
        return 1
    fi
}

# One line of progress, numbered over all rows.
tell() {
    echo "$name" >> "$COMPAT_COUNT"
    printf '[%d/%d] %s: %s\n' "$(wc -l < "$COMPAT_COUNT")" "$COMPAT_TOTAL" "$name" "$*"
}


# Going on where an earlier run was

# Whether the row has passed with the module as it is.
has_passed() {
    local state passed failed known skipped seconds at

    [ -f "$result" ] && [ "${AGAIN:-}" != yes ] || return 1
    read -r state passed failed known skipped seconds at _ < "$result"
    [ "$state" = passed ] && [ "$(built_from "$at")" = "$(built_from HEAD)" ]
}

# built_from COMMIT: what a row is built from, but for the server
built_from() {
    git -C "$ROOT" ls-tree "$1" Cargo.lock Cargo.toml build.rs config config.make auto src core old patch
}

# Whether a row that failed would be built the same again: then only the files that failed are tested.
is_built() {
    [ "${AGAIN:-}" != yes ] && built_from HEAD | cmp -s - "$here/built-from"
}


# Building, in the folder NAME/tree; its nginx becomes NAME/nginx, a module NAME/module.so

build() {
    rm -rf "$here"
    mkdir -p "$tree"
    tar -xzf "$NGINX_SOURCES/$server.tar.gz" -C "$tree" --strip-components=1 || return
    cd "$tree" || return

    case $server in
        openresty-*) build_openresty ;;
        *) build_nginx ;;
    esac || return

    keep_crates
    cp "$(find . -path '*objs/nginx' -type f)" "$here/nginx" || return

    if [ "$link" = dynamic ]; then
        cp "$(find . -path "*objs/$MODULE.so" -type f)" "$here/module.so" || return
    fi

    # One that does not even start has nothing to tell about the module.
    "$here/nginx" -V
}

build_nginx() {
    apply_patch . || return

    local options
    mapfile -t options < <(options)

    ./configure "${options[@]}" --with-cc-opt="$(cc_options)" "$(add)" || return
    take_crates objs
    make -j2
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
        --with-http_stub_status_module --with-cc-opt="$(cc_options)" \
        --with-ld-opt="-Wl,-rpath,$PWD/build/luajit-root/usr/local/openresty/luajit/lib" "$(add)" || return
    apply_patch build/nginx-* || return
    take_crates build/nginx-*/objs
    make -j2
}

# apply_patch FOLDER
apply_patch() {
    if [ -f "$ROOT/patch/$core.patch" ]; then
        patch -p1 -F2 -d "$1" < "$ROOT/patch/$core.patch"
    fi
}

# What the tests need, as far as this ./configure knows it, and the variant's own.
options() {
    local help option

    # It ends with 1.
    help=$(./configure --help || true)

    for option in debug http_realip_module http_auth_request_module http_stub_status_module \
            http_v2_module threads ipv6; do
        case $help in
            *--with-$option\ *) takes "$option" && echo "--with-$option" ;;
        esac
    done

    if takes http_ssl_module; then
        echo --with-http_ssl_module
    fi

    [ -z "$variant" ] || sed -n "s/^$variant  *//p" "$VARIANTS" | tr ' ' '\n'
}

# Whether the row is configured with what the tests would like.
takes() {
    # nginx 1.9 and older does not know OpenSSL 3.
    case $1:$server in
        http_ssl_module:nginx-1.[4-9].*) return 1 ;;
        http_v2_module:nginx-1.9.*) return 1 ;;
    esac

    [ "$variant" != bare ]
}

# nginx itself need not be fast.
cc_options() {
    echo "-O0 $(old_cc_opt)"
}

add() {
    if [ "$link" = static ]; then
        echo "--add-module=$ROOT"
    else
        echo "--add-dynamic-module=$ROOT"
    fi
}


# Testing

test_all() {
    mkdir -p "$here/tap"
    globals

    wanted_files | sort > "$here/files"
    test_files "$TEST_JOBS" < "$here/files"
    judge

    # Timeouts are measured, and a busy machine disturbs that.
    [ ! -s "$here/failures" ] || test_failed
}

# The names of the files: all, or those of TESTS.
wanted_files() {
    if [ -n "${TESTS:-}" ]; then
        # shellcheck disable=SC2086
        basename -a $TESTS
    else
        find "$ROOT/t" -maxdepth 1 -name '*.t' -printf '%f\n'
    fi
}

# The files that failed, one after the other.
test_failed() {
    globals
    sed -n 's/^\([^ :]*\): .*/\1/p' "$here/failures" | sort -u > "$here/again"
    test_files 1 < "$here/again"
    judge
}

# test_files JOBS: the names of files from standard input
test_files() {
    # shellcheck disable=SC2016
    xargs -P "$1" -I '{}' bash -c \
        'cd "$1"; timeout -k 5 "$4" perl -I "$1/t/harness" "t/$3" > "$2/tap/$3" 2> "$2/tap/$3.err"
         echo $? > "$2/tap/$3.rc"' _ "$ROOT" "$here" '{}' "$FILE_LIMIT"
}

judge() {
    perl "$ROOT/script/compat/summary.pl" "$here/tap" "$KNOWN" "$(version_of "$here/nginx")" "$core" \
        > "$here/summary" 2> "$here/failures"
}

globals() {
    # All of their load would show little in 70 rows that it does not in the first.
    export TEST_NGINX_SHARE=0.03

    export TEST_NGINX_BINARY=$here/nginx TEST_NGINX_GLOBALS="" TEST_NGINX_GLOBALS_HTTP=""

    # The Diffie-Hellman parameters of nginx 1.10 and older are too short for OpenSSL's defaults.
    unset OPENSSL_CONF
    case $(version_of "$here/nginx") in
        1.[4-9].* | 1.10.*)
            printf '%s\n' 'openssl_conf = all' '[all]' 'ssl_conf = ssl' '[ssl]' \
                'system_default = system' '[system]' 'CipherString = DEFAULT@SECLEVEL=0' > "$here/openssl.cnf"
            export OPENSSL_CONF=$here/openssl.cnf
        ;;
    esac

    # As root a worker is another user, and can't read the test's folder.
    ! is_root || TEST_NGINX_GLOBALS="user root;"
    # A new binary only gets of the environment what is named.
    [ -z "${OPENSSL_CONF:-}" ] || TEST_NGINX_GLOBALS="env OPENSSL_CONF; $TEST_NGINX_GLOBALS"
    [ ! -f "$here/module.so" ] || TEST_NGINX_GLOBALS="load_module $here/module.so; $TEST_NGINX_GLOBALS"

    local path
    path=$(find "$tree/build" -maxdepth 2 -path '*lua-resty-*/lib' -printf '%p/?.lua;' 2>/dev/null || true)
    [ -z "$path" ] || TEST_NGINX_GLOBALS_HTTP="lua_package_path \"$path;\";"
}

# The version of nginx that a binary has or, for OpenResty and Tengine, was made from.
version_of() {
    "$1" -V 2>&1 | sed -n 's/^\(nginx\|Tengine\|tengine\|openresty\) version:.*\/\([0-9]*\.[0-9]*\.[0-9]*\).*/\2/p' | head -1
}

main
