#!/bin/bash
# Owns "make release-check": whether this commit can be given out. Each thing that is missing is told.

. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/dist/tools.sh"

DOC=docs/packages.md

missing=0

# is TEXT COMMAND...
is() {
    local text=$1
    shift

    if "$@"; then
        printf 'ok       %s\n' "$text"
    else
        printf 'MISSING  %s\n' "$text"
        missing=$((missing + 1))
    fi
}

nothing_uncommitted() {
    local changes

    changes=$(git status --porcelain)
    [ -z "$changes" ] || {
        sed 's/^/         /' <<< "$changes" | head -n 10
        return 1
    }
}

# The first version of the changelog is this one, and no change stands above it.
changelog_has_version() {
    local first unreleased

    first=$(grep -m 1 '^## \[[0-9]' CHANGELOG.md)
    [[ $first =~ ^"## [$version] - "[0-9]{4}-[0-9]{2}-[0-9]{2}$ ]] && date -d "${first##* }" >/dev/null 2>&1 || {
        echo "         CHANGELOG.md has no \"## [$version] - YYYY-MM-DD\" as its first version"
        return 1
    }

    unreleased=$(sed -n '/^## \[Unreleased\]/,/^## \[[0-9]/p' CHANGELOG.md | grep -v '^## ' | grep .) || return 0
    echo "         under [Unreleased]: $(head -n 1 <<< "$unreleased")"
    return 1
}

locks_fit() {
    local folder

    for folder in . old fuzz; do
        cargo metadata --locked --format-version 1 --manifest-path $folder/Cargo.toml >/dev/null 2>"$LOGS/release-lock.log" || {
            echo "         $folder/Cargo.lock: $(tail -n 1 "$LOGS/release-lock.log")"
            return 1
        }
    done
}

made_twice() {
    script/dist-test.sh twice > "$LOGS/release-twice.log" 2>&1 </dev/null || {
        tail -n 20 "$LOGS/release-twice.log"
        return 1
    }
}

# proven VERSION ARCH LIBC: the file is this commit's, and the table has it
proven() {
    local file provenance sum
    file=$DIST/$(file_name "$@").tar.gz

    [ -f "$file" ] || {
        echo "         there is no ${file##*/}: make dist NGINX=$1 ARCH=$2 LIBC=$3"
        return 1
    }

    has_its_sum "$file" >/dev/null 2>&1 || {
        echo "         SHA256SUMS has another sum of ${file##*/}"
        return 1
    }

    provenance=$(tar -xzOf "$file" --wildcards '*/provenance.json')
    [[ $provenance == *"\"$commit\""* && $provenance == *'"clean" : true'* ]] || {
        echo "         ${file##*/} was made of another commit, or of changes that are in none: make dist"
        return 1
    }

    sum=$(tar -xzOf "$file" --wildcards "*/$MODULE.so" | sha256sum | cut -c 1-16)
    grep -q "^| $1 | $2 | $3 | .* | $sum |\$" $DOC || {
        echo "         $DOC does not say that the module $sum of ${file##*/} was loaded: make dist-proof"
        return 1
    }
}

require_cargo
version=$(module_version)
commit=$(git rev-parse HEAD)
step "Version $version, commit $commit"

is "everything is committed" nothing_uncommitted
is "CHANGELOG.md has the version with its date" changelog_has_version
is "the lock files fit" locks_fit

while read -r nginx _; do
    for arch in "${ARCHES[@]}"; do
        for libc in "${LIBCS[@]}"; do
            is "nginx $nginx, $arch, $libc is made and proven" proven "$nginx" "$arch" "$libc"
        done
    done
done < <(grep '^[0-9]' packaging/matrix)

is "two clones give the same file" made_twice

[ "$missing" = 0 ] || die "$missing of these are missing"
note "$version can be given out: build/dist/"
