#!/bin/bash
# Owns "make rpm": the package of the module for the nginx of nginx.org, or of RHEL and its like, in build/rpm/.
#
# rpm.sh    prints the path of the package; all else goes to standard error.
#           NGINX_VERSION=VERSION of the nginx that the package is for; REPO=nginx.org or rhel;
#           MODULE_FILE=FILE.so, or a file of "make dist", built for that nginx, which is the one that it says if
#           NGINX_VERSION is empty; without it the module is built here, for this machine's libc

# What the caller asks for, before common.sh fills it in.
asked_for=${NGINX_VERSION:-}

. "$(dirname "$0")/common.sh"

exec 3>&1 >&2

REPO=${REPO:-nginx.org}
MODULE_FILE=${MODULE_FILE:-}
work=$BUILD/rpm/work

need_for_rpm() {
    need rpm has_command rpmbuild
    need binutils has_command readelf
}

# For an nginx that was configured with --with-compat, as those of nginx.org and RHEL are.
build_module() {
    require_cargo
    script/packages.sh build
    script/nginx-build.sh "$NGINX_VERSION" package dynamic stock

    module=$BUILD/nginx-$NGINX_VERSION-package-dynamic-stock/objs/$MODULE.so
}

# The module of MODULE_FILE.
take_module() {
    module=$(realpath "$MODULE_FILE" 2>/dev/null) && [ -f "$module" ] || die "MODULE is \"$MODULE_FILE\": there is no such file"

    if [[ $module == *.tar.gz ]]; then
        rm -rf "$BUILD/rpm/unpacked"
        mkdir -p "$BUILD/rpm/unpacked"
        tar -x -z -C "$BUILD/rpm/unpacked" -f "$module" 2>/dev/null || die "MODULE is \"$MODULE_FILE\": it is no file of \"make dist\""
        module=$(find "$BUILD/rpm/unpacked" -name $MODULE.so | head -n 1)
        [ -n "$module" ] || die "MODULE is \"$MODULE_FILE\": there is no $MODULE.so in it"
    fi
}

# The machine that a module is for, as rpm calls it.
machine_of() {
    case $(readelf -h "$1" 2>/dev/null | sed -n 's/^ *Machine: *//p') in
        *X86-64*) echo x86_64 ;;
        *AArch64*) echo aarch64 ;;
        *) die "$1 is no module for x86_64 or aarch64" ;;
    esac
}

# The version of nginx in a module, as 1028003: the sixth word of the ngx_module_t that the first pointer of
# ngx_modules leads to. Nothing where there is none.
nginx_number_of() {
    local modules pointer address section size

    modules=$(readelf --dyn-syms -W "$1" | awk '$8 == "ngx_modules" { print $2; exit }')
    [ -n "$modules" ] || return 0

    # What the loader puts there: an address, or a symbol's.
    pointer=$(readelf -r -W "$1" | awk -v place="$modules" '
        $1 == place && $3 ~ /_RELATIVE$/ { print $4; exit }
        $1 == place { print $4; exit }')
    [ -n "$pointer" ] || return 0

    # The section that it is in: name, address, place in the file, size.
    while read -r _ address section size; do
        if ((0x$pointer >= 0x$address && 0x$pointer < 0x$address + 0x$size)); then
            od -A n -t u8 -j $((0x$pointer - 0x$address + 0x$section + 40)) -N 8 "$1" | tr -d ' '
            return 0
        fi
    done < <(readelf -S -W "$1" | sed -n 's/^ *\[ *[0-9]*\] //p' | awk '$2 == "PROGBITS" { print $1, $3, $4, $5 }')
}

# A package is for the nginx that is asked for, or for the one that the module says.
check_version() {
    local number wanted
    number=$(nginx_number_of "$module")

    if [ -z "$asked_for" ] && [[ $number =~ ^[0-9]{7}$ ]]; then
        NGINX_VERSION=$((number / 1000000)).$((number / 1000 % 1000)).$((number % 1000))
    fi

    # shellcheck disable=SC2046
    wanted=$(printf '%d%03d%03d' $(tr . ' ' <<< "$NGINX_VERSION"))

    [ "$number" = "$wanted" ] \
        || die "$module is for nginx ${number:-of no version} (as 1028003 is 1.28.3), and the package is to be for $NGINX_VERSION"
}

make_package() {
    rm -rf "$work"
    mkdir -p "$work/SOURCES"

    # A release carries no symbols, and names no folder of who built it.
    cp "$module" "$work/SOURCES/$MODULE.so"
    if has_strip; then
        strip --strip-unneeded "$work/SOURCES/$MODULE.so"
    fi
    cp LICENSE CHANGELOG.md packaging/debian/copyright "$work/SOURCES/"
    mkdir "$work/documents"
    documents | xargs cp -t "$work/documents" --parents
    tar -c -C "$work/documents" --sort=name --mtime="@$seconds" . > "$work/SOURCES/documents.tar"

    SOURCE_DATE_EPOCH=$seconds run_logged rpmbuild rpmbuild -bb --target "$machine-linux" \
        --define "_topdir $work" --define "_rpmdir $BUILD/rpm" --define "_rpmfilename $name" \
        --define "repo $REPO" --define "nginx_version $NGINX_VERSION" --define "module_version $version" \
        --define "changelog_date $(LC_ALL=C date -u -d "@$seconds" '+%a %b %d %Y')" \
        --define "_libdir /usr/lib64" --define "_licensedir /usr/share/licenses" \
        --define "_build_name reproducible" --define "_buildhost localhost" \
        --define "use_source_date_epoch_as_buildtime 1" --define "clamp_mtime_to_source_date_epoch 1" \
        packaging/rpm/nginx-module-proxy-connect.spec
}

# strip of this machine knows the module's.
has_strip() {
    [ "$machine" = "$(uname -m)" ]
}

case $REPO in
    nginx.org) package=nginx-module-proxy-connect ;;
    rhel) package=nginx-mod-http-proxy-connect ;;
    *) die "REPO is \"$REPO\": it must be nginx.org or rhel" ;;
esac

[[ $NGINX_VERSION =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] \
    || die "NGINX is \"$NGINX_VERSION\": it must be a version as 1.28.3"

# shellcheck source=script/packages.sh
. script/packages.sh rpm

if [ -n "$MODULE_FILE" ]; then
    take_module
else
    build_module
fi

machine=$(machine_of "$module")
check_version

seconds=$(source_date_epoch)
# A pre-release sorts before its release.
version=$(module_version)
version=${version/-/\~}
name=$package-$NGINX_VERSION+$version-1.$machine.rpm

step "Packaging $name"
make_package
[ -f "$BUILD/rpm/$name" ] || die "rpmbuild made another package than $name; see $LOGS/rpmbuild.log"

note "install it with: dnf install ./$name"
echo "$BUILD/rpm/$name" >&3
