#!/usr/bin/env bash
# DART as a Slurm job, one process a node, with all GPUs of the node.
#
#   NODES=2 GPUS=8 bash launch/slurm.sh --config configs/llama3_8b.yaml --run.name try1
#
# Arguments are those of launch/local.sh, and are relative to where you call it from. --dry-run
# prints the commands, of the submission and of the job, instead of running them. Settings:
#
#   NODES, GPUS, CPUS   how many nodes, and what of each: 1, 1 and 8
#   ACCELERATOR         cuda, or cpu, and then without GPUs
#   RUN_ROOT            folder of all runs; $PWD/runs. It and this tree must be seen by all nodes
#   SBATCH_*            sbatch reads the rest from these itself: SBATCH_PARTITION, SBATCH_ACCOUNT,
#                       SBATCH_TIMELIMIT, SBATCH_MEM_PER_NODE ...
#
# Keys (OPENAI_API_KEY ...) reach the job with the environment you submit from. Logs are in
# RUN_ROOT/logs: slurm-JOB.out of the job, slurm-JOB-NODE.out of each node.
#
# Five minutes before the time limit, training is told to save; it ends with status 143, and the
# job goes back into the queue and on from there. Slurm itself does so with a job that is preempted
# or loses a node. scancel ends it for good; what was trained is saved if KillWait is long enough.
set -euo pipefail

in_job= # sbatch runs a copy of this file that is elsewhere, and says where the tree is
if [ "${1:-}" = --job ]; then
    in_job=1 root=$2
    shift 2
else
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
fi
# shellcheck source=launch/commands.sh
source "$root/launch/commands.sh"

submit() {
    local options=(
        --job-name=dart_jax --output="$RUN_ROOT/logs/slurm-%j.out" --export=ALL
        --nodes="${NODES:-1}" --ntasks-per-node=1 --cpus-per-task="$CPUS"
        --requeue --open-mode=append --signal=B:USR1@300
    )
    [ "$ACCELERATOR" = cpu ] || options+=(--gpus-per-node="${GPUS:-1}")
    run mkdir -p "$RUN_ROOT/logs"
    run sbatch "${options[@]}" "$root/launch/slurm.sh" --job "$root" "$@"
    [ -n "$dry_run" ] || say "logs: $RUN_ROOT/logs/slurm-*.out"
}

step=     # number of the process of srun
near_end= # whether the time limit is

tell_to_save() { # by the job's steps; srun itself would take SIGTERM for a reason to kill them
    near_end=1
    run scancel --signal=TERM "$SLURM_JOB_ID"
}

wait_for_step() { # a trapped signal interrupts `wait`
    while kill -0 "$step" 2>/dev/null; do wait "$step" || true; done
    wait "$step"
}

job() {
    local status=143
    trap tell_to_save USR1
    trap 'say "told to end; the nodes are saving"' TERM # Slurm tells them, too
    run bash "$root/launch/setup_for.sh" "$@" # by one node, so that the others find it done
    local command=(
        srun --cpus-per-task="$CPUS" --wait=120 --open-mode=append
        --output="$RUN_ROOT/logs/slurm-%j-%n.out" bash "$root/launch/worker.sh" "$@"
    )
    if [ -n "$dry_run" ]; then
        quote "${command[@]}"
        say "at SIGUSR1, and then, once the nodes have saved:"
        SLURM_JOB_ID=JOB tell_to_save
        run scontrol requeue JOB
        return
    fi
    if [ -z "$near_end" ]; then
        "${command[@]}" &
        step=$!
        status=0
        wait_for_step || status=$?
    fi
    if [ -n "$near_end" ] && [ "$status" = 143 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
    return "$status"
}

take_dry_run "$@"
set -- ${arguments[@]+"${arguments[@]}"} # bash 3.2 takes an empty array for an unset variable
export ACCELERATOR=${ACCELERATOR:-cuda} RUN_ROOT=${RUN_ROOT:-$PWD/runs} CPUS=${CPUS:-8}
if [ -n "$in_job" ]; then
    job "$@"
    exit
fi
submit "$@"
if [ -n "$dry_run" ]; then
    say "in the job:"
    job "$@"
fi
