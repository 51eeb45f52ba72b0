#!/usr/bin/env bash
# What every host of a job runs, whoever starts it: tpu_vm.sh, slurm.sh, skypilot.yaml,
# gke_jobset.yaml, or you. It joins the other hosts, then does what launch/local.sh does, with the
# same arguments.
#
#   ACCELERATOR=cuda RUN_ROOT=/shared/runs bash launch/worker.sh --config configs/llama3_8b.yaml
#
# From the environment, all of it optional:
#
#   ACCELERATOR   cpu, tpu, cuda or cuda12: which jax launch/setup.sh installs
#   RUN_ROOT      the folder of all runs; a job of several hosts needs one that all of them see
#   TRAIN_ARGS    further arguments in one line, quoted as in a shell; nothing in it is expanded
#   JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID
#                 host:port of the first process, how many there are, and which this is; not for
#                 Cloud TPU, GKE and Slurm, where jax finds the other hosts by itself
#
# SIGTERM makes training save and end with status 143. The same command goes on from there.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() {
    printf '[worker] ERROR: %s\n' "$*" >&2
    exit 2
}

split_train_args() { # into words; xargs knows quotes, but neither variables nor commands
    local file word
    [[ ${TRAIN_ARGS:-} =~ [^[:space:]] ]] || return 0
    file=$(mktemp)
    xargs printf '%s\0' <<<"$TRAIN_ARGS" >"$file" ||
        { rm "$file" && fail "TRAIN_ARGS cannot be split into arguments: $TRAIN_ARGS"; }
    while IFS= read -r -d '' word; do words+=("$word"); done <"$file"
    rm "$file"
}

names_run_root() {
    local argument
    for argument in "$@"; do
        case $argument in --run.root | --run.root=*) return 0 ;; esac
    done
    return 1
}

needs() {
    local name
    for name in "$@"; do
        [ -n "${!name:-}" ] || fail "$name is not set, but JAX_NUM_PROCESSES=$JAX_NUM_PROCESSES"
    done
}

join_other_hosts() {
    if [ "${JAX_NUM_PROCESSES:-1}" != 1 ]; then
        needs JAX_COORDINATOR_ADDRESS JAX_PROCESS_ID
    elif [ -n "${SLURM_STEP_NODELIST:-}" ] && [ "${SLURM_NTASKS:-1}" != 1 ]; then
        use_all_gpus_of_the_node
    elif [ "${ACCELERATOR:-}" != tpu ]; then
        return 0
    fi
    export DART_JAX_DISTRIBUTED="${DART_JAX_DISTRIBUTED:-1}"
}

use_all_gpus_of_the_node() { # under Slurm, jax would take one GPU a task; ours are one task a node
    local gpus=${SLURM_GPUS_ON_NODE:-0}
    [ "$gpus" = 0 ] ||
        export JAX_LOCAL_DEVICE_IDS="${JAX_LOCAL_DEVICE_IDS:-$(seq -s , 0 $((gpus - 1)))}"
}

words=()
split_train_args
set -- "$@" ${words[@]+"${words[@]}"} # bash 3.2 takes an empty array for an unset variable
if [ -n "${RUN_ROOT:-}" ]; then
    ! names_run_root "$@" || fail "RUN_ROOT is set; leave --run.root out of the arguments"
    set -- "$@" --run.root "$RUN_ROOT"
fi
join_other_hosts
exec bash "$root/launch/local.sh" "$@"
