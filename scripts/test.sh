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
# Files of tests share the cores. Unit tests take one thread each; of training runs, whose start takes turns rather than
# cores, there are two at a time (some 5 GB each), in the order of their files: the default would keep the longest for last.
# The second part runs, too, if something fails in the first.
failed=0
OMP_NUM_THREADS=1 pytest --durations 20 --numprocesses auto --maxprocesses 8 --dist loadfile \
    -m "not e2e and not slow and not vllm" || failed=$?
pytest --durations 20 --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "e2e and not slow and not vllm" || failed=$?
exit "$failed"
