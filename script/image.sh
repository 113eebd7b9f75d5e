#!/bin/bash
# Owns "make image": nginx of Debian with the module and an entrypoint, as an image of OCI in
# build/image/, made with no daemon. mmdebstrap chooses, fetches and verifies Debian's packages; those that
# packaging/image/packages names are unpacked, not installed.
#
# image.sh    prints the path of the image; all else goes to standard error.
#             SUITE=bookworm or trixie; MIRROR=URL where packages come from; SOURCE_DATE_EPOCH=SECONDS;
#             KEEP_PACKAGES=yes takes those that were fetched the last time

. "$(dirname "$0")/common.sh"

exec 3>&1 >&2

MAX_SIZE=$((60 * 1024 * 1024))

SUITE=${SUITE:-bookworm}
MIRROR=${MIRROR:-}
work=$BUILD/image/$SUITE
packages=$work/packages
root=$work/root

need_for_image() {
    need mmdebstrap has_command mmdebstrap
    need perl has_perl_module JSON::PP
}

# Sets wanted to the names in packaging/image/packages that are no patterns.
find_wanted() {
    mapfile -t wanted < <(grep -v -e '^#' -e '[*?]' packaging/image/packages)
}

# mmdebstrap makes a root that nobody needs, out of the packages that are wanted here.
fetch_packages() {
    step "Fetching Debian's packages, of $SUITE"
    rm -rf "$packages"
    mkdir -p "$packages"
    find_wanted

    local include
    include=$(IFS=,; echo "${wanted[*]}")

    run_logged image-fetch mmdebstrap --variant=extract --include="$include" \
        --extract-hook="cp \"\$1\"/var/cache/apt/archives/*.deb '$packages/'" \
        "$SUITE" "$work/unused.tar" ${MIRROR:+"$MIRROR"} \
        || die "mmdebstrap can't fetch Debian's packages of $SUITE, for the reason it gives above"
    rm -f "$work/unused.tar"
}

# kept NAME: the image is to have that package
kept() {
    local pattern

    while read -r pattern; do
        # shellcheck disable=SC2254
        case $1 in
            $pattern) return 0 ;;
        esac
    done < <(grep -v '^#' packaging/image/packages)

    return 1
}

# The module is for the nginx that goes into the image, and for no other.
check_abi() {
    local abi nginx=("$packages"/nginx_*.deb)

    abi=$(dpkg-deb -f "$1" Depends | grep -o 'nginx-abi-[^, ]*') || die "$1 does not say for which nginx it is"
    [[ $(dpkg-deb -f "${nginx[0]}" Provides) == *"$abi"* ]] \
        || die "the module is for $abi, and ${nginx[0]##*/} provides another: is this machine's nginx-dev up to date?"
}

# unpack FILE.deb: its files, and its description for scanners, in the way of images without dpkg
unpack() {
    local name
    name=$(dpkg-deb -f "$1" Package)

    dpkg-deb --fsys-tarfile "$1" | tar -x -C "$root" --keep-directory-symlink --no-same-owner \
        --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' --exclude='./usr/share/lintian/*' \
        --exclude='./usr/share/vim/*' --exclude='./usr/share/nginx/html/*' --exclude='./usr/share/apport/*' \
        --exclude='./usr/lib/*/gconv/*' --exclude='./usr/lib/*/audit/*' --exclude='./usr/lib/locale/*' \
        --exclude='./etc/init.d/*' --exclude='./etc/logrotate.d/*' --exclude='./etc/ufw/*' \
        --exclude='./etc/default/*' --exclude='./etc/update-motd.d/*' --exclude='*/systemd/system/*' \
        --exclude='./etc/nginx/*'
    dpkg-deb -f "$1" > "$root/var/lib/dpkg/status.d/$name"
    dpkg-deb --ctrl-tarfile "$1" | tar -x -O ./md5sums > "$root/var/lib/dpkg/status.d/$name.md5sums" 2>/dev/null \
        || rm "$root/var/lib/dpkg/status.d/$name.md5sums"
}

# Of a package's documents an image carries what its licence asks for.
remove_documents() {
    find "$root/usr/share/doc" -type f ! -name copyright -delete
    find "$root/usr/share/doc" -depth -type d -empty -delete
}

# A folder that is a link into /usr, as in every Debian of today.
merge_usr() {
    local folder

    for folder in bin sbin lib lib64; do
        mkdir -p "$root/usr/$folder"
        ln -s "usr/$folder" "$root/$folder"
    done
}

# busybox is each of its commands; it can be asked here which it has.
link_commands() {
    local busybox command
    busybox=$(find "$root/usr/bin" -name busybox)

    for command in $("$busybox" --list); do
        [ -e "$root/usr/bin/$command" ] || ln -s busybox "$root/usr/bin/$command"
    done
}

write_authorities() {
    mkdir -p "$root/etc/ssl/certs"
    find "$root/usr/share/ca-certificates" -name '*.crt' | LC_ALL=C sort | xargs cat \
        > "$root/etc/ssl/certs/ca-certificates.crt"
    rm -r "$root/usr/share/ca-certificates"
}

write_users() {
    printf '%s\n' 'root:x:0:0:root:/:/usr/sbin/nologin' 'proxy:x:65532:65532:proxy:/:/usr/sbin/nologin' \
        > "$root/etc/passwd"
    printf '%s\n' 'root:x:0:' 'proxy:x:65532:' > "$root/etc/group"
}

make_root() {
    local file name
    step "Unpacking into $root"

    rm -rf "$root"
    mkdir -p "$root/var/lib/dpkg/status.d" "$root/etc/nginx/http.d" "$root/etc/nginx/server.d"
    merge_usr

    : > "$work/packages.txt"
    for file in "$packages"/*.deb "$deb"; do
        name=$(dpkg-deb -f "$file" Package)
        if kept "$name" || [ "$file" = "$deb" ]; then
            unpack "$file"
            echo "$name $(dpkg-deb -f "$file" Version)" >> "$work/packages.txt"
        fi
    done

    remove_documents
    link_commands
    write_authorities
    write_users
    install -m 755 packaging/image/entrypoint.sh "$root/usr/sbin/proxy-connect"
    install -m 644 packaging/image/nginx.conf.template "$root/etc/nginx/"

    # Where a runtime mounts what it has to tell.
    mkdir -p "$root/dev" "$root/proc" "$root/sys" "$root/run"
    : > "$root/etc/resolv.conf"
    : > "$root/etc/hosts"
    : > "$root/etc/hostname"
    chmod -R o-w "$root"
    chmod 1777 "$root/tmp"
}

# The image's nginx takes the module, in nothing but the image's files.
try_root() {
    local missing file

    for file in "$root/usr/sbin/nginx" "$root"/usr/lib/nginx/modules/$MODULE.so; do
        missing=$(readelf -d "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | while read -r name; do
            [ -n "$(find "$root/usr/lib" "$root/usr/lib64" -name "$name" -print -quit)" ] || echo "$name"
        done)
        [ -z "$missing" ] || die "the image lacks what ${file##*/} is linked with:" $missing "(packaging/image/packages)"
    done
}

# Names, owners, modes and times that don't depend on this machine.
make_layer() {
    tar -c -C "$root" --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --mtime="@$seconds" . > "$work/layer.tar"
}

case $SUITE in
    bookworm | trixie) ;;
    *) die "SUITE is \"$SUITE\": an image can be made of bookworm and trixie" ;;
esac

# shellcheck source=script/packages.sh
. script/packages.sh image

seconds=$(source_date_epoch)
version=$(module_version)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
architecture=$(dpkg --print-architecture)
image=$BUILD/image/proxy-connect-$version-$SUITE-$architecture.tar

mkdir -p "$work"
deb=$(SUITE=$SUITE script/deb.sh)
if [ -z "${KEEP_PACKAGES:-}" ] || ! [ -d "$packages" ]; then
    fetch_packages
fi
check_abi "$deb"
make_root
try_root

step "Packing ${image##*/}"
make_layer
perl script/oci.pl packaging/image/config.json "$work/layer.tar" "proxy-connect:$version" "$seconds" "$architecture" \
    "$version" "$revision" > "$image.new"
mv "$image.new" "$image"

size=$(stat -c %s "$image")
[ "$size" -lt $MAX_SIZE ] || die "the image has $size bytes, and is to have less than $MAX_SIZE"

note "$((size / 1024)) KiB; docker load < $image"
note "sha256: $(sha256sum "$image" | cut -d' ' -f1)"
echo "$image" >&3
