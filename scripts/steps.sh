# shellcheck shell=bash
# Sourced by the scripts. Defines how a step runs and how one is skipped.

# step NAME COMMAND...: runs the command, and prints it and its duration. A failure ends the script.
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

# skip NAME WHY: reports a skipped check. With CI=true, a skip is a failure.
skip() {
    printf '\n!!! SKIPPED, NOT CHECKED: %s: %s\n' "$1" "$2" >&2
    skipped+=("$1")
    if [ "${CI:-}" = true ]; then
        printf '!!! nothing may be skipped with CI=true\n' >&2
        exit 1
    fi
}
skipped=()
