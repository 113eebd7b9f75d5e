#!/bin/bash
# Owns the check that what knows no nginx, the crate in core/, compiles for systems that this machine is not.
#
# other-systems.sh [TARGET...]

. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/debian-rust.sh"

TARGETS=(x86_64-unknown-freebsd x86_64-apple-darwin aarch64-apple-darwin)

main() {
    [ $# -gt 0 ] || set -- "${TARGETS[@]}"

    script/packages.sh build
    unpack_rust

    local target failed=0
    for target in "$@"; do
        step "core/ on $target, with $(cat "$RUST/version")"
        run_logged "other-systems-$target" check "$target" || failed=1
    done

    [ "$failed" = 0 ] || die "core/ does not compile for every system"
    step "core/ compiles for $*"
}

check() {
    CARGO_PROFILE_DEV_DEBUG=0 with_rust "$RUST/usr/bin/cargo" check --locked -Zbuild-std=std,panic_unwind \
        --target "$1" --target-dir "$RUST/target" -p proxy-connect-core
}

main "$@"
