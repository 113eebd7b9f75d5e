#!/bin/bash
# Owns the proof that the patch and the module change nothing else in nginx: nginx's own suite on an
# untouched nginx and on a patched one with the module linked in must come to the same result.
#
# What is compared is each file that fails, is skipped, or has a TODO that passes. A file that fails
# is tried twice more, alone: some of the suite's tests depend on time.

. "$(dirname "$0")/common.sh"

USER_NAME=nginx-suite
PROVE_JOBS=${SUITE_JOBS:-4}

# The suite has a TODO for CONNECT, which a core that can do CONNECT fulfils.
EXPECTED_DIFFERENCE='todo passed: http_method.t'

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

    cp -R "$(script/nginx-tests.sh)" "$work/tests"

    local link
    for link in stock static; do
        mkdir "$work/$link"
        cp "$BUILD/nginx-$NGINX_VERSION-suite-$link/objs/nginx" "$work/$link/nginx"
    done

    chmod 755 "$work"
    if is_root; then
        chown -R "$USER_NAME" "$work"
    fi
}

# prove_in LINK OPTION...
prove_in() {
    local link=$1
    shift

    (
        cd "$work/tests"
        as_user env TEST_NGINX_BINARY="$work/$link/nginx" prove "$@" 2>&1
    )
}

run_suite() {
    local link=$1 log=$LOGS/nginx-suite-$1.log failed try

    rm -f "$work/tests/.prove"
    prove_in "$link" -j"$PROVE_JOBS" --state=save . > "$log" || true
    tail -n 3 "$log"

    for try in 2 3; do
        failed=$(prove_in "$link" --state=failed --dry || true)
        [ -n "$failed" ] || break

        note "try $try, alone: ${failed//$'\n'/ }"
        prove_in "$link" --state=failed,save > "$log.$try" || true
        tail -n 3 "$log.$try"
    done

    {
        prove_in "$link" --state=failed --dry | sed 's/^/failed: /'
        sed -n 's/^\([^ ]*\.t\) \.* skipped.*/skipped: \1/p' "$log"
        awk '/^[^ ]*\.t .*Wstat/ { file = $1 } /^ *TODO passed:/ { print "todo passed: " file }' "$log"
    } | sed 's|: \./|: |' | sort -u > "$LOGS/nginx-suite-$link.result"

    grep -q '^Files=[1-9][0-9]*, Tests=[1-9]' "$log" || die "the suite ran no test; see $log"
}

compare() {
    local difference
    difference=$(diff "$LOGS/nginx-suite-stock.result" "$LOGS/nginx-suite-static.result" \
                 | grep '^[<>]' | grep -v '^< failed: ' | grep -vx "> $EXPECTED_DIFFERENCE" || true)

    if [ -n "$difference" ]; then
        echo "$difference"
        die "nginx's own suite comes to another result with the patch and the module (>) than" \
            "without (<); see $LOGS/nginx-suite-static.log"
    fi

    step "nginx's own suite: the same with the patch and the module as without"
    note "unpatched: $(grep '^Files=' "$LOGS/nginx-suite-stock.log" | sed 's/, *[0-9.]* wallclock.*//')"
    note "patched:   $(grep '^Files=' "$LOGS/nginx-suite-static.log" | sed 's/, *[0-9.]* wallclock.*//')"
    note "failed in both: $(grep -c '^failed' "$LOGS/nginx-suite-static.result" || true)," \
         "skipped in both: $(grep -c '^skipped' "$LOGS/nginx-suite-static.result" || true)"
}

script/packages.sh build test suite
script/nginx-build.sh "$NGINX_VERSION" suite stock
script/nginx-build.sh "$NGINX_VERSION" suite static

make_user
lay_out

step "nginx's own suite: nginx $NGINX_VERSION, unpatched"
run_suite stock

step "nginx's own suite: nginx $NGINX_VERSION, patched, with the module"
run_suite static

compare
