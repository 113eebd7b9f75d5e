#!/bin/bash
# Owns nginx's own Perl suite: unpacks it from NGINX_SOURCES and prints its folder.

. "$(dirname "$0")/common.sh"

folder=$BUILD/nginx-tests

if [ ! -d "$folder" ]; then
    archive=$NGINX_SOURCES/nginx-tests.tar.gz

    [ -n "$NGINX_SOURCES" ] || die "HARNESS=nginx needs NGINX_SOURCES: a folder with nginx-tests.tar.gz"
    [ -f "$archive" ] || die "NGINX_SOURCES has no nginx-tests.tar.gz: $archive is not there"

    rm -rf "$folder.new"
    mkdir -p "$folder.new"
    tar -xzf "$archive" -C "$folder.new" --strip-components=1
    mv "$folder.new" "$folder"
fi

echo "$folder"
