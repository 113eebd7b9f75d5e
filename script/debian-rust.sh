# shellcheck shell=bash
# Owns a Rust whose standard library can be made for any target: Debian's, that comes with the library's
# source. rustup's needs a download for each target. It is unpacked below build/ and not
# installed: it does not go together with rustup.
# Sourced, after common.sh, by the scripts that build for another system.

# The compiler, cargo, and the library's source, which have to be of one version.
RUST_PACKAGES=(rustc-web cargo-web rust-web-src)

RUST=$BUILD/debian-rust

# Makes $RUST, unless it is there.
unpack_rust() {
    [ ! -f "$RUST/version" ] || return 0

    has_command apt-get || die "Debian's Rust comes with apt-get, which this machine does not have"

    step "Unpacking Debian's Rust: ${RUST_PACKAGES[*]}"
    rm -rf "$RUST"
    mkdir -p "$RUST/packages"

    # A fresh system has no list of packages yet.
    apt-cache show "${RUST_PACKAGES[0]}" >/dev/null 2>&1 || run_logged apt-update apt-get -q update

    local names package
    mapfile -t names < <(needed_for_rust | sort -u)
    (cd "$RUST/packages" && run_logged debian-rust apt-get -q download "${names[@]}")

    for package in "$RUST"/packages/*.deb; do
        dpkg-deb -x "$package" "$RUST"
    done

    rm -rf "$RUST/packages"
    with_rust "$RUST/usr/bin/rustc" --version > "$RUST/version" || {
        rm "$RUST/version"
        die "Debian's Rust does not run here"
    }
}

# The packages, and all that they depend on and this machine does not have.
needed_for_rust() {
    printf '%s\n' "${RUST_PACKAGES[@]}"
    apt-get -q --simulate --no-install-recommends install "${RUST_PACKAGES[@]}" \
        | sed -n 's/^Inst \([^ ]*\).*/\1/p'
}

# with_rust COMMAND...: with this rustc. That cargo makes the standard library is not stable.
with_rust() {
    env RUSTC="$RUST/usr/bin/rustc" RUSTDOC="$RUST/usr/bin/rustdoc" RUSTC_BOOTSTRAP=1 \
        LD_LIBRARY_PATH="$RUST/usr/lib/$(uname -m)-linux-gnu" "$@"
}
