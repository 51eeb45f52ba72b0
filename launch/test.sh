#!/usr/bin/env bash
# All checks: environment, ruff, pytest. Arguments go to pytest; paths in them are relative to the
# repository.
#
#   bash launch/test.sh
#   bash launch/test.sh tests/audit -k severity -x
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash launch/setup.sh test
.venv/bin/python -m ruff check .
.venv/bin/python -m ruff format --check .
exec .venv/bin/python -m pytest "$@"
