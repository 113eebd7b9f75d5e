#!/bin/bash
# Owns roots of other releases of Debian, in build/debian-root/: one is made with mmdebstrap where there is none, and
# brought up to date once a day. This machine's Rust and the project's folder are mounted into it.
#
# debian-root.sh SUITE COMMAND...    runs the command there, in the project's folder, as root, with the time of
#                                    the commit in SOURCE_DATE_EPOCH: the root has no git

. "$(dirname "$0")/common.sh"

suite=$1
shift

root=$BUILD/debian-root/$suite
cargo_home=${CARGO_HOME:-${HOME:-/root}/.cargo}
rustup_home=${RUSTUP_HOME:-${HOME:-/root}/.rustup}

need_for_debian_root() {
    need mmdebstrap has_command mmdebstrap
}

# What builds and tests a package there. Debian 11 has no package to build modules with, and its nginx takes PCRE 1.
packages() {
    echo "ca-certificates,gcc,libc6-dev,make,patch,perl,libclang-dev,libpcre2-dev,zlib1g-dev,libssl-dev,dpkg-dev," \
        "debhelper,lintian,curl,openssl,binutils,procps,nginx," | tr -d ' \n'

    case $suite in
        bullseye) echo libpcre3-dev ;;
        *) echo nginx-dev ;;
    esac
}

make_root() {
    step "Making a root of $suite"

    rm -rf "$root" "$root.new"
    mkdir -p "$BUILD/debian-root"
    run_logged "debian-root-$suite" mmdebstrap --variant=minbase --include="$(packages)" "$suite" "$root.new" \
        || die "mmdebstrap can't make a root of $suite, for the reason it gives above"
    mv "$root.new" "$root"
}

refresh_root() {
    [ -z "$(find "$root/var/lib/apt/lists" -maxdepth 0 -mtime +0)" ] && return 0

    step "Bringing the root of $suite up to date"
    run_logged "debian-root-$suite" enter sh -c \
        'apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y dist-upgrade && touch /var/lib/apt/lists'
}

# enter COMMAND...: what is mounted goes with the command's end
enter() {
    # shellcheck disable=SC2016
    unshare --mount --pid --fork --kill-child sh -euc '
        root=$1 project=$2
        shift 2

        mount --make-rprivate /
        mount -t tmpfs tmpfs "$root/tmp"
        for folder in "$project" "$1" "$2"; do
            [ ! -d "$folder" ] || { mkdir -p "$root$folder" && mount --bind "$folder" "$root$folder"; }
        done
        shift 2

        # A root is not to be seen from within: cargo looks through the folder of a project.
        mount -t tmpfs tmpfs "$root$project/build/debian-root"

        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        cp -L /etc/resolv.conf /etc/hosts "$root/etc/"

        exec chroot "$root" sh -euc "cd \"\$1\"; shift; exec \"\$@\"" sh "$project" "$@"
    ' sh "$root" "$ROOT" "$cargo_home" "$rustup_home" \
        env CARGO_HOME="$cargo_home" RUSTUP_HOME="$rustup_home" CARGO_NET_OFFLINE=true \
        SOURCE_DATE_EPOCH="$(source_date_epoch)" "$@"
}

is_root || die "run this as root: what is for $suite is made in a root of it"

case $suite in
    bullseye | bookworm | trixie) ;;
    *) die "SUITE is \"$suite\": it must be bullseye, bookworm or trixie" ;;
esac

require_cargo

# shellcheck source=script/packages.sh
. script/packages.sh debian_root >&2

[ -d "$root" ] || make_root >&2
refresh_root >&2

# The authorities and settings of this machine's network need not be known there.
run_logged debian-root-cargo cargo fetch --locked >&2

enter "$@"
