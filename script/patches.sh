#!/usr/bin/env bash
# Owns the patches of nginx's core: makes them from patch/source, and checks them on every source in
# NGINX_SOURCES, nginx's and OpenResty's. Nothing is built.
#
# usage: NGINX_SOURCES=FOLDER script/patches.sh make|check
#
# A patch is right where it applies without rejects and with fuzz 2 at most, and where the result is,
# byte for byte, what the insertions of patch/source/connect.edits themselves make of that source: a
# hunk that is taken for another place differs.

. "$(dirname "$0")/common.sh"

SOURCE=$ROOT/patch/source
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

main() {
    [ -d "${NGINX_SOURCES:-}" ] || die "NGINX_SOURCES has to name a folder with nginx-VERSION.tar.gz"

    unpack

    case ${1:-} in
        make) make_patches ;;
        check) check_patches ;;
        *) die "usage: script/patches.sh make|check" ;;
    esac
}

# What the patches touch, of every source: $WORK/trees/NAME.
unpack() {
    local archive name tree

    mkdir -p "$WORK/trees"

    for archive in "$NGINX_SOURCES"/nginx-[0-9]*.tar.gz "$NGINX_SOURCES"/openresty-[0-9]*.tar.gz; do
        [ -f "$archive" ] || continue
        name=$(basename "$archive" .tar.gz)
        mkdir "$WORK/unpacked"
        tar -xzf "$archive" -C "$WORK/unpacked" --wildcards '*/src/http/*' '*/src/core/nginx.h' \
            '*/auto/modules' '*/auto/options'
        tree=$(find "$WORK/unpacked" -path '*/src/core/nginx.h')
        mv "${tree%/src/core/nginx.h}" "$WORK/trees/$name"
        rm -rf "$WORK/unpacked"
    done
}

edits() {
    perl "$ROOT/script/patches.pl" "$SOURCE/connect.edits" "$@"
}

make_patches() {
    local patch mode first last base

    while read -r patch mode first last base; do
        {
            header "$mode" "$first" "$last"
            edits "$WORK/trees/nginx-$base" "$mode"
        } > "$ROOT/patch/$patch"
        echo "$patch, from nginx $base"
    done < <(patch_rows)
}

header() {
    local phases="all phases"
    [ "$1" = skip ] && phases="all phases but rewrite"

    sed -e "s/@FIRST@/$2/" -e "s/@LAST@/$3/" -e "s/@PHASES@/$phases/" "$SOURCE/header"
}

check_patches() {
    local patch mode first last base tree failed=0

    printf '%-37s %-21s %s\n' patch source result

    while read -r patch mode first last base; do
        for tree in $(trees "$first" "$last"); do
            check "$patch" "$mode" "$tree" || failed=1
        done
    done < <(patch_rows)

    return $failed
}

# The trees from one version to another, by the version of nginx in them.
trees() {
    local tree version

    for tree in $(find "$WORK/trees" -mindepth 1 -maxdepth 1 | sort -V); do
        version=$(version_of "$tree")
        if is_between "$1" "$version" "$2"; then
            echo "$tree"
        fi
    done
}

version_of() {
    sed -n 's/^#define NGINX_VERSION *"\([0-9.]*\).*/\1/p' "$1/src/core/nginx.h"
}

check() {
    local patch=$1 mode=$2 tree=$3 result=same rc=0 fuzz

    rm -rf "$WORK/patched" "$WORK/edited"
    cp -r "$tree" "$WORK/patched"
    cp -r "$tree" "$WORK/edited"

    if ! patch -p1 -F2 --no-backup-if-mismatch -d "$WORK/patched" < "$ROOT/patch/$patch" \
            > "$WORK/log" 2>&1; then
        result=REJECTED
        rc=1
    else
        edits "$tree" "$mode" "$WORK/edited"
        diff -r "$WORK/patched" "$WORK/edited" > "$WORK/log.diff" || { result="DIFFERS from its source"; rc=1; }
    fi

    fuzz=$(sed -n 's/.*with fuzz \([0-9]\).*/\1/p' "$WORK/log" | sort -n | tail -1)
    printf '%-37s %-21s %s, fuzz %s\n' "$patch" "$(basename "$tree")" "$result" "${fuzz:-0}"
    [ $rc = 0 ] || cat "$WORK/log" "$WORK/log.diff" 2>/dev/null | grep -v '^patching file' | head -30
    return $rc
}

main "$@"
