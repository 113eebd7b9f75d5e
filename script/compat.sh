#!/usr/bin/env bash
# Owns "make compat": has the servers of script/compat/rows built and tested, two rows side by side, and
# writes docs/compatibility.md. A row that has passed with the module as it is is not run again; of one
# that failed with it, only the files that failed. AGAIN=yes runs all of each.
#
# usage: NGINX_SOURCES=FOLDER [ROW=NAME] [AGAIN=yes] [TESTS='t/a.t t/b.t'] script/compat.sh
#
# With TESTS only these files are run, and the table stays as it is.
#
# The name of a row: SERVER-LINK, as nginx-1.8.1-static, takes the row with the patch for the rewrite
# phase or with what the server brings; the whole name SERVER-CORE-LINK[-VARIANT] takes any, and
# so does a pattern of the shell over such names, as 'openresty-*'. ROW may hold several, with spaces.
#
# A row that was not run here keeps the line that the table has of it.

. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/compat/common.sh"

TABLE=$ROOT/docs/compatibility.md

main() {
    [ -n "$NGINX_SOURCES" ] || die "NGINX_SOURCES has to name a folder with nginx-VERSION.tar.gz"

    local total
    total=$(wanted_rows | wc -l)
    [ "$total" != 0 ] || die "no row of script/compat/rows is called \"$ROW\""
    step "$total of $(rows | wc -l) servers, $JOBS side by side"

    script/packages.sh build test compat
    export COMPAT_TOTAL=$total COMPAT_COUNT=$COMPAT/count
    : > "$COMPAT_COUNT"

    # Ended early, the table has what was done until then.
    [ -n "${TESTS:-}" ] || trap write_table EXIT

    local failed=0
    wanted_rows | xargs -P "$JOBS" -L 1 script/compat/row.sh || failed=1

    [ -n "${TESTS:-}" ] || step "$TABLE has the table"
    [ "$failed" = 0 ] || die "a row failed: see above"
}

rows() {
    grep -v '^#' "$ROWS" | grep .
}

# In the order of ROW.
wanted_rows() (
    # the patterns are for names of rows, not of files
    set -f

    for wanted in ${ROW:-*}; do
        rows | while read -r server core link variant; do
            if is_wanted "$wanted" "$server" "$core" "$link" "$variant"; then
                # xargs takes a line that ends with a blank for one that goes on.
                echo "$server $core $link${variant:+ $variant}"
            fi
        done
    done | awk '!seen[$0]++'
)

# is_wanted PATTERN SERVER CORE LINK VARIANT
is_wanted() {
    local wanted=$1
    shift

    # shellcheck disable=SC2254
    case $(name_of "$@") in
        $wanted) return 0 ;;
    esac

    [ "$wanted" = "$1-$3" ] && [ -z "$4" ] && has_rewrite "$2"
}

# Whether CONNECT has a rewrite phase with a core.
has_rewrite() {
    case $1 in
        proxy_connect_rewrite* | native | own) return 0 ;;
        *) return 1 ;;
    esac
}

write_table() {
    local server core link variant before=$COMPAT/table-before

    cp "$TABLE" "$before" 2>/dev/null || : > "$before"

    {
        cat << END
# Compatibility

Written by \`make compat\`, which builds each of these servers from its source and runs the tests in
\`t/\` on it, the long ones with a small part of their load.

*Core*: the patch applied, without its \`.patch\`; *native* where the core parses CONNECT by itself, *stock* without a
patch, *own* where the server brings a patch. *Variant*: what was configured otherwise; [below](#variants). *As the core has
it*: tests that fail for what this core can't give; [the reasons](#what-a-core-cant-give). *Seconds*: of the last run, which of a row that
had failed is that of the failed files alone.

| server | core | link | variant | result | passed | failed | as the core has it | files skipped | seconds | commit | date |
|---|---|---|---|---|--:|--:|--:|--:|--:|---|---|
END
        rows | while read -r server core link variant; do
            table_row "$server" "$core" "$link" "$variant"
        done

        printf '\n## Variants\n\n| variant | configured with |\n|---|---|\n'
        grep -v -e '^#' -e '^$' "$VARIANTS" | sed 's/^\([^ ]*\)  *\(.*\)/| \1 | `\2` |/'

        printf '\n## What a core can'\''t give\n\n| nginx, or core | test | why |\n|---|---|---|\n'
        perl -lne 'next if /^#|^\s*$/; my @f = map { s/^\s+|\s+$//gr } split / \| /;
            print "| ", ($f[0] =~ /^\d/ ? "up to $f[0]" : $f[0]), " | $f[1] | $f[-1] |"' "$KNOWN" | sort -u -V
    } > "$TABLE"
}

# table_row SERVER CORE LINK VARIANT
table_row() {
    local result state passed failed known skipped seconds commit date
    result=$COMPAT/$(name_of "$@").result

    if [ -f "$result" ]; then
        read -r state passed failed known skipped seconds commit date < "$result"
        echo "| $1 | $2 | $3 | $4 | $state | $passed | $failed | $known | $skipped | $seconds | $commit | $date |"
    else
        grep -F "| $1 | $2 | $3 | $4 | " "$COMPAT/table-before" \
            || echo "| $1 | $2 | $3 | $4 | not run | | | | | | | |"
    fi
}

main
