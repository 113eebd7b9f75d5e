# shellcheck shell=bash
# Owns what the files for other systems are made with: zig, which compiles for any processor and C library, cargo for
# it, the headers of the libraries that nginx is built with, and libraries in their place that nginx's ./configure
# can link.
# Sourced, after common.sh, by the scripts that build a distribution.

. "$(dirname "${BASH_SOURCE[0]}")/../debian-rust.sh"

# Kept between two runs; two trees can share them by DIST_TOOLS.
TOOLS=${DIST_TOOLS:-$BUILD/dist-tools}
RUST=${DIST_TOOLS:+$DIST_TOOLS/debian-rust}
RUST=${RUST:-$BUILD/debian-rust}

# What is made, with SHA256SUMS.
DIST=$BUILD/dist

ARCHES=(x86_64 aarch64)
LIBCS=(glibc musl)

# The oldest C library that a file for glibc runs with.
GLIBC=2.28

INCLUDE=$TOOLS/include
ZIG=$TOOLS/python/ziglang/zig

# What "./configure" looks for in a library, one function of each. The module itself links none of them: nginx has
# loaded them.
PLACEHOLDERS=(
    "ssl SSL_CTX_set_options SSL_CTX_new"
    "crypto OPENSSL_init_crypto"
    "pcre2-8 pcre2_compile_8"
    "pcre pcre_compile pcre_config pcre_study pcre_free_study"
    "z deflate"
    "crypt crypt crypt_r"
)

need_for_dist() {
    need python3 has_command python3
    need python3-pip has_pip
    need git has_command git
    need libpcre3-dev has_header pcre.h
}

need_for_aarch64() {
    need qemu-user has_command qemu-aarch64
    need libc6-arm64-cross test -d /usr/aarch64-linux-gnu/lib
}

# file_name VERSION ARCH LIBC: that of the archive for an nginx, without its ending
file_name() {
    echo "$MODULE-$(module_version)+nginx-$1-linux-$2-$3"
}

# has_its_sum ARCHIVE: whether it is there as SHA256SUMS says
has_its_sum() {
    (cd "$DIST" && grep -F "  ${1##*/}" SHA256SUMS | sha256sum --quiet -c -)
}

# rust_target ARCH LIBC: Rust's name of the system
rust_target() {
    case $2 in
        glibc) echo "$1-unknown-linux-gnu" ;;
        musl)  echo "$1-unknown-linux-musl" ;;
    esac
}

# zig_target ARCH LIBC: zig's
zig_target() {
    case $2 in
        glibc) echo "$1-linux-gnu.$GLIBC" ;;
        musl)  echo "$1-linux-musl" ;;
    esac
}

# emulator ARCH: what runs a program of another processor
emulator() {
    if [ "$1" != "$(uname -m)" ]; then
        echo "qemu-$1 -L /usr/$1-linux-gnu"
    fi
}

prepare_tools() {
    [ "$(uname -m)" = x86_64 ] || die "files for download are made on x86_64, for aarch64 too; this machine is $(uname -m)"

    if ! cmp -s script/dist/requirements.txt "$TOOLS/python/requirements.txt"; then
        step "Getting zig and cargo-zigbuild"
        rm -rf "$TOOLS/python"
        mkdir -p "$TOOLS"
        run_logged dist-tools python3 -m pip install -q --disable-pip-version-check --no-deps --require-hashes \
            --target "$TOOLS/python" -r script/dist/requirements.txt \
            || die "pip can't get what script/dist/requirements.txt names"
        cp script/dist/requirements.txt "$TOOLS/python/"
    fi

    # zig compiles the C library's beginnings once for each target, and keeps them.
    export ZIG_GLOBAL_CACHE_DIR=$TOOLS/zig-cache ZIG_LOCAL_CACHE_DIR=$TOOLS/zig-cache
    export CARGO_ZIGBUILD_CACHE_DIR=$TOOLS/zigbuild-cache
    export PATH=$TOOLS/python/bin:$TOOLS/python/ziglang:$PATH

    collect_headers
}

# The headers that don't depend on the system: those of /usr/include itself would be the C library's, too.
collect_headers() {
    local header new=$INCLUDE.$$

    mkdir -p "$new/openssl"
    cp /usr/include/openssl/*.h "$new/openssl/"

    if [ -d "/usr/include/$(uname -m)-linux-gnu/openssl" ]; then
        cp "/usr/include/$(uname -m)-linux-gnu/openssl/"*.h "$new/openssl/"
    fi

    for header in pcre.h pcre2.h zlib.h zconf.h crypt.h; do
        cp "$(header_path "$header")" "$new/"
    done

    # Two trees may be at work with them.
    if diff -r -q "$new" "$INCLUDE" >/dev/null 2>&1; then
        rm -rf "$new"
    else
        rm -rf "$INCLUDE"
        mv "$new" "$INCLUDE"
    fi

    # musl has a crypt.h of its own.
    mkdir -p "$INCLUDE-musl"
    cp -R "$INCLUDE/." "$INCLUDE-musl/"
    rm "$INCLUDE-musl/crypt.h"
}

# headers LIBC: the folder of them
headers() {
    case $1 in
        glibc) echo "$INCLUDE" ;;
        musl)  echo "$INCLUDE-musl" ;;
    esac
}

header_path() {
    local file

    for file in "/usr/include/$1" "/usr/include/$(uname -m)-linux-gnu/$1"; do
        if [ -f "$file" ]; then
            echo "$file"
            return
        fi
    done

    die "there is no header $1"
}

# uname_of ARCH: makes a folder with the uname(1) of a machine to configure for, and prints it
uname_of() {
    local folder=$TOOLS/uname-$1

    mkdir -p "$folder"
    # shellcheck disable=SC2016
    printf '#!/bin/sh\ncase $1 in\n    -s) echo Linux ;;\n    -r) echo 4.18.0 ;;\n    *) echo %s ;;\nesac\n' "$1" \
        > "$folder/uname.$BASHPID"
    chmod +x "$folder/uname.$BASHPID"
    # Another one may be running it.
    mv "$folder/uname.$BASHPID" "$folder/uname"
    echo "$folder"
}

# placeholders ARCH LIBC: makes a folder of libraries to link against, and prints it
placeholders() {
    local folder=$TOOLS/lib-$1-$2 row name symbols

    if ! [ -f "$folder/made" ]; then
        rm -rf "$folder"
        mkdir -p "$folder"

        for row in "${PLACEHOLDERS[@]}"; do
            read -r name symbols <<< "$row"
            # shellcheck disable=SC2086
            printf 'int %s(void) { return 0; }\n' $symbols > "$folder/$name.c"
            "$ZIG" cc -target "$(zig_target "$1" "$2")" -shared -s -fno-builtin -w -o "$folder/lib$name.so" "$folder/$name.c"
        done

        touch "$folder/made"
    fi

    echo "$folder"
}

# Whether the toolchain on the PATH has the standard library for a target.
has_std() {
    [ -d "$(rustc --print sysroot)/lib/rustlib/$1/lib" ]
}

# prepare_rust ARCH LIBC: sets cargo to the command, and rustc to the compiler's name and version. The toolchain on
# the PATH makes what it can; the rest Debian's, which makes the standard library too.
prepare_rust() {
    local target
    target=$(rust_target "$1" "$2")

    if has_std "$target"; then
        cargo=(cargo zigbuild)
        rustc=$(rustc --version)
        sysroot=$(rustc --print sysroot)
    else
        unpack_rust
        cargo=(with_rust env CARGO="$RUST/usr/bin/cargo" "$TOOLS/python/bin/cargo-zigbuild" zigbuild
               -Zbuild-std=std,panic_unwind)
        rustc=$(cat "$RUST/version")
        sysroot=$(with_rust "$RUST/usr/bin/rustc" --print sysroot)
    fi
}
