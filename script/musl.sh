#!/bin/bash
# Owns the proof that the module builds with musl as the C library, and works: an nginx without PCRE, zlib
# and OpenSSL, which Debian does not have for musl, and the Perl tests that need none of them.
#
# musl.sh    with NGINX_VERSION, CORE and TESTS as of "make test"

. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/debian-rust.sh"

TARGET=x86_64-unknown-linux-musl
HEADERS=/usr/include/x86_64-linux-musl

core=$(core_of "$NGINX_VERSION")
tree=$BUILD/nginx-$NGINX_VERSION-musl-$core

# Kept between two trees: the standard library takes minutes.
CRATES=$BUILD/musl-crates

FIND_OBJECT=$BUILD/musl-find_object.o
log=nginx-$NGINX_VERSION-musl-$core

need_for_musl() {
    need musl-tools has_command musl-gcc
}

make_tree() {
    rm -rf "$tree"
    script/nginx-source.sh "$NGINX_VERSION" "$tree"
    cd "$tree"

    if [ "$core" = patched ]; then
        patch -p1 < "$(patch_of "$NGINX_VERSION")" > "$LOGS/$log-patch.log"
    fi

    local configure=./configure
    [ -f $configure ] || configure=auto/configure

    musl-gcc -O2 -Wall -c "$ROOT/script/musl/find_object.c" -o "$FIND_OBJECT"

    mkdir -p objs "$CRATES"
    ln -s "$CRATES" "objs/$MODULE"

    step "Configuring nginx $NGINX_VERSION, core: $core, with musl"
    run_logged "$log-configure" with_musl sh $configure --with-cc=musl-gcc --with-ld-opt="$FIND_OBJECT" \
        --with-debug --with-threads \
        --without-pcre --without-http_gzip_module --with-http_realip_module \
        --with-http_auth_request_module --with-http_stub_status_module --add-module="$ROOT"
    cd "$ROOT"
    key > "$tree/configured-from"
}

# All that the configured tree depends on.
key() {
    cat "$RUST/version"
    sha256sum script/musl.sh script/musl/* config config.make auto/* patch/*.patch
}

# What cargo, bindgen and the crate cc have to know. The module is linked by nginx's make, so that Rust
# needs no linker for musl.
with_musl() {
    NGX_CARGO="$RUST/usr/bin/cargo -Zbuild-std=std,panic_unwind" NGX_RUST_TARGET=$TARGET \
    BINDGEN_EXTRA_CLANG_ARGS="--target=x86_64-linux-musl -nostdinc -isystem $HEADERS -isystem $(compiler_headers)" \
    CC_x86_64_unknown_linux_musl=musl-gcc \
        with_rust "$@"
}

compiler_headers() {
    dirname "$(find /usr/lib/llvm-*/lib/clang/*/include -name stddef.h | sort -V | tail -n 1)"
}

test_it() {
    local globals='' failed=0

    ! is_root || globals="user root;"

    # shellcheck disable=SC2086
    TEST_NGINX_BINARY=$tree/objs/nginx TEST_NGINX_GLOBALS=$globals \
        prove -j"$JOBS" -I t/harness --timer ${TESTS:-t/*.t} 2>&1 | tee "$LOGS/$log-prove.log" || failed=1

    return $failed
}

# shellcheck source=script/packages.sh
. script/packages.sh build test musl
unpack_rust

if ! [ -f "$tree/configured-from" ] || ! key | cmp -s - "$tree/configured-from"; then
    make_tree
fi

step "Building nginx $NGINX_VERSION, core: $core, with musl, with $(cat "$RUST/version")"
run_logged "$log-make" with_musl make -C "$tree" -j"$JOBS"

file -L "$tree/objs/nginx" 2>/dev/null || true
test_it
