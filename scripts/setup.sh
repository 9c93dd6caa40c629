#!/usr/bin/env bash
# Creates .venv beside this folder and installs the package with the CPU set of dependencies. Sourced by the other scripts.
# Repeated calls do nothing until the pins or setup.py change.
#
# PYTHON=python3.12      interpreter to use
# VENV=/path             where to put the environment (default: .venv)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${VENV:-$ROOT/.venv}"
EXTRAS=dev,smollm2
# TextWorld brings an interpreter in C, as source.
if command -v cc >/dev/null && command -v make >/dev/null; then EXTRAS="$EXTRAS,textworld"; fi
STAMP="$VENV/.installed-$(cat "$ROOT/setup.py" "$ROOT/requirements/cpu.txt" - <<<"$EXTRAS" | cksum | cut -d' ' -f1)"

check_environment "$VENV"
if [ ! -e "$STAMP" ]; then
    echo "setup: installing into $VENV with $PY (2 GB with a CPU build of torch, several more with a CUDA build; a few minutes)"
    make_environment "$VENV"
    # torch first and on its own: with it in place nothing below pulls another build.
    "$VENV/bin/python" -m pip install --quiet "$(grep '^torch==' "$ROOT/requirements/cpu.txt")"
    "$VENV/bin/python" -m pip install --quiet --constraint "$ROOT/requirements/cpu.txt" --editable "${ROOT}[$EXTRAS]"
    rm -f "$VENV"/.installed-*
    touch "$STAMP"
fi
export PATH="$VENV/bin:$PATH"
# Ray and veRL look around for accelerators and usage reporting; a CPU run needs neither.
export VERL_PLATFORM=cpu RAY_USAGE_STATS_ENABLED=0 TOKENIZERS_PARALLELISM=false
