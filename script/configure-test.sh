#!/bin/bash
# Owns the proof of what ./configure says to an nginx that the module can't be built for: real sources
# from NGINX_SOURCES, patched wrongly or not at all. Nothing is compiled but what make stops at.

. "$(dirname "$0")/common.sh"

HERE=$BUILD/configure-test

# A line for each case: "ok", or "no"
TOLD=$HERE/told

# What cargo made is kept between two runs.
CRATES=$HERE/crates

# The quickest to configure.
OPTIONS=(--without-http_rewrite_module --without-http_gzip_module)

main() {
    [ -n "$NGINX_SOURCES" ] || die "NGINX_SOURCES has to name a folder with nginx-VERSION.tar.gz"

    script/packages.sh build
    mkdir -p "$HERE" "$CRATES"
    : > "$TOLD"

    step "What ./configure refuses, and what it takes"
    beside refused unsupported_version missing_patch wrong_patch dynamic_too_old forgotten_module &
    beside taken right_patch newer_version without_module
    wait $!

    step "What make refuses, where ./configure can't know"
    beside made late_patch by_cargo

    local tested failed
    tested=$(wc -l < "$TOLD")
    failed=$(grep -c no "$TOLD" || true)

    step "$((tested - failed)) of $tested cases as expected"
    [ "$failed" = 0 ]
}

# beside NAME CASES...: with a folder of their own
beside() (
    TREES=$HERE/$1/trees
    OUTPUT=$HERE/$1/output
    shift

    rm -rf "$TREES"
    mkdir -p "$TREES"

    for cases in "$@"; do
        "$cases"
    done

    rm -rf "$TREES"
)


# The cases

unsupported_version() {
    unpack nginx-1.4.7
    pretend 1.3.16 1003016
    refuses "nginx 1.3.16" "takes nginx 1.4.0 or newer, and this is nginx 1.3.16" "Configure a newer one"
}

missing_patch() {
    local version

    for version in 1.4.7 1.8.1 1.9.2; do
        unpack nginx-$version
        refuses "nginx $version without a patch" "nginx $version can't do CONNECT without a patch" \
            "Take nginx 1.9.11 or newer" "patch -p1 < $ROOT/patch/proxy_connect_rewrite.patch"
    done
}

wrong_patch() {
    # patch(1) takes it, with fuzz, and leaves out what this nginx has elsewhere
    unpack nginx-1.14.2
    apply proxy_connect_rewrite.patch
    refuses "nginx 1.14.2 with the patch for 1.12" "nginx 1.14.2 has a CONNECT patch that is not the one for it" \
        "ngx_http_try_files_handler, ngx_http_mirror_handler" \
        "patch -p1 < $ROOT/patch/proxy_connect_rewrite_1014.patch"

    unpack nginx-1.18.0
    apply proxy_connect_rewrite_102101.patch
    refuses "nginx 1.18.0 with the patch for 1.28" "nginx 1.18.0 has a CONNECT patch of which a part did not apply" \
        "src/http/ngx_http_parse.c.rej" "patch -p1 < $ROOT/patch/proxy_connect_rewrite_1018.patch"

    find "$tree" -name '*.rej' -delete
    refuses "the same, its rejects removed" "nginx 1.18.0 has a CONNECT patch that is not the one for it" \
        "patch -p1 < $ROOT/patch/proxy_connect_rewrite_1018.patch"

    unpack nginx-1.29.3
    apply proxy_connect_rewrite_102101.patch
    refuses "nginx 1.29.3 with the patch for 1.28" "nginx 1.29.3 has a CONNECT patch of which a part did not apply" \
        "It takes no patch: it parses CONNECT by itself"

    unpack nginx-1.28.3
    apply proxy_connect_rewrite_102101.patch
    cp "$TREES/plain/src/http/ngx_http_core_module.c" "$tree/src/http/"
    refuses "nginx 1.28.3 with a file of the patch undone" "nginx 1.28.3 has a CONNECT patch" \
        "ngx_http_core_find_config_phase"

    unpack nginx-1.28.3
    sed -i 's/^struct ngx_http_request_s {/&\n    ngx_str_t  connect_host;/' "$tree/src/http/ngx_http_request.h"
    refuses "nginx 1.28.3 with another's patch, in part" "nginx 1.28.3 has a CONNECT patch by others" \
        "connect_host_end, src/http/ngx_http_parse.c"
}

# Nothing of the module is read then: it is the patch that says it.
dynamic_too_old() {
    local version patch

    for version in 1.4.7 1.6.3 1.8.1 1.9.2; do
        for patch in proxy_connect proxy_connect_rewrite; do
            unpack nginx-$version
            apply $patch.patch
            stops_with "nginx $version, $patch.patch, --add-dynamic-module" \
                --add-dynamic-module="$ROOT" -- "nginx $version has no dynamic modules" "use --add-module"
        done
    done
}

# Neither is it here.
forgotten_module() {
    local patch mode first last base

    while read -r patch mode first last base; do
        unpack "nginx-$base"
        apply "$patch"
        stops_with "nginx $base with $patch, and without the module" \
            -- "nginx $base is patched for ngx_http_proxy_connect_module" "--add-module=PATH"

        [ "$mode" = rewrite ] || continue

        if configure --without-http && configure --with-cc-opt=-DNGX_HTTP_PROXY_CONNECT=1; then
            told ok "nginx $base with $patch, without HTTP, or for a module that is built by itself"
        else
            told no "nginx $base with $patch, without HTTP, or for a module that is built by itself"
            tail -n 5 "$OUTPUT"
        fi
    done < <(patch_rows)
}

# Each patch, on each nginx and OpenResty of its row.
right_patch() {
    local patch mode first last base source version way

    while read -r patch mode first last base; do
        for source in $(sources "$first" "$last"); do
            unpack "$source"
            apply "$patch"
            way=patched
            [ "$mode" = rewrite ] || way="patched, CONNECT skips the rewrite phase"
            finds "$source with patch/$patch" "$way"
        done
    done < <(patch_rows)

    for source in $(cd "$NGINX_SOURCES" && ls tengine-*.tar.gz 2>/dev/null); do
        unpack "${source%.tar.gz}"
        finds "${source%.tar.gz}" "patched by others, which the module leaves alone"
    done

    # It belongs to another row, but comes to the same here.
    unpack nginx-1.18.0
    apply proxy_connect_rewrite_1015.patch
    finds "nginx-1.18.0 with patch/proxy_connect_rewrite_1015.patch" patched

    unpack nginx-1.8.1
    apply proxy_connect_rewrite.patch
    takes "nginx 1.8.1 with its patch" " found, patched"

    unpack nginx-1.28.3
    takes "nginx 1.28.3 without a patch" " + the module does without it"
}

newer_version() {
    unpack nginx-1.31.4
    pretend 1.33.0 1033000
    takes "nginx 1.33.0" " found, native"
    checks "nginx 1.33.0"

    unpack nginx-1.28.3
    pretend 1.33.0 1033000
    takes "nginx 1.33.0 that parses no CONNECT" " + the module does without it"
    checks "nginx 1.33.0 that parses no CONNECT"
}

# Patched after ./configure, and without the module, it is nginx as released: the compiler gets to see
# the same.
without_module() {
    local version patch plain

    for version in 1.8.1:proxy_connect_rewrite 1.16.1:proxy_connect_rewrite_101504 1.18.0:proxy_connect_rewrite_1018 \
            1.28.3:proxy_connect_rewrite_102101; do
        patch=${version#*:}.patch
        version=${version%:*}

        unpack "nginx-$version"
        configure || true
        apply "$patch"
        plain=$tree
        tree=$TREES/plain
        configure || true
        tree=$plain

        seen "$tree" > "$TREES/seen-patched"
        seen "$TREES/plain" > "$TREES/seen-plain"

        if cmp -s "$TREES/seen-patched" "$TREES/seen-plain"; then
            told ok "nginx $version with its patch, without the module: to the compiler the same as unpatched"
        else
            told no "nginx $version with its patch, without the module: another nginx to the compiler"
        fi
    done
}

# OpenResty's ./configure makes the tree to be patched, so make is the first to know.
late_patch() {
    unpack nginx-1.8.1
    sed -i 's|\(define NGINX_VER  *\)"nginx/"|\1"openresty/"|' "$tree/src/core/nginx.h"
    takes "an OpenResty with nginx 1.8.1, to be patched" " not found yet" \
        "patch -p1 < $ROOT/patch/proxy_connect_rewrite.patch"

    stops "make, of an OpenResty with nginx 1.8.1 that was not patched" \
        "nginx 1.8.1 can't do CONNECT without a patch" \
        "patch -p1 < $ROOT/patch/proxy_connect_rewrite.patch"

    apply proxy_connect_rewrite_102101.patch
    stops "make, with the wrong patch" "nginx 1.8.1 has a CONNECT patch of which a part did not apply"
}

by_cargo() {
    unpack nginx-1.8.1
    apply proxy_connect_rewrite.patch
    configure --with-cc-opt=-DNGX_HTTP_PROXY_CONNECT=1 || true
    cargo_stops "cargo, of a module to load into nginx 1.8.1" old "nginx/1.8.1 loads no modules" "--add-module="

    unpack nginx-1.28.3
    configure || true
    apply proxy_connect_rewrite_102101.patch
    cargo_stops "cargo, with a 1.28.3 patched after it was configured without the module" . \
        "the source of nginx/1.28.3 is patched for CONNECT but was configured without it"
}


# What cases are made of

# unpack NAME: a source becomes $tree, and $TREES/plain, which stays as it is
unpack() {
    local archive=$NGINX_SOURCES/$1.tar.gz

    [ -f "$archive" ] || die "NGINX_SOURCES has no $1.tar.gz"
    rm -rf "$TREES"
    mkdir -p "$TREES/all"
    tar -xzf "$archive" -C "$TREES/all" --strip-components=1 --exclude='LuaJIT*'

    # OpenResty's bundle has it deeper
    tree=$(find "$TREES/all" -path '*/src/core/nginx.h')
    tree=${tree%/src/core/nginx.h}
    cp -R "$tree" "$TREES/plain"
}

# pretend VERSION NUMBER: of $tree
pretend() {
    sed -i -e "s/\(define NGINX_VERSION  *\)\".*\"/\1\"$1\"/" -e "s/\(define nginx_version  *\)[0-9]*/\1$2/" \
        "$tree/src/core/nginx.h"
}

# apply PATCH: as far as it goes
apply() {
    patch -p1 -f --no-backup-if-mismatch -d "$tree" < "patch/$1" > "$OUTPUT" 2>&1 || true
}

# The names of the sources whose nginx is from FIRST to LAST.
sources() {
    local file version

    for file in "$NGINX_SOURCES"/nginx-[0-9]*.tar.gz "$NGINX_SOURCES"/openresty-[0-9]*.tar.gz; do
        [ -f "$file" ] || continue
        file=${file##*/}
        file=${file%.tar.gz}
        version=$(sed 's/^[^0-9]*\([0-9]*\.[0-9]*\.[0-9]*\).*/\1/' <<< "$file")

        if is_between "$1" "$version" "$2"; then
            echo "$file"
        fi
    done | sort -V
}

# configure OPTION...
configure() {
    (cd "$tree" && ./configure "${OPTIONS[@]}" "$@") > "$OUTPUT" 2>&1 < /dev/null
}

# What the compiler sees of what the patches touch, in a configured tree.
seen() (
    cd "$1"

    for file in request variables parse core_module; do
        cc -E -P -I src/core -I src/event -I src/event/modules -I src/event/quic -I src/os/unix -I src/http \
            -I src/http/modules -I src/http/v2 -I src/http/v3 -I objs "src/http/ngx_http_$file.c"
    done
)

# told ok|no TEXT
told() {
    echo "$1" >> "$TOLD"

    if [ "$1" = ok ]; then
        note "ok  $2"
    else
        note "NO  $2"
    fi
}

# says NAME TEXT...: the output has each of the texts
says() {
    local name=$1 text
    shift

    for text in "$@"; do
        if ! grep -qF -- "$text" "$OUTPUT"; then
            told no "$name: it does not say \"$text\""
            tail -n 5 "$OUTPUT"
            return
        fi
    done

    told ok "$name"
}

# refuses NAME TEXT...: to link the module
refuses() {
    local name=$1
    shift
    stops_with "$name" --add-module="$ROOT" -- "$@"
}

# stops_with NAME OPTION... -- TEXT...
stops_with() {
    local name=$1 options=()
    shift

    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done

    shift

    if configure "${options[@]}"; then
        told no "$name: ./configure took it"
    else
        says "$name" "$@"
    fi
}

takes() {
    local name=$1
    shift

    if configure --add-module="$ROOT"; then
        says "$name" "$@"
    else
        told no "$name: ./configure refused it"
        tail -n 5 "$OUTPUT"
    fi
}

# finds NAME WAY: what ./configure would ask, without the rest of it
finds() {
    local way
    way=$(cd "$tree" && sh "$ROOT/auto/patch") || true

    if [ "$way" = "$2" ]; then
        told ok "$1"
    else
        told no "$1: $way"
    fi
}

# stops NAME TEXT...: make, of the module alone
stops() {
    local name=$1
    shift

    rm -rf "${tree:?}/objs/$MODULE"
    ln -s "$CRATES" "$tree/objs/$MODULE"

    if make -C "$tree" -f objs/Makefile "objs/$MODULE/release/lib$MODULE.a" > "$OUTPUT" 2>&1; then
        told no "$name: it was built"
    else
        says "$name" "$@"
    fi
}

# with_tree COMMAND...
with_tree() {
    NGINX_SOURCE_DIR=$tree NGINX_BUILD_DIR=$tree/objs "$@" > "$OUTPUT" 2>&1
}

# cargo_stops NAME FOLDER TEXT...
cargo_stops() {
    local name=$1 folder=$2
    shift 2

    if with_tree cargo check --locked --manifest-path "$folder/Cargo.toml" --target-dir "$CRATES"; then
        told no "$name: it was built"
    else
        says "$name" "$@"
    fi
}

# checks NAME: the module's source fits to what was configured
checks() {
    if with_tree cargo check --locked --lib --no-default-features --target-dir "$CRATES"; then
        told ok "$1: the module's source fits"
    else
        told no "$1: the module's source does not fit"
        tail -n 20 "$OUTPUT"
    fi
}

main
