# shellcheck shell=bash
# Owns the nginx that the files of a distribution are tried with: none of them is configured by script/dist.sh.
# Sourced, after common.sh and tools.sh.

HOSTS=$BUILD/dist-hosts

DEBIAN_SUITES=(bullseye bookworm trixie)

# As the packages of nginx.org have been configured, "nginx -V".
NGINX_ORG=(--prefix=/etc/nginx --sbin-path=/usr/sbin/nginx --modules-path=/usr/lib/nginx/modules
    --conf-path=/etc/nginx/nginx.conf --error-log-path=/var/log/nginx/error.log
    --http-log-path=/var/log/nginx/access.log --pid-path=/run/nginx.pid --lock-path=/run/nginx.lock
    --http-client-body-temp-path=/var/cache/nginx/client_temp --http-proxy-temp-path=/var/cache/nginx/proxy_temp
    --http-fastcgi-temp-path=/var/cache/nginx/fastcgi_temp --http-uwsgi-temp-path=/var/cache/nginx/uwsgi_temp
    --http-scgi-temp-path=/var/cache/nginx/scgi_temp --user=nginx --group=nginx --with-compat --with-file-aio
    --with-threads --with-http_addition_module --with-http_auth_request_module --with-http_dav_module
    --with-http_flv_module --with-http_gunzip_module --with-http_gzip_static_module --with-http_mp4_module
    --with-http_random_index_module --with-http_realip_module --with-http_secure_link_module
    --with-http_slice_module --with-http_ssl_module --with-http_stub_status_module --with-http_sub_module
    --with-http_v2_module --with-http_v3_module --with-mail --with-mail_ssl_module --with-stream
    --with-stream_realip_module --with-stream_ssl_module --with-stream_ssl_preread_module)
NGINX_ORG_CC="-g -O2 -fstack-protector-strong -Wformat -Werror=format-security -Wp,-D_FORTIFY_SOURCE=2 -fPIC"
NGINX_ORG_LD="-Wl,-z,relro -Wl,-z,now -Wl,--as-needed -pie"

# As RHEL 9's.
RHEL=(--prefix=/usr/share/nginx --sbin-path=/usr/sbin/nginx --modules-path=/usr/lib64/nginx/modules
    --conf-path=/etc/nginx/nginx.conf --error-log-path=/var/log/nginx/error.log
    --http-log-path=/var/log/nginx/access.log --http-client-body-temp-path=/var/lib/nginx/tmp/client_body
    --http-proxy-temp-path=/var/lib/nginx/tmp/proxy --http-fastcgi-temp-path=/var/lib/nginx/tmp/fastcgi
    --http-uwsgi-temp-path=/var/lib/nginx/tmp/uwsgi --http-scgi-temp-path=/var/lib/nginx/tmp/scgi
    --pid-path=/run/nginx.pid --lock-path=/run/lock/subsys/nginx --user=nginx --group=nginx --with-compat --with-debug
    --with-file-aio --with-http_addition_module --with-http_auth_request_module
    --with-http_dav_module --with-http_degradation_module --with-http_flv_module --with-http_gunzip_module
    --with-http_gzip_static_module --with-http_mp4_module
    --with-http_random_index_module --with-http_realip_module --with-http_secure_link_module
    --with-http_slice_module --with-http_ssl_module --with-http_stub_status_module --with-http_sub_module
    --with-http_v2_module --with-mail=dynamic --with-mail_ssl_module --with-pcre --with-pcre-jit
    --with-stream=dynamic --with-stream_ssl_module --with-stream_ssl_preread_module --with-threads)
RHEL_CC="-O2 -flto=auto -ffat-lto-objects -fexceptions -g -pipe -Wall -Wp,-D_FORTIFY_SOURCE=2 -fstack-protector-strong"
RHEL_LD="-Wl,-z,relro -Wl,--as-needed -Wl,-z,now -Wl,-E"

# As Alpine's.
ALPINE=(--prefix=/var/lib/nginx --sbin-path=/usr/sbin/nginx --modules-path=/usr/lib/nginx/modules
    --conf-path=/etc/nginx/nginx.conf --pid-path=/run/nginx/nginx.pid --lock-path=/run/nginx/nginx.lock
    --http-client-body-temp-path=/var/lib/nginx/tmp/client_body --http-proxy-temp-path=/var/lib/nginx/tmp/proxy
    --http-fastcgi-temp-path=/var/lib/nginx/tmp/fastcgi --http-uwsgi-temp-path=/var/lib/nginx/tmp/uwsgi
    --http-scgi-temp-path=/var/lib/nginx/tmp/scgi --user=nginx --group=nginx --with-threads --with-file-aio
    --with-http_ssl_module --with-http_v2_module --with-http_v3_module --with-http_realip_module
    --with-http_addition_module --with-http_sub_module --with-http_dav_module --with-http_flv_module
    --with-http_mp4_module --with-http_gunzip_module --with-http_gzip_static_module
    --with-http_auth_request_module --with-http_random_index_module --with-http_secure_link_module
    --with-http_degradation_module --with-http_slice_module --with-http_stub_status_module --with-mail=dynamic
    --with-mail_ssl_module --with-stream=dynamic --with-stream_ssl_module --with-stream_realip_module
    --with-stream_ssl_preread_module --with-compat)

# host_names: all that there can be, one a line
host_names() {
    local suite arch version who

    for arch in "${ARCHES[@]}"; do
        for suite in "${DEBIAN_SUITES[@]}"; do
            echo "debian-$suite-$arch"
        done
    done

    while read -r version who; do
        echo "nginx.org-$version-x86_64"
        echo "nginx.org-$version-aarch64"
        [[ $who != *RHEL* ]] || echo "rhel-$version-x86_64"
        echo "alpine-$version-x86_64"
        echo "alpine-$version-aarch64"
    done < <(grep '^[0-9]' packaging/matrix)
}

# host_row NAME: makes the host, and has prove_row try the file with it
host_row() {
    local rest version arch

    case $1 in
        debian-*)
            rest=${1#debian-}
            debian_host "${rest%%-*}" "${rest#*-}" || return 1
            prove_row "$1" "$launcher" "$version" "${rest#*-}" glibc "Debian's own, ${rest%%-*}: $openssl"
        ;;
        *)
            arch=${1##*-}
            version=${1%-*}
            version=${version##*-}

            case $1 in
                nginx.org-*-x86_64)
                    compiled_host "$1" "$version" "$NGINX_ORG_CC" "$NGINX_ORG_LD" "${NGINX_ORG[@]}" || return 1
                    prove_row "$1" "$launcher" "$version" "$arch" glibc "nginx.org's configure line"
                ;;
                nginx.org-*)
                    foreign_host "$1" "$version" "$arch" glibc "${NGINX_ORG[@]}" || return 1
                    prove_row "$1" "$launcher" "$version" "$arch" glibc "nginx.org's configure line"
                ;;
                rhel-*)
                    compiled_host "$1" "$version" "$RHEL_CC" "$RHEL_LD" "${RHEL[@]}" || return 1
                    prove_row "$1" "$launcher" "$version" "$arch" glibc "RHEL's configure line"
                ;;
                alpine-*)
                    foreign_host "$1" "$version" "$arch" musl "${ALPINE[@]}" || return 1
                    prove_row "$1" "$launcher" "$version" "$arch" musl "Alpine's configure line"
                ;;
            esac
        ;;
    esac
}

# --- Debian's own binaries

# debian_host SUITE ARCH: sets launcher, version, and openssl, which one it is linked with
debian_host() {
    local suite=$1 arch=$2 root=$HOSTS/debian-$1-$2 package=nginx libraries loader
    [ "$suite" != bullseye ] || package=nginx-core
    launcher=$root/launch-nginx

    if ! [ -x "$launcher" ]; then
        step "Unpacking nginx of Debian $suite, $arch"
        rm -rf "$root"
        mkdir -p "$HOSTS"

        unpack_debian "dist-host-$suite-$arch" "$root" "$suite" "$arch" "$package" || return 1
        libraries=$root/usr/lib/$arch-linux-gnu:$root/lib/$arch-linux-gnu

        if [ "$arch" = "$(uname -m)" ]; then
            loader=$(find "$root" -name 'ld-linux-*.so.*' | head -n 1)
            printf '#!/bin/sh\nexec %s --library-path %s %s "$@"\n' "$loader" "$libraries" "$root/usr/sbin/nginx"
        else
            printf '#!/bin/sh\nexec qemu-%s -L %s %s "$@"\n' "$arch" "$root" "$root/usr/sbin/nginx"
        fi > "$launcher"
        chmod +x "$launcher"
    fi

    version=$("$launcher" -v 2>&1 | sed -n 's|^nginx version: nginx/\([0-9.]*\).*|\1|p')
    openssl=$("$launcher" -V 2>&1 | sed -n 's/^\(built\|running\) with \(OpenSSL [0-9a-z.]*\).*/\2/p' | head -n 1)
    [ -n "$version" ]
}

# unpack_debian LOG ROOT SUITE ARCH PACKAGE: unpacked and not installed, no program of it runs
unpack_debian() {
    local log=$1 root=$2 suite=$3 arch=amd64 package=$5 folder
    [ "$4" = x86_64 ] || arch=arm64

    run_logged "$log" mmdebstrap --variant=extract --architectures="$arch" \
        --aptopt='Acquire::Check-Valid-Until "false"' --include="$package" "$suite" "$root" "deb $(mirror) $suite main" \
        || return 1

    for folder in lib lib64; do
        [ -e "$root/$folder" ] || ln -s "usr/$folder" "$root/$folder"
    done
}

# From where this machine has its own packages.
mirror() {
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(REPO_URI)' | grep '/debian/*$' | head -n 1
}

# --- compiled ones

# compiled_host NAME VERSION CC_OPT LD_OPT FLAG...: sets launcher
compiled_host() {
    local name=$1 version=$2 cc_opt=$3 ld_opt=$4 tree=$HOSTS/$1 configure known
    shift 4
    launcher=$tree/objs/nginx

    [ ! -x "$launcher" ] || return 0
    rm -rf "$tree"
    mkdir -p "$HOSTS"
    script/nginx-source.sh "$version" "$tree" || return 1

    (
        cd "$tree" || exit 1
        configure=$(configure_script)
        mapfile -t known < <(known_flags "$configure" "$@")

        # Old ones don't know OpenSSL 3.
        ! is_between 0 "$version" 1.21.99 || cc_opt+=" -Wno-error"

        step "Compiling nginx $version as $name"
        run_logged "dist-host-$name-configure" sh "$configure" "${known[@]}" --with-cc-opt="$cc_opt" --with-ld-opt="$ld_opt" \
            && run_logged "dist-host-$name-make" make -j"$JOBS"
    ) || return 1
}

# --- for other systems

PCRE_CRATE=0.2.10
PCRE1_CRATE=0.2.2
ZLIB_CRATE=1.1.33

# foreign_libraries ARCH LIBC: sets libraries, a folder with what an nginx for another system is linked with: OpenSSL as
# a wheel has it, PCRE2 and zlib from the crates that carry their source.
foreign_libraries() {
    local arch=$1 libc=$2 crate platform target
    libraries=$TOOLS/host-libraries-$1-$2
    crate=$libraries/crates
    platform=musllinux_1_2_$arch
    [ "$libc" = musl ] || platform=manylinux_2_28_$arch
    target=$(zig_target "$arch" "$libc")

    ! key_of_libraries | cmp -s - "$libraries/made-from" || return 0
    step "OpenSSL, PCRE2 and zlib for $target"
    rm -rf "$libraries"
    mkdir -p "$crate/src" "$libraries/include" "$libraries/lib"

    run_logged "host-wheel-$arch-$libc" python3 -m pip download -q --disable-pip-version-check --no-deps --require-hashes \
        --platform "$platform" --python-version 3.12 --only-binary=:all: -d "$libraries" \
        -r script/dist/hosts-requirements.txt || return 1
    python3 -m zipfile -e "$libraries"/*.whl "$libraries/wheel"
    mv "$libraries"/wheel/*.libs/* "$libraries/lib/"
    (cd "$libraries/lib" && ln -s libssl-*.so.* libssl.so && ln -s libcrypto-*.so.* libcrypto.so)
    cp -R "$INCLUDE/openssl" "$libraries/include/"
    # What old ones can't do without, which glibc leaves to another library.
    [ "$libc" = musl ] || {
        cp "$INCLUDE/crypt.h" "$libraries/include/"
        (cd "$libraries/lib" && ln -s libcrypt-*.so.* libcrypt.so)
    }

    touch "$crate/src/lib.rs"
    printf '%s\n' '[package]' 'name = "fetch-libraries"' 'version = "0.0.0"' 'edition = "2021"' '[dependencies]' \
        "pcre2-sys = \"=$PCRE_CRATE\"" "libpcre-sys = \"=$PCRE1_CRATE\"" \
        "libz-sys = \"=$ZLIB_CRATE\"" '[workspace]' > "$crate/Cargo.toml"
    run_logged "host-crates-$arch-$libc" cargo vendor --manifest-path "$crate/Cargo.toml" "$crate/vendor" || return 1

    (
        cd "$crate/vendor/pcre2-sys/upstream" || exit 1
        local sources
        mapfile -t sources < <(ls src/*.c | grep -v -e _jit_match -e _jit_misc -e _ucptables)
        "$ZIG" cc -target "$target" -O2 -w -fPIC -c -DPCRE2_CODE_UNIT_WIDTH=8 -DHAVE_CONFIG_H -DHAVE_STDLIB_H \
            -DHAVE_MEMMOVE -DPCRE2_STATIC -DSTDC_HEADERS -DSUPPORT_PCRE2_8 -DSUPPORT_UNICODE -Isrc -Ideps -Iinclude \
            "${sources[@]}"
        cp include/pcre2.h "$libraries/include/"
        "$ZIG" ar rcs "$libraries/lib/libpcre2-8.a" ./*.o

        # An old nginx knows PCRE's first version alone.
        cd "$crate" || exit 1
        tar -xjf vendor/libpcre-sys/ext/pcre-*.tar.bz2
        cd "$crate"/pcre-* || exit 1
        cp config.h.generic config.h
        cp pcre.h.generic pcre.h
        cp pcre_chartables.c.dist pcre_chartables.c
        mapfile -t sources < <(ls pcre_*.c | grep -v -e pcre_printint -e pcre_jit_test)
        "$ZIG" cc -target "$target" -O2 -w -fPIC -c -DHAVE_CONFIG_H -DSUPPORT_UTF -DSUPPORT_UCP -DPCRE_STATIC -I. "${sources[@]}"
        cp pcre.h "$libraries/include/"
        "$ZIG" ar rcs "$libraries/lib/libpcre.a" ./*.o

        cd "$crate/vendor/libz-sys/src/zlib" || exit 1
        "$ZIG" cc -target "$target" -O2 -w -fPIC -c -DHAVE_UNISTD_H ./*.c
        cp zlib.h zconf.h "$libraries/include/"
        "$ZIG" ar rcs "$libraries/lib/libz.a" ./*.o
        # The wheel's OpenSSL for glibc takes it from the system.
        "$ZIG" cc -target "$target" -shared -s -Wl,-soname,libz.so.1 -o "$libraries/lib/libz.so.1" ./*.o
    ) > "$LOGS/host-libraries-$arch-$libc.log" 2>&1 || return 1

    key_of_libraries > "$libraries/made-from"
}

# All that they are made of.
key_of_libraries() {
    declare -f foreign_libraries
    echo "$PCRE_CRATE $PCRE1_CRATE $ZLIB_CRATE"
    cat script/dist/hosts-requirements.txt
}

# c_library ARCH LIBC: sets runner, the command that runs a program of that processor and C library, "" where none is
# needed. musl is that of Debian 13, 1.2.5, as Alpine has it: the wheel's libraries have relocations of a kind (RELR)
# that 1.2.3 skips without a word, and Debian 12's is without crypt_r(3).
c_library() {
    local root=$HOSTS/musl-$1

    case $1-$2 in
        "$(uname -m)"-glibc) runner= ;;
        *-glibc) runner="qemu-$1 -L /usr/$1-linux-gnu" ;;
        *-musl)
            if ! [ -e "$root/lib/ld-musl-$1.so.1" ]; then
                step "Unpacking musl of Debian trixie, $1"
                rm -rf "$root"
                mkdir -p "$HOSTS"
                unpack_debian "dist-host-musl-$1" "$root" trixie "$1" musl || return 1
            fi

            runner="qemu-$1 -L $root"
            [ "$1" != "$(uname -m)" ] || runner=$root/lib/ld-musl-$1.so.1
        ;;
    esac
}

# foreign_host NAME VERSION ARCH LIBC FLAG...: sets launcher
foreign_host() {
    local name=$1 version=$2 arch=$3 libc=$4 tree=$HOSTS/$1 configure known libraries runner
    shift 4
    launcher=$tree/launch-nginx

    [ ! -x "$launcher" ] || return 0
    foreign_libraries "$arch" "$libc" || return 1
    c_library "$arch" "$libc" || return 1
    rm -rf "$tree"
    mkdir -p "$HOSTS"
    script/nginx-source.sh "$version" "$tree" || return 1

    (
        cd "$tree" || exit 1
        configure=$(configure_script)
        mapfile -t known < <(known_flags "$configure" "$@")

        step "Compiling nginx $version as $name"
        export DIST_ZIG=$ZIG DIST_EMULATOR=$runner
        # What ./configure runs is in part linked without a loader; the rest is served by any musl.
        [ "$arch" != "$(uname -m)" ] || DIST_EMULATOR=
        DIST_TARGET=$(zig_target "$arch" "$libc")
        export DIST_TARGET PATH
        PATH=$(uname_of "$arch"):$PATH
        # In zig's stand-in for musl all variables have one address: a program that is not position-independent is given
        # one copy of them all, and musl itself reads "environ" there.
        run_logged "dist-host-$name-configure" sh "$configure" "${known[@]}" --with-cc="$ROOT/script/dist/cc" \
                --with-cc-opt="-O1 -w -fPIC -I$libraries/include" \
                --with-ld-opt="-L$libraries/lib -Wl,-rpath,$libraries/lib -Wl,-E -dynamic" \
            && run_logged "dist-host-$name-make" make -j"$JOBS"
    ) || return 1

    printf '#!/bin/sh\nexec %s %s "$@"\n' "$runner" "$tree/objs/nginx" > "$launcher"
    chmod +x "$launcher"
}
