# shellcheck shell=bash
# Owns how the tests of packages count: one line for a check, and what it said where it failed.
# Sourced, after common.sh, by those tests, which set scratch to a folder of theirs.

passed=0
failed=0

# check TEXT COMMAND...
check() {
    local text=$1 log=$scratch/check.log
    shift

    if "$@" > "$log" 2>&1 </dev/null; then
        passed=$((passed + 1))
        printf 'ok      %s\n' "$text"
    else
        failed=$((failed + 1))
        printf 'FAILED  %s\n' "$text"
        uniq "$log" | tail -n 20 | sed 's/^/        /'
    fi
}

not() {
    ! "$@"
}

# Asks again for ten seconds.
wait_until() {
    local i

    for ((i = 0; i < 200; i++)); do
        "$@" && return 0
        sleep 0.05
    done

    return 1
}

# Sets as many ports as are named to free ones of 127.0.0.1.
find_ports() {
    local ports

    ports=$(perl -MIO::Socket::INET -e '
        my @s = map { IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 1) or die $! }
                1 .. $ARGV[0];
        print join " ", map { $_->sockport } @s' $#)

    # shellcheck disable=SC2229
    read -r "$@" <<< "$ports"
}

# The last line of a test, and its exit status.
tell_result() {
    echo
    printf '%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" -eq 0 ]
}
