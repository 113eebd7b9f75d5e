# shellcheck shell=bash
# Owns what the other scripts share: folders, messages, running a long command with progress.
# Sourced by each of them.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$ROOT/build
LOGS=$BUILD/log
MODULE=ngx_http_proxy_connect_module

NGINX_VERSION=${NGINX_VERSION:-1.28.3}
JOBS=${JOBS:-2}
NGINX_SOURCES=${NGINX_SOURCES:-}

# What an nginx would take for sockets to inherit.
unset NGINX

# An nginx tree below a folder whose name has a space can't be configured.
case $ROOT in
    *[[:space:]]*)
        echo "error: nginx can't be built below \"$ROOT\": move the project to a path without spaces" >&2
        exit 1
    ;;
esac

if [ -n "$NGINX_SOURCES" ]; then
    NGINX_SOURCES=$(cd "$NGINX_SOURCES" 2>/dev/null && pwd) || {
        echo "error: there is no such folder as NGINX_SOURCES names" >&2
        exit 1
    }
fi

cd "$ROOT"
if ! mkdir -p "$LOGS" 2>/dev/null || ! [ -w "$LOGS" ]; then
    echo "error: $BUILD is not writable for $(id -un): another user has built here; remove it first" >&2
    exit 1
fi

# For an nginx with AddressSanitizer: it leaves it to the system to free what lives as long as a process,
# and each of its modules has a table of one name.
ASAN_QUIET=detect_leaks=0:detect_odr_violation=0

# is_between FIRST VERSION LAST
is_between() {
    [ "$(printf '%s\n' "$1" "$2" "$3" | sort -V | tr '\n' ' ')" = "$1 $2 $3 " ]
}

# The patch for a version, one that leaves the rewrite phase on; nothing where there is none.
patch_of() {
    local patch mode first last base

    while read -r patch mode first last base; do
        if [ "$mode" = rewrite ] && is_between "$first" "$1" "$last"; then
            echo "$ROOT/patch/$patch"
        fi
    done < <(patch_rows)
}

# The rows of patch/source/rows: a patch, whether it leaves the rewrite phase on, from which version to
# which, and the one that it was made from.
patch_rows() {
    grep -v -e '^#' -e '^$' "$ROOT/patch/source/rows"
}

# What lets an old source compile: it warns with a compiler and an OpenSSL of today, looks for a field that
# libxcrypt has no longer, finds out wrongly how many errors the system has words for, and one as old as
# 1.4 includes a header that is gone. Newer sources don't mind.
old_cc_opt() {
    local include=$BUILD/include

    mkdir -p "$include/sys"
    [ -e /usr/include/sys/sysctl.h ] || : > "$include/sys/sysctl.h"

    echo "-Wno-error -Dcurrent_salt=setting -DNGX_SYS_NERR=134 -I$include"
}

# The configure of the nginx in this folder: a release has ./configure, its repository, and so the crate, auto/configure.
configure_script() {
    if [ -f ./configure ]; then
        echo ./configure
    else
        echo auto/configure
    fi
}

# known_flags CONFIGURE FLAG...: those that it knows: an old nginx lacks some modules. What no help can tell is known.
known_flags() {
    local help flag

    # It ends with 1.
    help=$(sh "$1" --help || true)
    shift

    for flag in "$@"; do
        case $flag in
            --with-cc-opt=* | --with-ld-opt=* | --prefix=* | --add-*) echo "$flag" ;;
            *) [[ $help != *"${flag%%=*}"[[:space:]=]* ]] || echo "$flag" ;;
        esac
    done
}

# The core of a version: patched by default where there is a patch for it.
core_of() {
    if [ -n "$(patch_of "$1")" ]; then
        echo "${CORE:-patched}"
    else
        echo stock
    fi
}

# The time that is written into what is packed: that of the commit, so that the same commit gives the same file.
source_date_epoch() {
    echo "${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}"
}

# The documents of a package, by their paths in the project.
documents() {
    echo README.md
    grep -v '^#' "$ROOT/packaging/documents"
}

# The version of the module, which Cargo.toml has.
module_version() {
    sed -n 's/^version = "\(.*\)"$/\1/p' "$ROOT/Cargo.toml" | head -n 1
}

step() {
    printf '==> %s\n' "$*"
}

note() {
    printf '    %s\n' "$*"
}

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

has_command() {
    command -v "$1" >/dev/null 2>&1
}

is_root() {
    [ "$(id -u)" -eq 0 ]
}

# What has nginx write to standard error before it has read its configuration; that came with 1.19.5.
early_log() {
    if "$1" -h 2>&1 | grep '^  -e ' >/dev/null; then
        echo "-e stderr"
    fi
}

require_cargo() {
    has_command cargo || die "cargo is not found: install a Rust toolchain (https://rustup.rs) and" \
        "have it on the PATH, then run this again"
}

# Runs a command with its output in a log file. What is shown is the progress; at a failure, the end
# of the log.
run_logged() {
    local log=$LOGS/$1.log
    shift

    if ! "$@" 2>&1 </dev/null | tee "$log" | show_progress; then
        echo >&2
        tail -n 40 "$log" >&2
        printf 'error: "%s" failed; all of its output is in %s\n' "$*" "$log" >&2
        return 1
    fi
}

# LOG CRATE REQUIREMENT FOLDER: what a crate carries, in FOLDER/vendor/CRATE.
vendor_crate() {
    local log=$1 crate=$2 requirement=$3 folder=$4

    mkdir -p "$folder/src"
    touch "$folder/src/lib.rs"
    printf '%s\n' '[package]' "name = \"fetch-$crate\"" 'version = "0.0.0"' 'edition = "2021"' \
        '[dependencies]' "$crate = \"$requirement\"" '[workspace]' > "$folder/Cargo.toml"
    run_logged "$log" cargo vendor --manifest-path "$folder/Cargo.toml" "$folder/vendor"
}

# Of the output of configure, make and cargo only what tells how far it is: each crate, and nginx's
# objects counted.
show_progress() {
    local line objects=0

    while IFS= read -r line; do
        case $line in
            *' Compiling '* | *' Checking '* | *' Finished '* | 'warning: '* | 'error'*)
                note "${line#"${line%%[![:space:]]*}"}"
            ;;
            *-o\ *.o\ \\)
                objects=$((objects + 1))
                if [ $((objects % 25)) -eq 0 ]; then
                    note "$objects objects of nginx compiled"
                fi
            ;;
        esac
    done
}
