#!/usr/bin/env bash
# Creates .venv beside this folder and installs the package with the CPU set of dependencies. Sourced by the other scripts.
# Repeated calls do nothing until the pins or setup.py change.
#
# PYTHON=python3.12      interpreter to use (3.10–3.12)
# VENV=/path             where to put the environment (default: .venv)
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${VENV:-$ROOT/.venv}"

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.10 python3; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "setup: no Python 3.10, 3.11 or 3.12 found; install one or name it: PYTHON=/path/to/python $0" >&2
    exit 1
}

STAMP="$VENV/.installed-$(cat "$ROOT/setup.py" "$ROOT/requirements/cpu.txt" | cksum | cut -d' ' -f1)"
if [ ! -e "$STAMP" ]; then
    PY="$(find_python)"
    echo "setup: installing into $VENV with $PY (2 GB with a CPU build of torch, several more with a CUDA build; a few minutes)"
    "$PY" -m venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet --upgrade "pip<27" "setuptools>=77" wheel
    # torch first and on its own: with it in place nothing below pulls another build.
    "$VENV/bin/python" -m pip install --quiet "$(grep '^torch==' "$ROOT/requirements/cpu.txt")"
    "$VENV/bin/python" -m pip install --quiet --constraint "$ROOT/requirements/cpu.txt" --editable "$ROOT[dev]"
    rm -f "$VENV"/.installed-*
    touch "$STAMP"
fi
export PATH="$VENV/bin:$PATH"
# Ray and veRL look around for accelerators and usage reporting; a CPU run needs neither.
export VERL_PLATFORM=cpu RAY_USAGE_STATS_ENABLED=0 TOKENIZERS_PARALLELISM=false
