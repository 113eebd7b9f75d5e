#!/bin/bash
# Owns the way to nginx's source: from the folder NGINX_SOURCES if that is set and has it, else from the crate
# nginx-src, which carries the tree of some versions.
#
# nginx-source.sh VERSION FOLDER    the unpatched tree becomes FOLDER, which must not exist

. "$(dirname "$0")/common.sh"

version=$1
folder=$2

# The crate's version that carries a version of nginx.
crate_version() {
    case $1 in
        1.28.0) echo 1.28.1+1.28.0 ;;
        1.28.1) echo 1.28.3+1.28.1 ;;
        1.28.2) echo 1.28.4+1.28.2 ;;
        1.28.3) echo 1.28.5+1.28.3 ;;
        *)      return 1 ;;
    esac
}

unpack_archive() {
    local archive=$NGINX_SOURCES/nginx-$version.tar.gz

    [ -f "$archive" ] || die "NGINX_SOURCES has no nginx-$version.tar.gz: $archive is not there"

    note "nginx $version from $archive"
    tar -xzf "$archive" -C "$folder.new" --strip-components=1
}

unpack_crate() {
    local crate
    crate=$(crate_version "$version") || die "no crate carries nginx $version for us: set" \
        "NGINX_SOURCES to a folder that holds nginx-$version.tar.gz (https://nginx.org/download/)"

    require_cargo
    note "nginx $version from the crate nginx-src $crate"

    local scratch=$BUILD/nginx-src.$$
    vendor_crate nginx-src nginx-src "=${crate%%+*}" "$scratch" \
        || die "cargo can't get the crate nginx-src; set NGINX_SOURCES to a folder that holds" \
               "nginx-$version.tar.gz (https://nginx.org/download/)"

    cp -R "$scratch/vendor/nginx-src/nginx/." "$folder.new/"
    rm -rf "$scratch"
}

rm -rf "$folder.new"
mkdir -p "$folder.new"

if [ -n "$NGINX_SOURCES" ] && { [ -f "$NGINX_SOURCES/nginx-$version.tar.gz" ] || ! crate_version "$version" >/dev/null; }
then
    unpack_archive
else
    unpack_crate
fi

grep -q "\"$version\"" "$folder.new/src/core/nginx.h" \
    || die "what was unpacked for nginx $version is another version"

mv "$folder.new" "$folder"
