#!/bin/bash
# Owns nginx's own Perl suite: unpacks it from NGINX_SOURCES and prints its folder.
#
# nginx-tests.sh [VERSION]    the suite as it fits this nginx; without, the newest one

. "$(dirname "$0")/common.sh"

suite=nginx-tests

# The newest one starts nginx with -e, which came with 1.19.5.
if [ -n "${1:-}" ] && is_between 0 "$1" 1.19.4; then
    suite=nginx-tests-2020
fi

folder=$BUILD/$suite

if [ ! -d "$folder" ]; then
    archive=$NGINX_SOURCES/$suite.tar.gz

    [ -n "$NGINX_SOURCES" ] || die "HARNESS=nginx needs NGINX_SOURCES: a folder with $suite.tar.gz"
    [ -f "$archive" ] || die "NGINX_SOURCES has no $suite.tar.gz: $archive is not there"

    rm -rf "$folder.new"
    mkdir -p "$folder.new"
    tar -xzf "$archive" -C "$folder.new" --strip-components=1
    mv "$folder.new" "$folder"
fi

echo "$folder"
