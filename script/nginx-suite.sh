#!/bin/bash
# Owns the proof that the patch and the module change nothing else in nginx: nginx's own suite must
# come to the same result on an untouched nginx and on one with both. On a stock core the module hooks
# every listening socket for it, and reads each connection of HTTP/2 as one that may have tunnels.
#
# What is compared is each test that fails, and each file that is skipped or ends early. A file that fails is
# tried twice more, alone: some of the suite's tests depend on time. A TODO that passes with one and not
# with the other is no failure, and is shown: http_method.t has one for CONNECT, which a core that can do
# CONNECT fulfils.
#
# nginx-suite.sh [docs]    docs: what came out becomes the version's row in docs/nginx-suite.md
#
# LEAVE_OUT    a pattern of grep -E: files of the suite whose name has it are not run; nothing is left out if empty

. "$(dirname "$0")/common.sh"

core=$(core_of "$NGINX_VERSION")

TABLE=$ROOT/docs/nginx-suite.md

USER_NAME=nginx-suite
PROVE_JOBS=4

# How long the whole suite may take, and one file of it, in seconds: a test that hangs must not hang more
# than this.
SUITE_LIMIT=2400
FILE_LIMIT=200

# The suite wants an ordinary user, who can't read a folder of root's.
as_user() {
    if is_root; then
        runuser -u "$USER_NAME" -- "$@"
    else
        "$@"
    fi
}

make_user() {
    if is_root && ! id "$USER_NAME" >/dev/null 2>&1; then
        useradd --system --no-create-home --shell /bin/sh "$USER_NAME"
    fi
}

lay_out() {
    work=$(mktemp -d /tmp/nginx-suite.XXXXXX)
    trap 'rm -rf "$work"' EXIT

    cp -R "$(script/nginx-tests.sh "$NGINX_VERSION")" "$work/tests"

    cp "$BUILD/nginx-$NGINX_VERSION-suite-none-stock/objs/nginx" "$work/without"
    cp "$BUILD/nginx-$NGINX_VERSION-suite-static-$core/objs/nginx" "$work/with"

    # An nginx that a file leaves behind would keep prove waiting: 1.8.1 never gets through the
    # configuration of geo_unix.t.
    cat > "$work/one" << END
setsid timeout -k 5 $FILE_LIMIT perl "\$@" &
wait \$!
status=\$?
kill -KILL -- -\$! 2>/dev/null
exit \$status
END

    chmod 755 "$work"
    if is_root; then
        chown -R "$USER_NAME" "$work"
    fi
}

# prove_with BINARY OPTION...
prove_with() {
    local binary=$1
    shift

    (
        cd "$work/tests"
        as_user env TEST_NGINX_BINARY="$work/$binary" PROXY_CONNECT_HOOK_ALL=http2 timeout -k 5 "$SUITE_LIMIT" \
            prove --exec "bash $work/one" "$@" 2>&1
    )
}

log_of() {
    echo "$LOGS/nginx-suite-$NGINX_VERSION-$1.log"
}

result_of() {
    echo "$LOGS/nginx-suite-$NGINX_VERSION-$1.result"
}

# run_suite BINARY FILE...
run_suite() {
    local binary=$1 log failed try last
    shift

    log=$(log_of "$binary")
    last=$log

    rm -f "$work/tests/.prove" "$log".*
    prove_with "$binary" -j"$PROVE_JOBS" --state=save "$@" > "$log" || true
    tail -n 3 "$log"

    for try in 2 3; do
        failed=$(prove_with "$binary" --state=failed --dry || true)
        [ -n "$failed" ] || break

        last=$log.$try
        note "try $try, alone: ${failed//$'\n'/ }"
        prove_with "$binary" --state=failed,save > "$last" || true
        tail -n 3 "$last"
    done

    {
        failures "$last"
        sed -n 's/^\([^ ]*\.t\) \.* skipped.*/skipped: \1/p' "$log"
        awk '/^[^ ]*\.t .*Wstat/ { file = $1 } /^ *TODO passed:/ { print "todo passed: " file }' "$log"
    } | sed 's|: \./|: |' | sort -u > "$(result_of "$binary")"
}

# Files that passed with the module can't do better without: the others are tried there, too.
suspects() {
    sed -n 's/^[a-z ]*: \([^ ]*\.t\).*/\1/p' "$(result_of with)" | sort -u
}

# failures LOG: "failed: FILE TESTS", from prove's summary
failures() {
    awk '
        function flush() { if (failed) print "failed: " file " " failed; failed = "" }
        /^[^ ]*\.t .*Wstat/ { flush(); file = $1; next }
        /^  Failed tests?:/ { sub(/^[^:]*: */, ""); failed = failed " " $0; more = 1; next }
        /^  Parse errors:/ { sub(/^[^:]*: */, ""); failed = failed " (" $0 ")"; next }
        /^  Non-zero (exit|wait) status/ { failed = failed ? failed : " (" $0 ")"; next }
        /^                / && more { sub(/^ */, ""); failed = failed $0; next }
        { more = 0 }
        /^(Files|Result)/ { flush() }' "$1" | tr -s ' '
}

compare() {
    local worse
    all=$(diff "$(result_of without)" "$(result_of with)" | grep '^[<>]' || true)
    worse=$(echo "$all" | grep -v -e '^< failed: ' -e '^[<>] todo passed: ' || true)

    # A file that fails in both, but at another test, is a difference; one that fails only without is none.
    if [ -n "$worse" ]; then
        echo "$worse"
        die "nginx's own suite comes to another result on a $core core with the module (>) than" \
            "without both (<); see $(log_of with)"
    fi

    step "nginx's own suite: on a $core core with the module the same as without"
    [ -z "$all" ] || note "but for (< without, > with): ${all//$'\n'/; }"
    note "with: $(sum with)"
    note "without, the files that did not pass with both: $(sum without)"
    note "failed in both: $(grep -c '^failed' "$(result_of with)" || true) files," \
         "skipped in both: $(grep -c '^skipped' "$(result_of with)" || true)"
}

sum() {
    grep '^Files=' "$(log_of "$1")" | sed 's/, *[0-9.]* wallclock.*//'
}

# The rows of other versions stay as they are.
write_table() {
    local others
    others=$(grep '^| [0-9]' "$TABLE" 2>/dev/null | grep -v "^| $NGINX_VERSION |" || true)

    {
        cat << END
# nginx's own suite

Written by \`make suite-docs\`: nginx's own tests, on an untouched nginx, and on one of the same version with the patch and the
module linked in. For 1.18.0 and older it is the suite as it was in 2020.

*Skipped* and *failed* are files that are skipped, and that fail, with both: what an nginx this old lacks, or what it can't do with an
OpenSSL of today. A file that failed was tried three times. *Differences*: what comes out otherwise with the patch and the
module.

| nginx | core | files | tests | skipped | failed | differences | commit | date |
|---|---|--:|--:|--:|--:|---|---|---|
END
        {
            [ -z "$others" ] || echo "$others"
            table_row
        } | sort -V
    } > "$TABLE.new"

    mv "$TABLE.new" "$TABLE"
    step "${TABLE#"$ROOT"/} has the row of nginx $NGINX_VERSION"
}

table_row() {
    local counts with differences patch=stock

    counts=$(sum with | sed 's/Files=\([0-9]*\), Tests=\([0-9]*\)/\1 | \2/')
    with=$(result_of with)
    [ "$core" = stock ] || patch=$(basename "$(patch_of "$NGINX_VERSION")" .patch)
    differences=$(sed -e 's/^> todo passed: \(.*\)/\1: a TODO passes/' -e 's/^< failed: \(.*\)/\1 passes/' <<< "$all")
    differences=${differences//$'\n'/; }

    echo "| $NGINX_VERSION | $patch | $counts | $(grep -c '^skipped' "$with" || true) |" \
         "$(grep -c '^failed' "$with" || true) | ${differences:-none} |" \
         "$(git -C "$ROOT" rev-parse --short HEAD) | $(date -u +%Y-%m-%d) |"
}

[ "${1:-}" != docs ] || [ -z "${LEAVE_OUT:-}" ] || die "the table has the whole suite: not with LEAVE_OUT"

script/packages.sh build test suite
script/nginx-build.sh "$NGINX_VERSION" suite none stock
script/nginx-build.sh "$NGINX_VERSION" suite static "$core"

make_user
lay_out

if [ -n "${LEAVE_OUT:-}" ]; then
    (cd "$work/tests" && printf '%s\n' *.t | grep -E "$LEAVE_OUT" | xargs rm) || die "no file of the suite has \"$LEAVE_OUT\" in its name"
fi

step "nginx's own suite: nginx $NGINX_VERSION, $core core, with the module"
run_suite with .
grep -q '^Files=[1-9][0-9]*, Tests=[1-9]' "$(log_of with)" || die "the suite ran no test; see $(log_of with)"

step "nginx's own suite: nginx $NGINX_VERSION, untouched"
mapfile -t files < <(suspects)
: > "$(result_of without)"
: > "$(log_of without)"
[ ${#files[@]} = 0 ] || run_suite without "${files[@]}"

compare

if [ "${1:-}" = docs ]; then
    write_table
fi
