#!/usr/bin/env bash
# Installs what a run needs: launch/setup.sh, and then the extras that its settings name, such as
# classifiers for a Detoxify scorer. The arguments are those of launch/local.sh.
#
#   bash launch/setup_for.sh --config configs/llama3_8b.yaml
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

bash "$root/launch/setup.sh"
extras=$(PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" \
    "$root/.venv/bin/python" -m dart_jax.commands.needed_extras "$@")
# shellcheck disable=SC2086 # several names
[ -z "$extras" ] || bash "$root/launch/setup.sh" $extras
