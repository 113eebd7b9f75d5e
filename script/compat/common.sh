# shellcheck shell=bash
# Owns what the whole of "make compat" and one row of it share: folders and names.
# Sourced by both, after script/common.sh.

COMPAT=$BUILD/compat
ROWS=$ROOT/script/compat/rows
VARIANTS=$ROOT/script/compat/variants
KNOWN=$ROOT/script/compat/known

mkdir -p "$COMPAT"

# name_of SERVER CORE LINK [VARIANT]
name_of() {
    echo "$1-$2-$3${4:+-$4}"
}
