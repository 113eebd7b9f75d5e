#!/bin/bash
# Owns "make dist": files to download, build/dist/, one for each nginx, processor and C library: the module, and what
# goes with it. The same commit gives the same bytes, wherever it lies.
#
# NGINX_VERSION   versions, those of packaging/matrix if empty
# ARCH, LIBC      x86_64 and aarch64, glibc and musl, both if empty
# JOBS            for how many pairs of these to work side by side
# SIGN_WITH       the key that gpg signs SHA256SUMS with; no signature if empty

requested=${NGINX_VERSION:-}

. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/dist/tools.sh"


# What the files are for was configured so by those who publish nginx: modules that fill gaps in nginx's signature.
# --with-compat does the rest. HTTP/3 changes nothing for this module.
CONFIGURE=(--with-compat --with-threads --with-file-aio --with-http_ssl_module --with-http_v2_module
    --with-http_realip_module --with-http_addition_module --with-http_sub_module --with-http_dav_module
    --with-http_gunzip_module --with-http_gzip_static_module --with-http_auth_request_module
    --with-http_random_index_module --with-http_secure_link_module --with-http_slice_module
    --with-http_stub_status_module --with-stream --with-stream_ssl_module)

# The files that could not be made, one a line.
FAILED=$BUILD/dist-failed

# versions: those to make files for
versions() {
    if [ -n "$requested" ]; then
        # shellcheck disable=SC2086
        printf '%s\n' $requested
    else
        sed -n 's/^\([0-9][0-9.]*\).*/\1/p' packaging/matrix
    fi
}

# one_of NAME VALUE ALLOWED...
check_choice() {
    local name=$1 value=$2 word
    shift 2

    for word in $value; do
        case " $* " in
            *" $word "*) ;;
            *) die "$name is \"$word\": it is one of $*" ;;
        esac
    done
}

# All that the configured tree depends on.
key() {
    echo "$1" "${CONFIGURE[@]}" "${PLACEHOLDERS[@]}" "$GLIBC"
    sha256sum script/dist/cc script/dist/requirements.txt
    (cd "$INCLUDE" && find . -type f -exec sha256sum {} + | LC_ALL=C sort)
}

# configure VERSION ARCH LIBC: makes $tree, nginx's source with the headers that ./configure writes
configure() {
    local version=$1 arch=$2 libc=$3 libraries cc_opt emulator configure
    local log=dist-$version-$arch-$libc

    tree=$BUILD/dist-trees/$version-$arch-$libc

    if [ -f "$tree/configured-from" ] && key "$*" | cmp -s - "$tree/configured-from"; then
        return
    fi

    rm -rf "$tree"
    mkdir -p "${tree%/*}"
    script/nginx-source.sh "$version" "$tree" || return 1

    libraries=$(placeholders "$arch" "$libc")
    cc_opt="-I$(headers "$libc") -Wno-error -w"
    # Before the PATH has the uname(1) of the other machine.
    emulator=$(emulator "$arch")

    (
        cd "$tree" || exit 1
        configure=$(configure_script)

        PATH=$(uname_of "$arch"):$PATH DIST_ZIG=$ZIG DIST_TARGET=$(zig_target "$arch" "$libc") DIST_EMULATOR=$emulator \
            run_logged "$log-configure" sh "$configure" --with-cc="$ROOT/script/dist/cc" --with-cc-opt="$cc_opt" \
                --with-ld-opt="-L$libraries" "${CONFIGURE[@]}"
    ) || return 1

    key "$*" > "$tree/configured-from"
}

# The folders of this machine are not to be found in what is made.
remap() {
    local home=${CARGO_HOME:-${HOME:-}/.cargo}

    # Where two fit, the last one counts.
    printf -- "--remap-path-prefix=%s=%s " "$ROOT" . "$home" cargo "$RUST" rust "$sysroot" rust "$target_dir" target
}

# build VERSION ARCH LIBC: makes $so
build() {
    local version=$1 arch=$2 libc=$3 target zig
    target=$(rust_target "$arch" "$libc")
    zig=$target

    [ "$libc" = musl ] || zig=$target.$GLIBC

    # One folder for all versions of nginx: what does not know its headers is compiled once.
    target_dir=$BUILD/dist-target/$arch-$libc
    so=$BUILD/dist-modules/$version-$arch-$libc.so

    rustflags="-Cstrip=symbols"
    # Else a target of musl makes no shared object.
    [ "$libc" != musl ] || rustflags+=" -Ctarget-feature=-crt-static"

    # A commit that changes nothing of the module gets the same.
    if [ -f "$so" ] && key_of_module | cmp -s - "$so.built-from"; then
        return
    fi

    # As it is now: what changes while cargo is at work is not in the file.
    mkdir -p "${so%/*}"
    key_of_module > "$so.building-from"
    rm -f "$so"
    NGINX_SOURCE_DIR=$tree NGINX_BUILD_DIR=$tree/objs RUSTFLAGS="$rustflags $(remap)" \
        run_logged "dist-$version-$arch-$libc-cargo" "${cargo[@]}" --locked --release --target "$zig" \
            --target-dir "$target_dir" || return 1

    mv "$so.building-from" "$so.built-from"
    cp "$target_dir/$target/release/lib$MODULE.so" "$so"
}

# All that the module is made of.
key_of_module() {
    echo "$rustc $rustflags"
    cat "$tree/configured-from"
    sum_of_tree "$tree/src"
    find src core build.rs Cargo.toml Cargo.lock auto/patch -type f -exec sha256sum {} + | LC_ALL=C sort
}

# What goes with the module. FOLDER is the one that is packed.
add_papers() {
    local version=$1 arch=$2 libc=$3 folder=$4 target metadata
    target=$(rust_target "$arch" "$libc")
    metadata=$BUILD/dist-metadata-$target.json

    cargo metadata --locked --format-version 1 --filter-platform "$target" > "$metadata"

    DIST_VERSION=$(module_version) DIST_NGINX=$version DIST_ARCH=$arch DIST_LIBC=$libc DIST_GLIBC=$GLIBC \
        DIST_TARGET=$target DIST_RUSTC=$rustc DIST_RUSTFLAGS=$rustflags DIST_CONFIGURE="${CONFIGURE[*]}" \
        DIST_COMMIT=$commit DIST_CLEAN=$clean DIST_EPOCH=$SOURCE_DATE_EPOCH \
        DIST_NGINX_SUM=$(sum_of_tree "$tree/src") DIST_NGINX_LICENSE=$(nginx_license) \
        DIST_OPENSSL=$(sed -n 's/^# *define OPENSSL_VERSION_TEXT "\(.*\)"/\1/p' "$INCLUDE/openssl/opensslv.h") \
        DIST_STD_LICENSE=$(std_license) DIST_ZIG_FOLDER=${ZIG%/*} DIST_REQUIREMENTS=script/dist/requirements.txt \
        perl script/dist/papers.pl "$metadata" "$folder"
}

# nginx's licence is the one of this module, with other holders: those whom its headers name.
nginx_license() {
    local file=$BUILD/dist-pack/nginx-LICENSE-${tree##*/}

    mkdir -p "${file%/*}"
    {
        find "$tree/src" -name '*.h' -exec sed -n 's/^ *\*\{0,1\} *\(Copyright (C) .*\)/\1/p' {} + | LC_ALL=C sort -u
        echo
        sed '1,/^Copyright/d' LICENSE | sed '/./,$!d'
    } > "$file"
    echo "$file"
}

# Whose code Rust's standard library is, as it comes with the compiler.
std_license() {
    local file

    for file in "$sysroot/share/doc/rust/COPYRIGHT-library.html" "$RUST/usr/share/doc/rust-web-src/copyright"; do
        [ ! -f "$file" ] || echo "$file"
    done | head -n 1
}

sum_of_tree() {
    (cd "$1" && find . -type f ! -name '*.orig' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) | sha256sum | cut -d ' ' -f 1
}

pack() {
    local name folder
    name=$(file_name "$@")
    folder=$BUILD/dist-pack/$name

    rm -rf "$folder"
    mkdir -p "$folder" "$DIST"
    cp "$so" "$folder/$MODULE.so"
    cp LICENSE packaging/proxy_connect.conf "$folder/"
    check_file "$folder/$MODULE.so" "$3" || return 1
    add_papers "$@" "$folder" || return 1

    # Whoever builds it, and whenever.
    chmod -R u=rwX,go=rX "$folder"
    tar --format=ustar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
        -C "$BUILD/dist-pack" -cf - "$name" | gzip -n -9 > "$DIST/$name.tar.gz.new"
    mv "$DIST/$name.tar.gz.new" "$DIST/$name.tar.gz"
    rm -rf "$folder"
}

# What would make the file of no use elsewhere. A symbol of OpenSSL that only one of its versions has keeps nginx from
# loading it.
check_file() {
    local so=$1 libc=$2 bad

    bad=$(LC_ALL=C grep -a -o -F -e "$ROOT" -e "${CARGO_HOME:-${HOME:-}/.cargo}" -e "$TOOLS" "$so" | sort -u)
    [ -z "$bad" ] || {
        echo "error: the module names folders of this machine: $bad" >&2
        return 1
    }

    bad=$(readelf -d "$so" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' \
        | grep -v -x -e 'libc\.so.*' -e 'libpthread.so.0' -e 'libdl.so.2' -e 'libm.so.6' -e 'ld-linux-.*')
    [ -z "$bad" ] || {
        echo "error: the module needs libraries that not every nginx has loaded: $bad" >&2
        return 1
    }

    if [ "$libc" = glibc ]; then
        bad=$(readelf --dyn-syms -W "$so" | sed -n 's/.*@GLIBC_\([0-9.]*\).*/\1/p' | sort -V | tail -n 1)
        [ "$(printf '%s\n' "$bad" "$GLIBC" | sort -V | tail -n 1)" = "$GLIBC" ] || {
            echo "error: the module needs glibc $bad, and is to run with $GLIBC" >&2
            return 1
        }
    fi

    bad=$(readelf --dyn-syms -W "$so" | awk '$7 == "UND" { print $8 }' | grep -x -f script/dist/openssl-3-only)
    [ -z "$bad" ] || {
        echo "error: the module needs what only OpenSSL 3 has: $bad" >&2
        return 1
    }
}

# A file that another commit, or a state of no commit, has left must not be given out with those of this one.
drop_old_files() {
    local file

    for file in "$DIST"/*.tar.gz; do
        [ -f "$file" ] || continue

        tar -xzOf "$file" --wildcards '*/provenance.json' 2>/dev/null | grep -F -q "\"$commit\"" \
            && [[ $file == */"$MODULE-$(module_version)+"* ]] \
            || rm -f "$file"
    done
}

write_sums() {
    cp packaging/install.sh "$DIST/install.sh"
    (cd "$DIST" && LC_ALL=C sha256sum install.sh -- *.tar.gz > SHA256SUMS)

    # A signature of other sums is none.
    rm -f "$DIST/SHA256SUMS.asc"
    [ -z "${SIGN_WITH:-}" ] || (cd "$DIST" && gpg --batch --yes --armor --detach-sign -u "$SIGN_WITH" SHA256SUMS) \
        || die "gpg can't sign with \"$SIGN_WITH\": gpg --list-secret-keys shows what there is"
}

# row VERSION ARCH LIBC
row() {
    local started=$SECONDS

    step "nginx $1, $2, $3"

    if configure "$@" && build "$@" && pack "$@"; then
        note "$(file_name "$@").tar.gz, after $((SECONDS - started)) s"
    else
        echo "nginx $1, $2, $3" >> "$FAILED"
    fi
}

# rows_of ARCH LIBC: all versions, one after the other: they share what cargo has compiled. After prepare_rust.
rows_of() {
    local version

    for version in $(versions); do
        row "$version" "$@"
    done
}

main() {
    local arch libc version

    check_choice ARCH "${ARCH:=${ARCHES[*]}}" "${ARCHES[@]}"
    check_choice LIBC "${LIBC:=${LIBCS[*]}}" "${LIBCS[@]}"

    for version in $requested; do
        [[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || die "NGINX is \"$version\": a version is wanted, as 1.28.3"
        is_between 1.17.5 "$version" 99 || die "NGINX is $version: files for download begin with 1.17.5; for an" \
            "older one build the module with it"
    done

    [ -z "${SIGN_WITH:-}" ] || has_command gpg || die "there is no gpg to sign with"
    require_cargo
    local jobs=(build dist)
    [[ " $ARCH " != *' aarch64 '* ]] || jobs+=(aarch64)
    # shellcheck source=script/packages.sh
    . script/packages.sh "${jobs[@]}"

    commit=$(git rev-parse HEAD 2>/dev/null) || die "this is no clone of the project: what is given out names its commit"
    clean=true
    [ -z "$(git status --porcelain --untracked-files=no)" ] || clean=false
    [ "$clean" = true ] || note "changes are not committed: the files will say so"
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
    export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC

    prepare_tools
    mkdir -p "$DIST"
    drop_old_files

    : > "$FAILED"

    for arch in $ARCH; do
        for libc in $LIBC; do
            # Before two of them would get it at the same time.
            prepare_rust "$arch" "$libc"

            [ "$(jobs -rp | wc -l)" -lt "$JOBS" ] || wait -n || true
            { (rows_of "$arch" "$libc") || echo "$arch, $libc" >> "$FAILED"; } &
        done
    done

    wait

    [ -n "$(ls "$DIST"/*.tar.gz 2>/dev/null)" ] || die "no file was made: $(paste -s -d , "$FAILED")"
    write_sums
    step "In $DIST"
    (cd "$DIST" && ls -1)

    [ ! -s "$FAILED" ] || die "not made, for the reasons above: $(paste -s -d , "$FAILED")"
}

main
