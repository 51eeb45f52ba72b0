#!/usr/bin/env bash
# For tpu_vm.sh and slurm.sh, which read it: commands that --dry-run prints instead.

dry_run=
arguments=() # what is left of the command line without --dry-run

take_dry_run() {
    local argument
    for argument in "$@"; do
        if [ "$argument" = --dry-run ]; then dry_run=1; else arguments+=("$argument"); fi
    done
}

say() { printf '[launch] %s\n' "$*" >&2; }

fail() {
    printf '[launch] ERROR: %s\n' "$*" >&2
    exit 2
}

needs() { # names of variables
    local name
    for name in "$@"; do
        [ -n "${!name:-}" ] || fail "$name is not set; the head of ${0##*/} says what it is"
    done
}

quote() { # words as one would type them
    local word single="'" quoted
    for word in "$@"; do
        if [[ $word =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]]; then
            printf '%s ' "$word"
        else
            quoted= # part by part: bash 3.2 reads quotes in a replacement in another way
            while [[ $word == *"$single"* ]]; do
                quoted+=${word%%"$single"*}$single\\$single$single
                word=${word#*"$single"}
            done
            printf "'%s' " "$quoted$word"
        fi
    done
    printf '\n'
}

run() {
    if [ -n "$dry_run" ]; then quote "$@"; else "$@"; fi
}
