#!/bin/bash
# Owns "make test": format, lints, unit tests, and the Perl tests against a patched nginx, with one
# summary at the end. A step that fails does not keep the others from running.

. "$(dirname "$0")/common.sh"

LINK=${LINK:-dynamic}
HARNESS=${HARNESS:-own}
STEPS=${STEPS:-rust perl}
TESTS=${TESTS:-}

VALGRIND=${VALGRIND:-}
ASAN=${ASAN:-}

# How long one file of Perl tests may take, in seconds.
FILE_LIMIT=${VALGRIND:+1800}
FILE_LIMIT=${FILE_LIMIT:-600}

# What a test says of a program that it would run: Test::ProxyConnect::Program.
NOT_INSTALLED='skipped, not installed: '

core=$(core_of "$NGINX_VERSION")
profile=${ASAN:+asan}
profile=${profile:-test}
tree=$BUILD/nginx-$NGINX_VERSION-$profile-$LINK-$core
summary=()
details=()
failed=0
started=$SECONDS

# report TEXT COMMAND...: runs a step and keeps what became of it for the summary
report() {
    local text=$1 result=ok
    shift

    step "$text"
    details=()

    if ! "$@"; then
        result=FAILED
        failed=1
    fi

    summary+=("$(printf '%-7s %s' "$result" "$text")" ${details[@]+"${details[@]}"})
}

add_detail() {
    details+=("        $*")
}

check_tools() {
    require_cargo

    local tool
    for tool in fmt clippy; do
        cargo $tool --version >/dev/null 2>&1 \
            || die "cargo $tool is not installed: rustup component add rustfmt clippy"
    done
}

# The root crate needs nginx's headers, as configured for the tests.
with_nginx() {
    NGINX_SOURCE_DIR=$tree NGINX_BUILD_DIR=$tree/objs "$@"
}

lint() {
    with_nginx cargo clippy --locked --workspace --all-targets -- -D warnings
}

unit_tests() {
    local log=$LOGS/cargo-test.log result=0

    cargo test --locked -p proxy-connect-core -p proxy-connect-bench 2>&1 | tee "$log" || result=1
    add_detail "$(sum_of_cargo_tests "$log")"

    if ! grep -q '^test result: ok\. [1-9]' "$log"; then
        echo "no unit test ran" >&2
        result=1
    fi

    return "$result"
}

sum_of_cargo_tests() {
    awk '/^test result:/ { passed += $4; failed += $6; ignored += $8 }
         END { printf "%d passed, %d failed, %d ignored", passed, failed, ignored }' "$1"
}

# A module that cargo alone has built, without nginx's make, loads into the same nginx.
cargo_module() {
    local conf=$BUILD/cargo-module.conf

    with_nginx cargo build --locked --release || return 1

    cat > "$conf" <<END
load_module $ROOT/target/release/$MODULE.so;
events {
}
http {
    server {
        listen unix:$BUILD/cargo-module.sock;
        proxy_connect;
    }
}
END

    mkdir -p "$tree/prefix/logs"
    # shellcheck disable=SC2046
    "$tree/objs/nginx" -t -c "$conf" $(early_log "$tree/objs/nginx")
}

# Sets lib to the folder with Test::Nginx.
find_harness() {
    case $HARNESS in
        own)   lib=$ROOT/t/harness ;;
        nginx) lib=$(script/nginx-tests.sh)/lib ;;
        *)     die "HARNESS is \"$HARNESS\": it is one of own, nginx" ;;
    esac

    [ -f "$lib/Test/Nginx.pm" ] || die "there is no Test/Nginx.pm in $lib"
}

# Sets tests to the files to run.
find_tests() {
    if [ -n "$TESTS" ]; then
        # shellcheck disable=SC2206
        tests=($TESTS)
    else
        tests=(t/*.t)
    fi

    local file
    for file in "${tests[@]}"; do
        [ -e "$file" ] || die "there is no test $file"
    done
}

globals() {
    if [ "$LINK" = dynamic ]; then
        printf 'load_module %s; ' "$tree/objs/$MODULE.so"
    fi

    # As root, workers would be another user who can't read the tests' folders.
    if is_root; then
        printf 'user root; '
    fi

    # For the nginx that an upgrade starts.
    if [ -n "$ASAN" ]; then
        printf 'env ASAN_OPTIONS; '
    fi

    printf '%s' "${TEST_NGINX_GLOBALS:-}"
}

# run_tests LOG JOBS FILE...
run_tests() {
    local log=$1 jobs=$2
    shift 2

    # A file that hangs is ended, with the servers that it started.
    ASAN_OPTIONS=${ASAN_OPTIONS:-$ASAN_QUIET} TEST_NGINX_BINARY=$tree/objs/nginx TEST_NGINX_GLOBALS=$(globals) \
        TEST_NGINX_ASAN=$ASAN TEST_NGINX_VALGRIND=${VALGRIND:-${TEST_NGINX_VALGRIND:-}} \
        PERL5LIB=$lib${PERL5LIB:+:$PERL5LIB} \
        prove -j"$jobs" --timer --exec "timeout -k 5 $FILE_LIMIT perl" "$@" 2>&1 | tee "$log"
}

# A file that failed is tried once more, alone: timeouts are measured, and a busy machine disturbs
# that. The summary tells of it.
try_again() {
    local log=$1 failed

    mapfile -t failed < <(sed -n 's/^\(t\/[^ ]*\.t\)  *(Wstat: .*/\1/p' "$log" | sort -u)

    [ ${#failed[@]} -gt 0 ] || return 1

    add_detail "tried again, alone: ${failed[*]}"
    run_tests "$log.again" 1 "${failed[@]}"
}

perl_tests() {
    local log=$LOGS/prove-$NGINX_VERSION-$LINK-$core-$HARNESS.log result=0

    run_tests "$log" "$JOBS" "${tests[@]}" || result=1

    if [ "$result" -ne 0 ]; then
        try_again "$log" && result=0
    fi

    if ! grep -q '^Files=[0-9]*, Tests=[1-9]' "$log"; then
        echo "no test ran" >&2
        result=1
    fi

    if [ -n "${NO_SKIPS:-}" ] && grep -q -e '\.t \.* *skipped' -e "$NOT_INSTALLED" "$log"; then
        echo "a file or a program was skipped, and NO_SKIPS is set" >&2
        result=1
    fi

    local line
    while IFS= read -r line; do
        add_detail "$line"
    done < <(sed -n -e 's/^\[[0-9:]*\] *//' -e 's/, *[0-9.]* wallclock.*//' \
                    -e '/^Files=/p' -e '/\.t  *(Wstat/p' -e '/\.t \.* *skipped/p' -e "/$NOT_INSTALLED/p" "$log")

    return "$result"
}

script/packages.sh build test ${VALGRIND:+valgrind}

if [ "$LINK" != dynamic ] && [ "$LINK" != static ]; then
    die "LINK is \"$LINK\": it is one of dynamic, static"
fi

case " $STEPS " in
    *' rust '* | *' perl '*) ;;
    *) die "STEPS is \"$STEPS\": it is one or both of rust, perl" ;;
esac

check_tools
find_harness
find_tests

script/nginx-build.sh "$NGINX_VERSION" "$profile" "$LINK" "$core"

case " $STEPS " in
    *' rust '*)
        report "cargo fmt --check" cargo fmt --all --check
        report "cargo clippy, warnings are errors" lint
        report "cargo test: core, bench" unit_tests
        report "cargo build --release: the module loads" cargo_module
    ;;
esac

case " $STEPS " in
    *' perl '*)
        report "prove: nginx $NGINX_VERSION, $core core, $LINK module, harness $HARNESS${VALGRIND:+, valgrind}${ASAN:+, AddressSanitizer}" \
            perl_tests
    ;;
esac

step "Summary, after $((SECONDS - started)) s"
printf '    %s\n' "${summary[@]}"

exit $failed
