#!/bin/bash
# Owns the built nginx trees, build/nginx-VERSION-PROFILE-LINK-CORE. A tree is made anew when
# anything that it was configured from has changed; else make has little or nothing to do.
#
# nginx-build.sh VERSION PROFILE LINK CORE
#   PROFILE  run, test, asan, suite or bench: the set of nginx's own modules; asan is test, with
#            AddressSanitizer, and each allocation from a pool one of the system's
#   LINK     dynamic, static, or none: without our module
#   CORE     patched or stock

. "$(dirname "$0")/common.sh"

version=$1
profile=$2
link=$3
core=$4

log=nginx-$version-$profile-$link-$core
tree=$BUILD/$log

flags=(--prefix="$tree/prefix" --with-threads --with-http_ssl_module --with-http_realip_module
       --with-http_auth_request_module)

case $profile in
    run) ;;
    test | asan)
        flags+=(--with-compat --with-debug --with-select_module --with-poll_module
                --with-http_v2_module --with-http_stub_status_module --with-stream
                --with-stream_ssl_module)
    ;;
    bench) flags+=(--with-stream --with-stream_ssl_module) ;;
    suite)
        flags+=(--with-debug --with-http_v2_module --with-http_v3_module
                --with-http_addition_module --with-http_sub_module --with-http_dav_module
                --with-http_gunzip_module --with-http_gzip_static_module
                --with-http_random_index_module --with-http_secure_link_module
                --with-http_slice_module --with-http_stub_status_module
                --with-mail --with-mail_ssl_module --with-stream --with-stream_ssl_module
                --with-stream_realip_module --with-stream_ssl_preread_module)
    ;;
    *) die "PROFILE is \"$profile\": it is one of run, test, asan, suite, bench" ;;
esac

case $link in
    dynamic) flags+=(--add-dynamic-module="$ROOT") ;;
    static)  flags+=(--add-module="$ROOT") ;;
    none)    ;;
    *) die "LINK is \"$link\": it is one of dynamic, static" ;;
esac

case $core in
    patched | stock) ;;
    *) die "CORE is \"$core\": it is one of patched, stock" ;;
esac

if [ "$profile" = asan ]; then
    flags+=(--with-cc-opt='-fsanitize=address -fno-omit-frame-pointer -DNGX_DEBUG_PALLOC=1'
            --with-ld-opt=-fsanitize=address)
    export ASAN_OPTIONS=$ASAN_QUIET
fi

case $version in
    # They don't know OpenSSL 3's deprecations.
    1.1[4-9].* | 1.2[01].*) flags+=(--with-cc-opt=-Wno-error) ;;
esac

# All that the configured tree depends on.
key() {
    echo "$version ${flags[*]}"

    if [ "$link" != none ]; then
        sha256sum config config.make auto/*
    fi

    if [ "$core" = patched ]; then
        sha256sum "$PATCH"
    fi
}

make_tree() {
    rm -rf "$tree"

    step "Unpacking nginx $version"
    script/nginx-source.sh "$version" "$tree"
    cd "$tree"

    if [ "$core" = patched ]; then
        step "Patching nginx $version: patch/${PATCH##*/}"
        patch -p1 < "$PATCH" > "$LOGS/$log-patch.log" \
            || die "the patch does not apply to nginx $version; see $LOGS/$log-patch.log"
    fi

    # A release has ./configure; nginx's repository, and so the crate, has it in auto/.
    local configure=./configure
    [ -f $configure ] || configure=auto/configure

    step "Configuring nginx $version, core: $core, module: $link"
    run_logged "$log-configure" sh $configure "${flags[@]}"

    cd "$ROOT"
    key > "$tree/configured-from"
}

if [ "$link" != none ]; then
    require_cargo
fi

if ! [ -f "$tree/configured-from" ] || ! key | cmp -s - "$tree/configured-from"; then
    make_tree
fi

step "Building nginx $version, core: $core, module: $link"
run_logged "$log-make" make -C "$tree" -j"$JOBS"
