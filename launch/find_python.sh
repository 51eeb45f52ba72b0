#!/usr/bin/env bash
# Prints a Python 3.11 to 3.14 for launch/setup.sh; fetches 3.12 with uv where there is none, as on
# Cloud TPU VMs, which come with 3.10.
#
#   PYTHON=$(bash launch/find_python.sh) bash launch/setup.sh
set -euo pipefail
PATH=$PATH:$HOME/.local/bin # where uv puts it

is_supported() {
    "$1" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' \
        >/dev/null 2>&1
}

find_python() {
    local name
    for name in python3.13 python3.12 python3.11 python3.14 python3 python; do
        if is_supported "$name"; then command -v "$name" && return; fi
    done
    return 1
}

find_python || {
    { python3 -m pip install --user uv && python3 -m uv python install 3.12; } >&2
    python3 -m uv python find 3.12
}
