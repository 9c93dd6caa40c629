#!/usr/bin/env bash
# Installs and runs the tests: lint, types, unit and contract tests, and the short end-to-end runs.
# Arguments go to pytest in the place of all that it would run, e.g. scripts/test.sh -m "not e2e"
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$ROOT"
ruff check .
ruff format --check .
mypy
if [ $# -gt 0 ]; then exec pytest "$@"; fi
# One thread for each of the unit tests' processes, which share the cores by file; a training run takes all cores and has
# them to itself. The second part runs, too, if something fails in the first.
failed=0
OMP_NUM_THREADS=1 pytest --numprocesses auto --maxprocesses 8 --dist loadfile -m "not e2e and not slow and not vllm" || failed=$?
pytest -m "e2e and not slow" || failed=$?
exit "$failed"
