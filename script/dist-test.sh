#!/bin/bash
# Owns "make dist-test": install.sh with input that it has to refuse, and with what it has to take, by the shells
# and tools of Debian and of BusyBox; and one file made in two clones, which has to be the same.
#
# dist-test.sh [install | twice]    both if not told

. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/checks.sh"
. "$(dirname "$0")/dist/tools.sh"

SCRATCH=$BUILD/dist-test
scratch=$SCRATCH
VERSION=1.28.3
NAME=$MODULE-1.0.0+nginx-$VERSION-linux-x86_64-glibc

need_for_dist_test() {
    need busybox-static has_command busybox
    need gpg has_command gpg
    need gpgv has_command gpgv
    need gpgconf has_command gpgconf
    need gpg-agent test -x /usr/bin/gpg-agent
    need curl has_command curl
}

# ok TEXT COMMAND...
ok() {
    check "$shell: $1" "${@:2}"
}

# --- install.sh

# run_install ARGUMENT...: what it says goes to $SCRATCH/said
run_install() {
    # shellcheck disable=SC2086
    env PATH="$tools" FAKE="$SCRATCH/fake" $shell "$SCRATCH/files/install.sh" "$@" > "$SCRATCH/said" 2>&1 </dev/null
}

# refuses TEXT SENTENCE ARGUMENT...: it fails, with one sentence, and leaves no file
refuses() {
    ok "refuses $1" has_refused "${@:2}"
}

has_refused() {
    local sentence=$1
    shift

    if run_install "$@"; then
        echo "it did not fail:"
        cat "$SCRATCH/said"
        return 1
    fi

    grep "^install.sh: .*$sentence" "$SCRATCH/said" || {
        echo "it does not say \"$sentence\":"
        cat "$SCRATCH/said"
        return 1
    }

    if [ "$(wc -l < "$SCRATCH/said")" -gt "${LINES_OF_REFUSAL:-1}" ]; then
        echo "it says more than one sentence:"
        cat "$SCRATCH/said"
        return 1
    fi

    [ "$(state)" = "$before" ] || {
        echo "it has changed the modules folder: $(state)"
        return 1
    }
}

# takes TEXT SENTENCE ARGUMENT...
takes() {
    ok "takes $1" has_taken "${@:2}"
}

has_taken() {
    local sentence=$1
    shift

    run_install "$@" && grep "$sentence" "$SCRATCH/said" || {
        echo "it fails, or does not say \"$sentence\":"
        cat "$SCRATCH/said"
        return 1
    }
}

# What lies in the modules folder.
state() {
    (cd "$SCRATCH/modules" 2>/dev/null && find . -type f -exec sha256sum {} + | sort | sha256sum)
}

remember() {
    before=$(state)
}

# tell_version TEXT ARGUMENT...: what the fake nginx says of itself
tell_version() {
    mkdir -p "$SCRATCH/fake"
    printf 'nginx version: %s\nconfigure arguments: %s\n' "$1" "${*:2} --modules-path=$SCRATCH/modules" > "$SCRATCH/fake/V"
    : > "$SCRATCH/fake/T"
    : > "$SCRATCH/fake/t"
}

FEATURES=(--with-cc-opt="'-g -O2'" --with-compat --with-http_ssl_module --with-http_v2_module)

good_nginx() {
    tell_version "nginx/$VERSION (Ubuntu)" "${FEATURES[@]}"
}

# put_file NAME VERSION: a file of the distribution, with a module of that version in it
put_file() {
    rm -rf "$SCRATCH/pack"
    mkdir -p "$SCRATCH/pack/$1"
    # The words stand in the midst of others in a real one, too.
    printf 'one%s/%s for nginx/1.28.3: other' "$MODULE" "$2" > "$SCRATCH/pack/$1/$MODULE.so"
    tar -C "$SCRATCH/pack" -cf - "$1" | gzip -n > "$SCRATCH/files/$1.tar.gz"
    (cd "$SCRATCH/files" && sha256sum -- install.sh *.tar.gz > SHA256SUMS)
}

fresh_files() {
    rm -rf "$SCRATCH/files" "$SCRATCH/modules"
    mkdir -p "$SCRATCH/files" "$SCRATCH/modules"
    cp packaging/install.sh "$SCRATCH/files/"
    put_file "$NAME" 1.0.0
    put_file "${NAME/1.28.3-/1.26.3-}" 1.0.0
    put_file "${NAME/x86_64-glibc/aarch64-glibc}" 1.0.0
    put_file "${NAME/glibc/musl}" 1.0.0
    good_nginx
    remember
}

# without COMMAND...: a PATH that lacks them
without() {
    local folder=$SCRATCH/without command

    rm -rf "$folder"
    mkdir -p "$folder"
    for command in sh dirname sed grep awk dd od tr mktemp chmod rm cat head tail cp mv tar gzip sha256sum cmp mkdir uname \
        getconf env ls curl wget printf; do
        [[ " $* " == *" $command "* ]] || ln -s "$(PATH=$all_tools command -v "$command")" "$folder/$command" 2>/dev/null
    done

    tools=$folder
}

# BusyBox's shell takes its own, wherever the PATH leads.
has_real_tools() {
    [ "$shell" = sh ]
}

# instead COMMAND TEXT: a PATH in which a command says something else
instead() {
    mkdir -p "$SCRATCH/instead-$1"
    printf '#!/bin/sh\necho "%s"\n' "$2" > "$SCRATCH/instead-$1/$1"
    chmod +x "$SCRATCH/instead-$1/$1"
    tools=$SCRATCH/instead-$1:$all_tools
}

check_arguments() {
    fresh_files
    LINES_OF_REFUSAL=20 refuses "an argument that it does not know" '"--sudo" is not known' --sudo
    refuses "--nginx without a value" '--nginx takes a value' --nginx
    refuses "a folder of files that is not there" 'there is no folder /no/such' --from /no/such --nginx "$fake"
    takes "--help" "usage: install.sh" --help
}

check_nginx() {
    fresh_files
    refuses "a program that is not there" '/no/nginx is no program' --nginx /no/nginx
    refuses "a folder as nginx" 'is no program' --nginx "$SCRATCH"
    printf '#!/bin/sh\nexec %s "$@"\n' "$fake" > "$SCRATCH/script-nginx"
    chmod +x "$SCRATCH/script-nginx"
    refuses "a script that starts nginx" 'is a script' --nginx "$SCRATCH/script-nginx"

    tell_version "openresty/1.27.1.2" "${FEATURES[@]}"
    refuses "OpenResty" 'this is "openresty/1.27.1.2", and there are files for nginx as' --nginx "$fake"
    tell_version "Tengine/3.1.0" "${FEATURES[@]}"
    refuses "Tengine" 'this is "Tengine/3.1.0"' --nginx "$fake"
    tell_version "nginx/1.28.3 (nginx-plus-r36)" "${FEATURES[@]}"
    refuses "NGINX Plus" 'open source releases only' --nginx "$fake"
    echo nonsense > "$SCRATCH/fake/V"
    refuses "a program that is no nginx" 'does not say which version' --nginx "$fake"

    tell_version nginx/1.28.3 --with-http_ssl_module --with-http_v2_module
    refuses "an nginx without --with-compat" 'without --with-compat' --nginx "$fake"
    tell_version nginx/1.28.3 --with-compat --with-http_v2_module
    refuses "an nginx without TLS" 'without --with-http_ssl_module' --nginx "$fake"
    tell_version nginx/1.28.3 --with-compat --with-http_ssl_module
    refuses "an nginx without HTTP/2" 'without --with-http_v2_module' --nginx "$fake"
    tell_version nginx/1.28.3 "${FEATURES[@]}" --without-pcre
    refuses "an nginx without PCRE" 'without PCRE' --nginx "$fake"
    tell_version nginx/1.28.4 "${FEATURES[@]}"
    refuses "a version without a file" \
        'no file for nginx 1.28.4, x86_64, glibc in .*there are some for nginx 1.26.3 1.28.3: make it with' --nginx "$fake"
    tell_version nginx/1.28.30 "${FEATURES[@]}"
    refuses "a version that begins as another" 'no file for nginx 1.28.30' --nginx "$fake"
}

check_system() {
    fresh_files
    refuses "a program that is linked statically" "C library is neither" --nginx "$fake-static"
    instead getconf 'glibc 2.17'
    refuses "a C library that is too old" "glibc is 2.17, and the files need 2.28" --nginx "$fake"

    if ! has_real_tools; then
        tools=$all_tools
        return
    fi

    instead od ' 243 0'
    refuses "a processor that it does not know" 'there are files for x86_64 and aarch64' --nginx "$fake"
    instead uname FreeBSD
    refuses "another system" 'this system is FreeBSD' --nginx "$fake"
    without sha256sum shasum openssl
    refuses "a system that can't check sums" 'none of sha256sum' --nginx "$fake"
    without nginx
    if ! [ -x /usr/sbin/nginx ] && ! [ -x /usr/local/sbin/nginx ] && ! [ -x /usr/local/nginx/sbin/nginx ]; then
        refuses "a system without nginx" 'there is no nginx on the PATH'
    fi
    tools=$all_tools
}

check_files() {
    fresh_files
    rm "$SCRATCH/files/SHA256SUMS"
    refuses "a folder without sums" 'there is no SHA256SUMS' --nginx "$fake"

    fresh_files
    printf x >> "$SCRATCH/files/$NAME.tar.gz"
    refuses "a file that was changed" "the sum of $NAME.tar.gz is .* and SHA256SUMS says" --nginx "$fake"

    fresh_files
    rm "$SCRATCH/files/$NAME.tar.gz"
    refuses "a file that is not there" "can't be had from" --nginx "$fake"

    fresh_files
    put_file "${NAME/1.0.0/1.0.1}" 1.0.1
    refuses "two versions of the module" 'names several files' --nginx "$fake"

    fresh_files
    sed -i "s|  $NAME|  ../$NAME|" "$SCRATCH/files/SHA256SUMS"
    refuses "a name that leads elsewhere" 'there is no file for nginx' --nginx "$fake"

    fresh_files
    echo 'no archive' > "$SCRATCH/files/$NAME.tar.gz"
    (cd "$SCRATCH/files" && sha256sum -- *.tar.gz > SHA256SUMS)
    refuses "what is no archive" "can't be unpacked" --nginx "$fake"

    fresh_files
    echo "nginx: [emerg] module \"x.so\" is not binary compatible in x.conf:1" > "$SCRATCH/fake/t"
    refuses "a file that nginx does not load" 'nothing was installed, since nginx does not load .*is not binary compatible.*build the module with its source' --nginx "$fake"
}

check_network() {
    fresh_files
    refuses "a server that is not there" "SHA256SUMS can't be had.*check the address and the network" \
        --nginx "$fake" --from http://127.0.0.1:1/files

    if has_real_tools; then
        without curl wget
        refuses "a URL without curl and wget" 'neither curl nor wget' --nginx "$fake" --from http://127.0.0.1:1/files
        tools=$all_tools
    fi

    python3 -u -m http.server --bind 127.0.0.1 --directory "$SCRATCH/files" 0 > "$SCRATCH/server.log" 2>&1 </dev/null &
    server=$!
    until grep -q 'port [0-9]' "$SCRATCH/server.log"; do
        kill -0 $server || die "python3's server does not start: $(cat "$SCRATCH/server.log")"
        sleep 0.05
    done

    local url
    url=http://127.0.0.1:$(sed -n 's/.* port \([0-9]*\).*/\1/p' "$SCRATCH/server.log")
    takes "files from a server" "is installed, version 1.0.0" --nginx "$fake" --from "$url/"

    if has_real_tools; then
        without curl
        rm -rf "$SCRATCH/modules/"* "$SCRATCH/modules/".ngx*
        takes "files from a server, with wget" "is installed, version 1.0.0" --nginx "$fake" --from "$url"
        tools=$all_tools
    fi

    remember
    refuses "a folder that the server does not have" "can't be had" --nginx "$fake" --from "$url/none"
    kill $server
    wait $server 2>/dev/null || true
}

check_replacing() {
    local so=$SCRATCH/modules/$MODULE.so

    fresh_files
    takes "--check" "fits .* and loads" --nginx "$fake" --check
    ok "--check installs nothing" test ! -e "$so"
    takes "a file" "is installed, version 1.0.0" --nginx "$fake"
    ok "it says what to add" grep -q "load_module $so;" "$SCRATCH/said"
    ok "it is readable by all" test "$(stat -c %a "$so")" = 644
    takes "the same again" "is this very file" --nginx "$fake"

    # A newer one in the place.
    fresh_files
    put_file "$NAME" 1.10.0
    takes "a file of 1.10.0" "version 1.10.0" --nginx "$fake"
    put_file "$NAME" 1.9.0
    remember
    refuses "an older file over a newer one" "is version 1.10.0, and this is 1.9.0, which is older: --force" --nginx "$fake"
    takes "an older one with --force" "is installed, version 1.9.0" --nginx "$fake" --force
    put_file "$NAME" 1.10.0-rc.1
    takes "a newer one over an older" "version 1.10.0-rc.1" --nginx "$fake"
    put_file "$NAME" 1.10.0
    takes "a release over its candidate" "version 1.10.0" --nginx "$fake"

    # One that a package has put there.
    printf 'one%s/0.1.0 for nginx' "$MODULE" > "$so"
    remember
    refuses "a file that is not its own" "not from this script; a package may own it" --nginx "$fake"
    refuses "to remove one that is not its own" "not the file that this script has put there" --nginx "$fake" --remove
    takes "--force for it" "is installed" --nginx "$fake" --force

    # Removal.
    echo "    load_module modules/$MODULE.so;" > "$SCRATCH/fake/T"
    remember
    refuses "to remove what the configuration loads" "the configuration still has \"load_module" --nginx "$fake" --remove
    echo "#load_module modules/$MODULE.so;" > "$SCRATCH/fake/T"
    takes "--remove" "is removed" --nginx "$fake" --remove
    ok "nothing is left" test -z "$(ls -A "$SCRATCH/modules")"
    takes "--remove again" "There is no" --nginx "$fake" --remove
    ok "no temporary folder is left" test -z "$(ls -A "$SCRATCH/tmp")"

    if is_root; then
        chmod 755 "$SCRATCH/modules"
        chmod 1777 "$SCRATCH/tmp"
        remember
        shell="$setpriv --reuid 65534 --regid 65534 --clear-groups $shell" \
            refuses "a folder that can't be written" "can't write to .*run this as root" --nginx "$fake"
    fi
}

# A signature, by whom it has to be.
check_signature() {
    local home=$SCRATCH/gnupg files=$SCRATCH/files

    has_real_tools || return 0
    fresh_files
    refuses "a keyring that is not there" 'there is no keyring' --nginx "$fake" --keyring /no/keys
    : > "$SCRATCH/empty-keys"
    refuses "sums without a signature" 'no signature SHA256SUMS.asc' --nginx "$fake" --keyring "$SCRATCH/empty-keys"

    rm -rf "$home"
    mkdir -m 700 -p "$home"
    for name in ours another; do
        gpg --homedir "$home" --batch --quiet --passphrase '' --quick-generate-key "$name@example" ed25519 sign never \
            && gpg --homedir "$home" --batch --export "$name@example" > "$SCRATCH/$name-keys"
    done > "$SCRATCH/gpg.log" 2>&1
    gpg --homedir "$home" --batch --quiet --armor --detach-sign -u ours@example "$files/SHA256SUMS" 2>>"$SCRATCH/gpg.log"

    refuses "a signature by another" 'is not a signature by a key of' --nginx "$fake" --keyring "$SCRATCH/another-keys"
    takes "a signature by one who may" 'is installed' --nginx "$fake" --keyring "$SCRATCH/ours-keys"
    remember
    put_file "$NAME" 1.0.5
    refuses "other sums than the signed" 'is not a signature by' --nginx "$fake" --keyring "$SCRATCH/ours-keys"
    gpgconf --homedir "$home" --kill gpg-agent
}

check_install() {
    step "install.sh with $shell"
    check_arguments
    check_nginx
    check_system
    check_files
    check_network
    check_signature
    check_replacing
}

# A real nginx, which another build has configured, and a real file.
check_real() {
    local file nginx=$BUILD/nginx-$VERSION-test-dynamic-stock/objs/nginx files=$SCRATCH/real modules

    step "install.sh with a real nginx"
    script/nginx-build.sh $VERSION test dynamic stock
    modules=${nginx%/objs/nginx}/prefix/modules
    rm -rf "$modules" "$files"
    mkdir -p "$files"
    cp "$BUILD/dist/"*"+nginx-$VERSION-linux-x86_64-glibc.tar.gz" packaging/install.sh "$files/"
    (cd "$files" && sha256sum -- *.tar.gz > SHA256SUMS)
    file=$(cd "$files" && ls -- *.tar.gz)

    ok "a real file" sh "$files/install.sh" --nginx "$nginx"
    ok "it is in the modules folder" test -f "$modules/$MODULE.so"

    mkdir -p "$SCRATCH/conf/logs"
    tar -xzf "$files/$file" -C "$SCRATCH/conf" --strip-components=1
    printf 'load_module modules/%s.so;\nerror_log %s notice;\npid %s;\nevents { }\nhttp { include %s; }\n' \
        "$MODULE" "$SCRATCH/conf/error.log" "$SCRATCH/conf/pid" "$SCRATCH/conf/proxy_connect.conf" > "$SCRATCH/conf/nginx.conf"
    ok "the configuration to start from passes" "$nginx" -t -c "$SCRATCH/conf/nginx.conf" -e stderr
    ok "a test of it tells no version" test ! -s "$SCRATCH/conf/error.log"

    # Neither a module nor one for this nginx.
    rm -rf "$modules"
    (
        cd "$files"
        mkdir -p "${file%.tar.gz}"
        head -c 5000 /dev/urandom > "${file%.tar.gz}/$MODULE.so"
        tar -czf "$file" "${file%.tar.gz}"
        sha256sum -- *.tar.gz > SHA256SUMS
    )
    ok "what nginx can't load is not installed" not_installed "$files" "$nginx" "$modules"
}

not_installed() {
    ! sh "$1/install.sh" --nginx "$2" > "$SCRATCH/said" 2>&1
    cat "$SCRATCH/said"
    grep 'nginx does not load .*dlopen' "$SCRATCH/said" && ! [ -e "$3/$MODULE.so" ]
}

test_install() {
    mkdir -p "$SCRATCH/tmp"
    export TMPDIR=$SCRATCH/tmp
    fake=$SCRATCH/fake-nginx
    cc -o "$fake" script/dist/fake-nginx.c
    cc -static -o "$fake-static" script/dist/fake-nginx.c

    setpriv=$(command -v setpriv)
    all_tools=$PATH
    tools=$all_tools
    shell=sh
    check_install

    # Nothing but BusyBox; getconf is glibc's own.
    rm -rf "$SCRATCH/busybox"
    mkdir -p "$SCRATCH/busybox"
    busybox --install -s "$SCRATCH/busybox"
    ln -s "$(command -v curl)" "$(command -v getconf)" "$SCRATCH/busybox/" 2>/dev/null || true
    all_tools=$SCRATCH/busybox
    tools=$all_tools
    shell="$(command -v busybox) sh"
    check_install
    unset TMPDIR
}

# --- two clones

# clone FOLDER: makes the file in a clone of the commit
clone() {
    rm -rf "$1"
    mkdir -p "${1%/*}"
    git clone -q "$ROOT" "$1"
    cd "$1"
    DIST_TOOLS=$TOOLS NGINX_VERSION=$VERSION ARCH=x86_64 LIBC=glibc script/dist.sh
}

test_twice() {
    local one=$SCRATCH/a other=$SCRATCH/another/folder/b result=0 pid

    step "nginx $VERSION, x86_64, glibc, made in two clones"
    prepare_tools
    placeholders x86_64 glibc >/dev/null
    (clone "$one") > "$LOGS/dist-twice-a.log" 2>&1 </dev/null &
    pid=$!
    (clone "$other") > "$LOGS/dist-twice-b.log" 2>&1 </dev/null || result=1
    wait $pid || result=1
    [ $result = 0 ] || {
        tail -n 20 "$LOGS/dist-twice-a.log" "$LOGS/dist-twice-b.log"
        die "a clone made no file"
    }

    shell=twice
    ok "the same file in two clones" diff -r "$one/build/dist" "$other/build/dist"
    sed 's/^/    /' "$one/build/dist/SHA256SUMS"

    # What was made here is of this commit or not; the real nginx is to load the clone's.
    mkdir -p "$DIST"
    rm -f "$DIST/"*"+nginx-$VERSION-linux-x86_64-glibc.tar.gz"
    cp "$one/build/dist/"*.tar.gz "$DIST/"
    (cd "$DIST" && cp "$ROOT/packaging/install.sh" . && LC_ALL=C sha256sum install.sh -- *.tar.gz > SHA256SUMS)
}

main() {
    # shellcheck source=script/packages.sh
    . script/packages.sh build dist dist_test
    rm -rf "$SCRATCH"
    mkdir -p "$SCRATCH"

    case ${1:-all} in
        install) test_install ;;
        twice)   test_twice ;;
        all)
            test_install
            test_twice
            check_real
        ;;
        *) die "\"$1\" is not known: it is one of install, twice" ;;
    esac

    tell_result
}

main "$@"
