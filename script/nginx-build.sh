#!/bin/bash
# Owns the built nginx trees, build/nginx-VERSION-PROFILE-LINK-CORE. A tree is made anew when
# anything that it was configured from has changed; else make has little or nothing to do.
#
# nginx-build.sh VERSION PROFILE LINK CORE
#   PROFILE  run, test, asan, suite, bench or package: the set of nginx's own modules; asan is test, with
#            AddressSanitizer, and each allocation from a pool one of the system's; package is as nginx.org
#            configures its packages
#   LINK     dynamic, static, or none: without our module
#   CORE     patched or stock

. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/crates.sh"

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
    package)
        flags+=(--with-compat --with-file-aio --with-http_addition_module --with-http_dav_module
                --with-http_flv_module --with-http_gunzip_module --with-http_gzip_static_module
                --with-http_mp4_module --with-http_random_index_module --with-http_secure_link_module
                --with-http_slice_module --with-http_stub_status_module --with-http_sub_module
                --with-http_v2_module --with-http_v3_module --with-mail --with-mail_ssl_module --with-stream
                --with-stream_realip_module --with-stream_ssl_module --with-stream_ssl_preread_module)
    ;;
    bench) flags+=(--with-stream --with-stream_ssl_module --with-http_v2_module) ;;
    suite)
        flags+=(--with-debug --with-http_v2_module --with-http_v3_module
                --with-http_addition_module --with-http_sub_module --with-http_dav_module
                --with-http_gunzip_module --with-http_gzip_static_module
                --with-http_random_index_module --with-http_secure_link_module
                --with-http_slice_module --with-http_stub_status_module
                --with-mail --with-mail_ssl_module --with-stream --with-stream_ssl_module
                --with-stream_realip_module --with-stream_ssl_preread_module)
    ;;
    *) die "PROFILE is \"$profile\": it is one of run, test, asan, suite, bench, package" ;;
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

patch=

if [ "$core" = patched ]; then
    patch=$(patch_of "$version")
    [ -n "$patch" ] || die "there is no patch for nginx $version: see patch/source/rows"
fi

cc_opt=

if is_between 0 "$version" 1.13.99; then
    cc_opt=$(old_cc_opt)
elif is_between 1.14.0 "$version" 1.21.99; then
    cc_opt=-Wno-error
fi

if [ "$profile" = asan ]; then
    cc_opt="$cc_opt -fsanitize=address -fno-omit-frame-pointer -DNGX_DEBUG_PALLOC=1"
    flags+=(--with-ld-opt=-fsanitize=address)
    export ASAN_OPTIONS=$ASAN_QUIET
fi

[ -z "$cc_opt" ] || flags+=(--with-cc-opt="$cc_opt")

# IPv6 was no default once.
if is_between 0 "$version" 1.11.4; then
    flags+=(--with-ipv6)
fi

# They don't know OpenSSL 3.
if is_between 0 "$version" 1.9.2; then
    mapfile -t flags < <(printf '%s\n' "${flags[@]}" | grep -v '^--with-.*_ssl_module$')
fi

# All that the configured tree depends on.
key() {
    echo "$version ${flags[*]}"

    if [ "$link" != none ]; then
        sha256sum config config.make auto/*
    fi

    if [ -n "$patch" ]; then
        sha256sum "$patch"
    fi
}

make_tree() {
    rm -rf "$tree"

    step "Unpacking nginx $version"
    script/nginx-source.sh "$version" "$tree"
    cd "$tree"

    if [ -n "$patch" ]; then
        step "Patching nginx $version: patch/${patch##*/}"
        patch -p1 < "$patch" > "$LOGS/$log-patch.log" \
            || die "the patch does not apply to nginx $version; see $LOGS/$log-patch.log"
    fi

    local configure known
    configure=$(configure_script)

    step "Configuring nginx $version, core: $core, module: $link"
    mapfile -t known < <(known_flags "$configure" "${flags[@]}")
    run_logged "$log-configure" sh "$configure" "${known[@]}"

    [ "$link" = none ] || take_crates objs
    cd "$ROOT"
    key > "$tree/configured-from"
}

if [ "$link" != none ]; then
    require_cargo
fi

# The first that knows PCRE2.
if is_between 0 "$version" 1.21.4; then
    script/packages.sh pcre1
fi

if ! [ -f "$tree/configured-from" ] || ! key | cmp -s - "$tree/configured-from"; then
    make_tree
fi

step "Building nginx $version, core: $core, module: $link"
run_logged "$log-make" make -C "$tree" -j"$JOBS"

if [ "$link" != none ]; then
    cd "$tree"
    keep_crates
fi
