# shellcheck shell=bash
# Sourced by the scripts: how a step is run, and how one is skipped.

# step NAME COMMAND...: prints the command and how long it took; its failure ends the script.
step() {
    local name=$1 start=$SECONDS
    shift
    printf '\n=== %s: %s\n' "$name" "$*"
    if ! "$@"; then
        printf '=== %s failed after %d s\n' "$name" $((SECONDS - start)) >&2
        exit 1
    fi
    printf '=== %s: %d s\n' "$name" $((SECONDS - start))
}

# skip NAME WHY: where CI=true nothing may be skipped.
skip() {
    printf '\n!!! SKIPPED, NOT CHECKED: %s: %s\n' "$1" "$2" >&2
    skipped+=("$1")
    if [ "${CI:-}" = true ]; then
        printf '!!! nothing may be skipped where CI=true\n' >&2
        exit 1
    fi
}
skipped=()
