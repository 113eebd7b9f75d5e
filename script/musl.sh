#!/bin/bash
# Owns the proof that the module builds with musl as the C library, and works: an nginx without zlib and
# OpenSSL, which Debian does not have for musl, and the Perl tests that need neither. PCRE, without which there is no
# "return", comes from the crate pcre2-sys, which carries its source.
#
# musl.sh    with NGINX_VERSION, CORE and TESTS as of "make test"

. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/debian-rust.sh"

TARGET=x86_64-unknown-linux-musl
HEADERS=/usr/include/x86_64-linux-musl

core=$(core_of "$NGINX_VERSION")
tree=$BUILD/nginx-$NGINX_VERSION-musl-$core

PCRE=$BUILD/musl-pcre
PCRE_CRATE=0.2.10

# Kept between two trees: the standard library takes minutes.
CRATES=$BUILD/musl-crates

FIND_OBJECT=$BUILD/musl-find_object.o
log=nginx-$NGINX_VERSION-musl-$core

need_for_musl() {
    need musl-tools has_command musl-gcc
}

# Makes $PCRE/libpcre2-8.a, unless it is there.
make_pcre() {
    [ ! -f "$PCRE/libpcre2-8.a" ] || return 0

    step "PCRE2, from the crate pcre2-sys $PCRE_CRATE, with musl"
    rm -rf "$PCRE"
    vendor_crate musl-pcre pcre2-sys "=$PCRE_CRATE" "$PCRE"

    # Without those that others include.
    (
        cd "$PCRE/vendor/pcre2-sys/upstream"

        local sources
        mapfile -t sources < <(ls src/*.c | grep -v -e _jit_match -e _jit_misc -e _ucptables)

        musl-gcc -O2 -w -c -DPCRE2_CODE_UNIT_WIDTH=8 -DHAVE_CONFIG_H -DHAVE_STDLIB_H -DHAVE_MEMMOVE -DPCRE2_STATIC \
            -DSTDC_HEADERS -DSUPPORT_PCRE2_8 -DSUPPORT_UNICODE -Isrc -Ideps -Iinclude "${sources[@]}"
        cp include/pcre2.h "$PCRE/"
        ar rcs "$PCRE/libpcre2-8.a" ./*.o
    )
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
    run_logged "$log-configure" with_musl sh $configure --with-cc=musl-gcc --with-cc-opt="-I$PCRE" \
        --with-ld-opt="$FIND_OBJECT -L$PCRE" --with-debug --with-threads --without-http_gzip_module --with-http_realip_module \
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
make_pcre

if ! [ -f "$tree/configured-from" ] || ! key | cmp -s - "$tree/configured-from"; then
    make_tree
fi

step "Building nginx $NGINX_VERSION, core: $core, with musl, with $(cat "$RUST/version")"
run_logged "$log-make" with_musl make -C "$tree" -j"$JOBS"

file -L "$tree/objs/nginx" 2>/dev/null || true
test_it
