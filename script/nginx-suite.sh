#!/bin/bash
# Owns the proof that the patch and the module change nothing else in nginx: nginx's own suite must
# come to the same result on an untouched nginx and on one with both. On a stock core the module hooks
# every listening socket for it.
#
# What is compared is each file that fails or is skipped. A file that fails is tried twice more, alone:
# some of the suite's tests depend on time. A TODO that passes with one and not with the other is no
# failure, and is shown: http_method.t has one for CONNECT, which a core that can do CONNECT fulfils.

. "$(dirname "$0")/common.sh"

core=$(core_of "$NGINX_VERSION")

USER_NAME=nginx-suite
PROVE_JOBS=4

# How long the whole suite may take, in seconds: a test that hangs must not hang more than this.
SUITE_LIMIT=1500

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

    cp "$BUILD/nginx-$NGINX_VERSION-suite-none-stock/objs/nginx" "$work/without"
    cp "$BUILD/nginx-$NGINX_VERSION-suite-static-$core/objs/nginx" "$work/with"

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
        as_user env TEST_NGINX_BINARY="$work/$binary" PROXY_CONNECT_HOOK_ALL=1 timeout -k 5 "$SUITE_LIMIT" prove "$@" 2>&1
    )
}

run_suite() {
    local binary=$1 log=$LOGS/nginx-suite-$1.log failed try

    rm -f "$work/tests/.prove"
    prove_with "$binary" -j"$PROVE_JOBS" --state=save . > "$log" || true
    tail -n 3 "$log"

    for try in 2 3; do
        failed=$(prove_with "$binary" --state=failed --dry || true)
        [ -n "$failed" ] || break

        note "try $try, alone: ${failed//$'\n'/ }"
        prove_with "$binary" --state=failed,save > "$log.$try" || true
        tail -n 3 "$log.$try"
    done

    {
        prove_with "$binary" --state=failed --dry | sed 's/^/failed: /'
        sed -n 's/^\([^ ]*\.t\) \.* skipped.*/skipped: \1/p' "$log"
        awk '/^[^ ]*\.t .*Wstat/ { file = $1 } /^ *TODO passed:/ { print "todo passed: " file }' "$log"
    } | sed 's|: \./|: |' | sort -u > "$LOGS/nginx-suite-$binary.result"

    grep -q '^Files=[1-9][0-9]*, Tests=[1-9]' "$log" || die "the suite ran no test; see $log"
}

compare() {
    local all worse
    all=$(diff "$LOGS/nginx-suite-without.result" "$LOGS/nginx-suite-with.result" \
          | grep '^[<>]' || true)
    worse=$(echo "$all" | grep -v -e '^< failed: ' -e '^[<>] todo passed: ' || true)

    if [ -n "$worse" ]; then
        echo "$worse"
        die "nginx's own suite comes to another result on a $core core with the module (>) than" \
            "without both (<); see $LOGS/nginx-suite-with.log"
    fi

    step "nginx's own suite: on a $core core with the module the same as without"
    [ -z "$all" ] || note "but for (< without, > with): ${all//$'\n'/; }"
    note "without: $(grep '^Files=' "$LOGS/nginx-suite-without.log" | sed 's/, *[0-9.]* wallclock.*//')"
    note "with:    $(grep '^Files=' "$LOGS/nginx-suite-with.log" | sed 's/, *[0-9.]* wallclock.*//')"
    note "failed in both: $(grep -c '^failed' "$LOGS/nginx-suite-with.result" || true)," \
         "skipped in both: $(grep -c '^skipped' "$LOGS/nginx-suite-with.result" || true)"
}

script/packages.sh build test suite
script/nginx-build.sh "$NGINX_VERSION" suite none stock
script/nginx-build.sh "$NGINX_VERSION" suite static "$core"

make_user
lay_out

step "nginx's own suite: nginx $NGINX_VERSION, untouched"
run_suite without

step "nginx's own suite: nginx $NGINX_VERSION, $core core, with the module"
run_suite with

compare
