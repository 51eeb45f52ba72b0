#!/usr/bin/env bash
# The whole of DART on this machine: environment, then train.
#
#   bash launch/local.sh                                              # configs/quickstart.yaml
#   bash launch/local.sh --sft.learning_rate 1e-4                     # the same, changed
#   bash launch/local.sh --config configs/x.yaml --stages audit,repair,evaluate
#
# Arguments go to `python -m dart_jax.train` as they are. Relative paths in them, and the folder
# runs/, are relative to where you call it from.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

names_config() {
    local argument
    for argument in "$@"; do
        case $argument in --config | --config=*) return 0 ;; esac
    done
    return 1
}

names_config "$@" || set -- --config "$root/configs/quickstart.yaml" "$@"
bash "$root/launch/setup_for.sh" "$@"
# Large pages for what XLA takes and gives back at each step: twelve training steps of SmolLM2-135M
# on two cores then have 0.2 million page faults in place of 3.5. Only glibc on Linux reads this.
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$root/.venv/bin/python" -m dart_jax.train "$@"
