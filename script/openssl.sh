#!/bin/bash
# Owns an OpenSSL that is not this machine's, as shared libraries in $BUILD/openssl-VERSION: for the bench, whose peers
# are linked to Debian's and take any of the same ABI. Its source is that of the crate openssl-src.
#
# openssl.sh VERSION    3.5, say; 3.0 to 3.9

. "$(dirname "$0")/common.sh"

version=$1
folder=$BUILD/openssl-$version
log=openssl-$version

case $version in
    3.[0-9]) ;;
    *) die "OPENSSL is \"$version\": it is 3.5, say, or empty for this machine's own" ;;
esac

# The crate carries neither programs, tests nor documents, and not all that makes modules or shared libraries.
FLAGS=(no-tests no-docs no-apps no-legacy no-module no-shared -fPIC)

# NAME NEEDED...: lib/libNAME.so.3 of libNAME.a. Without names of versions it serves programs that ask for any, which the dynamic
# linker remarks.
link_library() {
    local name=$1
    shift

    gcc -shared -o "$folder/lib/lib$name.so.3" -Wl,-soname,"lib$name.so.3" \
        -Wl,--whole-archive "lib$name.a" -Wl,--no-whole-archive "$@"
}

require_cargo

if [ ! -f "$folder/lib/libssl.so.3" ]; then
    rm -rf "$folder"
    step "OpenSSL $version, from the crate openssl-src"
    vendor_crate "$log-source" openssl-src "~300.${version#3.}" "$folder"

    cd "$folder/vendor/openssl-src/openssl"
    # Programs of Debian's read its configuration.
    run_logged "$log-configure" ./Configure --openssldir=/usr/lib/ssl "${FLAGS[@]}"
    run_logged "$log-make" make -j"$JOBS" build_libs

    mkdir -p "$folder/lib"
    link_library crypto
    link_library ssl "$folder/lib/libcrypto.so.3"
fi
