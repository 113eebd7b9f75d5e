#!/bin/bash
# Owns "make fuzz": has libFuzzer look for input that the parts without nginx can't take, each target for
# its share of the time. It begins with what it found earlier, and with fuzz/seeds/TARGET.
#
# fuzz.sh [TARGET...]     SECONDS_EACH: how long each target runs, 10 if empty

. "$(dirname "$0")/common.sh"

FUZZ=$BUILD/fuzz

# What cargo-fuzz would say to a compiler without sanitizers, which a stable one is: coverage by edges, and
# what is compared with what.
COVERAGE="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"

targets() {
    sed -n 's/^name = "\(.*\)"$/\1/p' fuzz/Cargo.toml | tail -n +2
}

build() {
    step "Building the fuzz targets"
    # shellcheck disable=SC2086
    RUSTFLAGS=$(echo $COVERAGE) run_logged fuzz-build cargo build --release --locked \
        --manifest-path fuzz/Cargo.toml --target "$(host)" --target-dir "$FUZZ/target"
}

# Told apart from the host, build scripts are not instrumented.
host() {
    rustc -vV | sed -n 's/^host: //p'
}

run() {
    local target=$1
    local corpus=$FUZZ/corpus/$target
    local folders=("$corpus")

    [ ! -d "fuzz/seeds/$target" ] || folders+=("fuzz/seeds/$target")
    mkdir -p "$corpus" "$FUZZ/found/$target"
    step "$target"

    "$FUZZ/target/$(host)/release/$target" -max_total_time="${SECONDS_EACH:-10}" -timeout=5 -rss_limit_mb=1024 \
        -print_final_stats=1 -artifact_prefix="$FUZZ/found/$target/" "${folders[@]}" > "$LOGS/fuzz-$target.log" 2>&1 || {
        tail -n 30 "$LOGS/fuzz-$target.log"
        die "$target: the input is in $FUZZ/found/$target"
    }

    grep -E "number_of_executed_units|new_units_added" "$LOGS/fuzz-$target.log"
}

script/packages.sh build
build

for target in ${*:-$(targets)}; do
    run "$target"
done
