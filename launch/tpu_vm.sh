#!/usr/bin/env bash
# DART on a Cloud TPU VM or slice, with gcloud, from your machine.
#
#   export PROJECT=my-project ZONE=us-west4-a TPU_NAME=dart TPU_TYPE=v5litepod-8
#   bash launch/tpu_vm.sh create
#   bash launch/tpu_vm.sh install          # this working tree and its environment, on every worker
#   bash launch/tpu_vm.sh run --config configs/llama3_8b_v5e_2x4.yaml --run.name try1
#   bash launch/tpu_vm.sh follow           # what the first worker prints, until the run ends
#   bash launch/tpu_vm.sh fetch try1       # the run's folder, to runs/try1 here
#   bash launch/tpu_vm.sh stop             # training saves and ends; run goes on from there
#   bash launch/tpu_vm.sh delete [--yes]
#
# `run` takes the arguments of launch/local.sh; paths in them are paths on the workers, relative to
# this tree there. Said again, it goes on with the run; when the machine was preempted, it first
# makes a new one. --dry-run prints every command instead of running it.
#
# Further settings, all optional:
#
#   SPOT=1      preemptible
#   QUEUED=1    ask through a queued resource, and wait for it: v5p and v6e rarely come otherwise
#   RUNTIME     software version of the VM, when not the usual one of TPU_TYPE
#   SHARED      NFS share (Filestore), address:/share, mounted on every worker as RUN_ROOT; with
#               OS Login you are the same user on all of them
#   RUN_ROOT    folder of all runs on the workers; /mnt/dart_jax with SHARED, or else runs in this
#               tree there, on the machine's own disk, which goes with the machine
#   SECRETS     keys for the run, as names in Secret Manager, which the workers read:
#               "OPENAI_API_KEY=my-openai-key HF_TOKEN=my-hf-token"
#
# A slice of several workers needs a RUN_ROOT that all of them see: SHARED, or a mount of your own.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/commands.sh
source "$root/launch/commands.sh"

# ---- On the workers: sent there as text, and run in the home folder, where dart_jax/ is this tree

worker_mount() { # $1: address:/share or nothing, $2: where
    if [ -z "$1" ] || mountpoint -q "$2"; then return; fi
    command -v mount.nfs >/dev/null || { sudo apt-get update && sudo apt-get install -y nfs-common; }
    sudo mkdir -p "$2"
    sudo mount -t nfs "$1" "$2"
    [ -w "$2" ] || sudo chown "$(id -u)" "$2"
}

worker_install() {
    local python
    mkdir -p dart_jax
    cd dart_jax
    rm -rf configs dart_jax launch
    tar -xzf ../dart_jax.tgz
    python=$(bash launch/find_python.sh)
    PYTHON=$python ACCELERATOR=tpu bash launch/setup.sh
}

worker_read_secrets() { # $1: project, $2: words NAME=SECRET
    local pair value
    for pair in $2; do
        value=$(gcloud secrets versions access latest --project="$1" --secret="${pair#*=}")
        export "${pair%%=*}=$value"
    done
}

worker_is_free() { flock -n dart_jax.lock true; }

worker_start() { # the lock lasts as long as the run; `stop` needs the number of its holder
    cd dart_jax
    setsid nohup flock -nF ../dart_jax.lock bash launch/worker.sh "$@" \
        >>../dart_jax.log 2>&1 </dev/null &
    echo $! >../dart_jax.pid
}

worker_stop() {
    if worker_is_free; then return; fi
    kill -TERM "$(cat dart_jax.pid)"
    flock dart_jax.lock true
}

worker_follow() {
    [ -e dart_jax.pid ] || { echo "no run was started here" >&2 && return 1; }
    tail --pid="$(cat dart_jax.pid)" -n 200 -f dart_jax.log
}

# ---- Here

tpus() { # words of `gcloud compute tpus`: group, verb and the rest
    run gcloud compute tpus "$@" --project="$PROJECT" --zone="$ZONE"
}

on_workers() { # $1: which ("all" or a number), $2: names of functions, $3: a command line with them
    local functions
    # shellcheck disable=SC2086 # several names
    functions=$(declare -f $2)
    tpus tpu-vm ssh "$TPU_NAME" --worker="$1" --command="$functions"$'\nset -eu\n'"$3"
}

runtime() {
    case $TPU_TYPE in
    v5lite* | v5e*) printf 'v2-alpha-tpuv5-lite' ;;
    v5p*) printf 'v2-alpha-tpuv5' ;;
    v6e*) printf 'v2-alpha-tpuv6e' ;;
    *) printf 'tpu-ubuntu2204-base' ;;
    esac
}

create() {
    local options=(--accelerator-type="$TPU_TYPE" --scopes=cloud-platform ${SPOT:+--spot})
    local version=${RUNTIME:-$(runtime)}
    [ -z "${SPOT:-}" ] || [ -n "${RUN_ROOT:-}" ] ||
        say "note: without SHARED, a preemption takes the run's folder with it"
    if [ -n "${QUEUED:-}" ]; then
        tpus queued-resources create "$TPU_NAME" --node-id="$TPU_NAME" \
            --runtime-version="$version" "${options[@]}"
        wait_until_ready
    else
        tpus tpu-vm create "$TPU_NAME" --version="$version" "${options[@]}"
    fi
}

describe() { # "READY 4": state and number of workers
    tpus tpu-vm describe "$TPU_NAME" --format='value(state,networkEndpoints.len())'
}

wait_until_ready() {
    if [ -n "$dry_run" ]; then
        say "every 30 s, until it says READY:"
        describe
        return
    fi
    say "waiting for the queued resource; Ctrl-C leaves it in the queue"
    until [[ $(describe 2>/dev/null) == READY* ]]; do sleep 30; done
}

install() (# in a shell of its own, so that the archive goes at its end
    folder=$(mktemp -d)
    trap 'rm -r "$folder"' EXIT
    archive=$folder/dart_jax.tgz
    # The tar of macOS would otherwise put a second file beside each.
    export COPYFILE_DISABLE=1
    run tar -C "$root" --exclude=__pycache__ -czf "$archive" configs dart_jax launch pyproject.toml
    tpus tpu-vm scp "$archive" "$TPU_NAME:dart_jax.tgz" --worker=all
    on_workers all worker_install worker_install
)

check_secrets() {
    local pair
    for pair in ${SECRETS:-}; do
        [[ $pair =~ ^[A-Z][A-Z0-9_]*=[A-Za-z0-9_-]+$ && ! $pair =~ =(sk-|hf_) ]] ||
            fail "SECRETS: a word is VARIABLE=NAME, with the name of a secret in Secret Manager," \
                "not the secret itself; look at ${pair%%=*}"
    done
}

make_anew() {
    remove
    create
    install
}

check_machine() { # a machine that can run; a preempted one is made anew
    local found state workers
    if [ -n "$dry_run" ]; then
        describe
        say "only if that says PREEMPTED or TERMINATED:"
        make_anew
        say "in any case:"
        return
    fi
    found=$(describe) || fail "cannot find $TPU_NAME in $ZONE; bash launch/tpu_vm.sh create"
    read -r state workers <<<"$found"
    case $state in
    READY) ;;
    PREEMPTED | TERMINATED)
        say "$TPU_NAME is $state: making it anew"
        make_anew
        ;;
    *) fail "$TPU_NAME is $state; try again when it is READY" ;;
    esac
    [ "${workers:-1}" = 1 ] || [ -n "${RUN_ROOT:-}" ] ||
        fail "$TPU_NAME has $workers workers, which need a folder that all of them see:" \
            "set SHARED, or RUN_ROOT to a mount of your own"
}

train() {
    local secrets mount environment
    check_secrets
    check_machine
    on_workers all worker_is_free worker_is_free ||
        fail "a run is going on: follow it, or stop it first"
    mount=$(quote worker_mount "${SHARED:-}" "${RUN_ROOT:-}")
    secrets=$(quote worker_read_secrets "$PROJECT" "${SECRETS:-}")
    environment=$(quote export ACCELERATOR=tpu RUN_ROOT="${RUN_ROOT:-}")
    on_workers all "worker_mount worker_read_secrets worker_start" \
        "$mount"$'\n'"$secrets"$'\n'"$environment"$'\n'"$(quote worker_start "$@")"
    [ -n "$dry_run" ] || say "started; bash launch/tpu_vm.sh follow"
}

stop() { on_workers all "worker_is_free worker_stop" worker_stop; }

follow() { on_workers 0 worker_follow worker_follow; }

fetch() {
    [ $# = 1 ] || fail "fetch: name the run, as in: bash launch/tpu_vm.sh fetch try1"
    run mkdir -p runs
    tpus tpu-vm scp --recurse "$TPU_NAME:${RUN_ROOT:-dart_jax/runs}/$1" runs/ --worker=0
}

remove() {
    if [ -n "${QUEUED:-}" ]; then
        tpus queued-resources delete "$TPU_NAME" --force --quiet
    else
        tpus tpu-vm delete "$TPU_NAME" --quiet
    fi
}

delete() {
    local answer=
    if [ "${1:-}" != --yes ] && [ -z "$dry_run" ]; then
        printf 'Delete %s in %s, and all that is on its disks? Type its name: ' "$TPU_NAME" "$ZONE" >&2
        read -r answer || true
        [ "$answer" = "$TPU_NAME" ] || fail "not deleted"
    fi
    remove
}

take_dry_run "$@"
set -- ${arguments[@]+"${arguments[@]}"} # bash 3.2 takes an empty array for an unset variable
subcommand=${1:-}
case $subcommand in
create | install | run | follow | fetch | stop | delete) shift ;;
*) fail "say what to do: create, install, run, follow, fetch, stop or delete" ;;
esac
needs PROJECT ZONE TPU_NAME
case $subcommand in create | run) needs TPU_TYPE ;; esac
[ -z "${SHARED:-}" ] || RUN_ROOT=${RUN_ROOT:-/mnt/dart_jax}
case $subcommand in run) train "$@" ;; *) "$subcommand" "$@" ;; esac
