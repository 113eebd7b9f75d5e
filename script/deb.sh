#!/bin/bash
# Owns "make deb": the package of the module for the distribution's nginx, in build/deb/.
#
# deb.sh    prints the path of the package; all else goes to standard error.
#           SUITE=bullseye, bookworm or trixie: for the nginx of that release, made in a root of it

. "$(dirname "$0")/common.sh"

exec 3>&1 >&2

package=libnginx-mod-http-proxy-connect
output=$BUILD/deb
source=$output/source

# What dh_nginx does is done by debian/rules where there is none, in Debian 11.
need_for_deb() {
    if [ "$(release)" != debian11 ]; then
        need nginx-dev has_command dh_nginx
    fi

    need debhelper has_command dh
}

# As debian12 or ubuntu24.04.
release() (
    # shellcheck disable=SC1091
    . /etc/os-release

    echo "$ID$VERSION_ID"
)

is_another_suite() (
    # shellcheck disable=SC1091
    . /etc/os-release

    [ -n "$1" ] && [ "$1" != "${VERSION_CODENAME:-}" ]
)

# Cargo.toml's version with Debian's revision, and the release that it is for, so that each upgrade of the
# system is one of the package. A pre-release sorts before its release.
package_version() {
    local version

    version=$(module_version)
    [ -n "$version" ] || die "Cargo.toml has no version"

    echo "${version/-/\~}-1~$(release | sed 's/^debian/deb/')"
}

maintainer() {
    sed -n 's/^Maintainer: //p' packaging/debian/control
}

write_changelog() {
    cat <<CHANGELOG
nginx-mod-http-proxy-connect ($version) unstable; urgency=medium

  * The module's version ${version%-*}; see changelog.gz beside this file.

 -- $(maintainer)  $(date -u -R -d "@$(source_date_epoch)")
CHANGELOG
}

# The folder in which debhelper works.
make_source() {
    rm -rf "$source"
    mkdir -p "$source"

    cp -R packaging/debian "$source/debian"
    cp "$module" CHANGELOG.md "$source/"
    documents | xargs cp -t "$source/" --parents
    write_changelog > "$source/debian/changelog"
}

# Works without root: debhelper writes root as the owner of all files.
make_package() {
    local log=$LOGS/deb.log

    (cd "$source" && DEB_RULES_REQUIRES_ROOT=no debian/rules binary) > "$log" 2>&1 </dev/null || {
        cat "$log"
        die "debhelper did not make the package, for the reason it gives above"
    }
}

SUITE=${SUITE:-}

if is_another_suite "$SUITE"; then
    exec script/debian-root.sh "$SUITE" env SUITE= script/deb.sh >&3
fi

require_cargo

# shellcheck source=script/packages.sh
. script/packages.sh build deb

# cargo would build all anew at another time.
module=$(env -u SOURCE_DATE_EPOCH script/debian-nginx.sh)
version=$(package_version)
file=$output/${package}_${version}_$(dpkg --print-architecture).deb

step "Packaging ${file##*/}"
make_source
rm -f "$file"
make_package

[ -f "$file" ] || die "debhelper made another package than $file; see $LOGS/deb.log"

note "install it with: apt-get install $file"
echo "$file" >&3
