# shellcheck shell=bash
# Owns the crates that others wrote, compiled once for all the trees of nginx below build/: what cargo made of them in the first
# tree is copied into the next. All that depends on nginx is made anew in each. Sourced after script/common.sh, in the folder of a tree.

# The folder that has them. Before nginx 1.17.5 the module is built from old/, with crates of its own.
crates() {
    if grep -q ngx_posted_next_events src/event/ngx_event_posted.h build/nginx-*/src/event/ngx_event_posted.h 2>/dev/null
    then
        echo "$BUILD/crates"
    else
        echo "$BUILD/crates-old"
    fi
}

# take_crates OBJS: before make
take_crates() {
    if [ -d "$(crates)" ]; then
        mkdir -p "$1"
        cp -a "$(crates)" "$1/$MODULE"
    fi
}

# keep_crates: after make
keep_crates() {
    local made new crate
    made=$(find . -path "*objs/$MODULE" -type d)
    new=$(crates).$$

    if [ -d "$made" ] && ! [ -d "$(crates)" ]; then
        cp -a "$made" "$new"
        rm -f "$new/built" "$new/headers" "$new/release/lib$MODULE.a"

        # cargo would take a build.rs for the one that it knows, by its path.
        for crate in "$MODULE" nginx-sys ngx proxy-connect-core; do
            rm -rf "$new"/release/build/"$crate"-* "$new"/release/.fingerprint/"$crate"-*
        done

        mv -T "$new" "$(crates)" 2>/dev/null || rm -rf "$new"
    fi
}
