#!/bin/bash
# Owns "make dist-proof": each file of build/dist is loaded into an nginx that another build has configured, and
# tunnels lead through it; docs/packages.md gets the table of that. The hosts are Debian's own binaries, unpacked from
# its packages, an nginx compiled with the configure line of nginx.org's packages, with that of RHEL's, and one with
# that of Alpine's and musl.
#
# ROW    hosts by name or pattern, all if empty: debian-bookworm-x86_64 nginx.org-1.28.3 ...

requested=${ROW:-}

. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/dist/tools.sh"
. "$(dirname "$0")/dist/hosts.sh"

PROOF=$BUILD/dist-proof
DOC=docs/packages.md

# What of t/ goes through the core, the module and TLS in a few seconds.
SUBSET=${TESTS:-t/admit.t t/tunnel.t t/variables.t t/tunnel_ssl.t t/version.t}

# An emulator is too slow for what these measure.
EMULATED=${TESTS:-t/admit.t t/variables.t}

results=()
failed=0

need_for_proof() {
    need mmdebstrap has_command mmdebstrap
    need perl has_command prove
    need musl test -e /lib/ld-musl-x86_64.so.1
    need openssl has_command openssl
}

is_requested() {
    local pattern

    [ -n "$requested" ] || return 0

    for pattern in $requested; do
        # shellcheck disable=SC2053
        [[ $1 == $pattern ]] && return 0
    done

    return 1
}

# take VERSION ARCH LIBC: unpacks the file as install.sh does, and sets so
take() {
    local file
    file=$DIST/$(file_name "$@").tar.gz

    [ -f "$file" ] || {
        note "there is no ${file##*/}: make dist NGINX=$1 ARCH=$2 LIBC=$3"
        return 1
    }

    has_its_sum "$file" || return 1

    rm -rf "$PROOF/files/$1-$2-$3"
    mkdir -p "$PROOF/files/$1-$2-$3"
    tar -xzf "$file" -C "$PROOF/files/$1-$2-$3" --strip-components=1
    so=$PROOF/files/$1-$2-$3/$MODULE.so
}

# prove_row NAME NGINX VERSION ARCH LIBC TEXT: has NGINX, a launcher of the host, load the file and use it
prove_row() {
    local name=$1 nginx=$2 version=$3 arch=$4 libc=$5 text=$6 said result tests=$SUBSET log=$LOGS/proof-$1.log
    step "$name: the file for nginx $version, $arch, $libc"

    take "$version" "$arch" "$libc" || {
        failed=1
        return
    }

    [ "$arch" = "$(uname -m)" ] || tests=$EMULATED

    # shellcheck disable=SC2086
    if TEST_NGINX_BINARY=$nginx TEST_NGINX_GLOBALS="load_module $so; $(! is_root || echo 'user root;')" \
        TEST_NGINX_GLOBALS_HTTP=${TEST_NGINX_GLOBALS_HTTP:-} \
        PERL5LIB=$ROOT/t/harness${PERL5LIB:+:$PERL5LIB} prove --timer --exec "timeout -k 5 300 perl" $tests > "$log" 2>&1 </dev/null \
        && said=$(sed -n 's/^Files=\([0-9]*\), Tests=\([1-9][0-9]*\),.*/\2/p' "$log") && [ -n "$said" ]
    then
        result="$said tests"
        [ "$arch" = "$(uname -m)" ] || result+=" under qemu-user"
        note "$result"
    else
        tail -n 30 "$log"
        note "FAILED; see $log"
        failed=1
        return
    fi

    results+=("| $version | $arch | $libc | $text | $result | $(sha256sum "$so" | cut -c 1-16) |")
}

# The rows of this run take the place of those of the same file and host.
write_table() {
    local row key new=$PROOF/table

    {
        for row in "${results[@]}"; do
            echo "$row"
        done

        sed -n '/<!-- proofs -->/,/<!-- end of proofs -->/p' $DOC | grep '^| [0-9]' || true
    } | awk -F ' [|] ' '{ key = $1 FS $2 FS $3 FS $4 } !(key in seen) { seen[key] = 1; print }' | LC_ALL=C sort -V > "$new"

    awk -v rows="$new" '
        /<!-- end of proofs -->/ { inside = 0 }
        !inside { print }
        /<!-- proofs -->/ {
            inside = 1
            print ""
            print "| nginx | processor | C library | loaded into | run there | the module, SHA-256 |"
            print "|---|---|---|---|---|---|"
            while ((getline line < rows) > 0) { print line }
            print ""
        }' $DOC > "$new.doc"
    cat "$new.doc" > $DOC
    note "$DOC has the table"
}

main() {
    local name
    [ -f "$DIST/SHA256SUMS" ] || die "there is no file to prove: make dist first"

    # shellcheck source=script/packages.sh
    . script/packages.sh build dist proof aarch64
    prepare_tools
    mkdir -p "$PROOF"

    for name in $(host_names); do
        if is_requested "$name"; then
            host_row "$name" || {
                failed=1
                note "there is no host $name"
            }
        fi
    done

    [ ${#results[@]} -gt 0 ] || die "nothing was proven"
    write_table
    step "Proven"
    printf '    %s\n' "${results[@]}"
    [ "$failed" = 0 ] || die "not everything was proven, for the reasons above"
}

main
