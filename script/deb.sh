#!/bin/bash
# Owns "make deb": the package of the module for the distribution's nginx, in build/deb/.
#
# deb.sh    prints the path of the package; all else goes to standard error

. "$(dirname "$0")/common.sh"

exec 3>&1 >&2

package=libnginx-mod-http-proxy-connect
output=$BUILD/deb
source=$output/source

need_for_deb() {
    need nginx-dev has_command dh_nginx
    need debhelper has_command dh
}

# Cargo.toml's version with Debian's revision. A pre-release sorts before its release.
package_version() {
    local version

    version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
    [ -n "$version" ] || die "Cargo.toml has no version"

    echo "${version/-/\~}-1"
}

# When the packaged state was made, so that the same commit gives the same package.
source_date() {
    local seconds

    seconds=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}
    date -u -R -d "@$seconds"
}

maintainer() {
    sed -n 's/^Maintainer: //p' packaging/debian/control
}

write_changelog() {
    cat <<CHANGELOG
nginx-mod-http-proxy-connect ($version) unstable; urgency=medium

  * The module's version ${version%-*}; see changelog.gz beside this file.

 -- $(maintainer)  $(source_date)
CHANGELOG
}

# The folder in which debhelper works.
make_source() {
    rm -rf "$source"
    mkdir -p "$source"

    cp -R packaging/debian "$source/debian"
    cp "$module" README.md CHANGELOG.md "$source/"
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

require_cargo

# shellcheck source=script/packages.sh
. script/packages.sh build deb

module=$(script/debian-nginx.sh)
version=$(package_version)
file=$output/${package}_${version}_$(dpkg --print-architecture).deb

step "Packaging ${file##*/}"
make_source
rm -f "$file"
make_package

[ -f "$file" ] || die "debhelper made another package than $file; see $LOGS/deb.log"

note "install it with: apt-get install $file"
echo "$file" >&3
