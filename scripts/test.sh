#!/usr/bin/env bash
# Installs and runs the tests: lint, types, unit and contract tests, and the short end-to-end runs.
# Arguments go to pytest, e.g. scripts/test.sh -m "not e2e"
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$ROOT"
ruff check .
ruff format --check .
mypy
exec pytest "$@"
