#!/usr/bin/env bash
# Resolves (without installing) both documented sets of dependencies: the CPU set and veRL's GPU pins.
# Downloads metadata only where the registry offers it; needs network.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$ROOT"
echo "== CPU set"
python -m pip install --quiet --dry-run --ignore-installed --constraint requirements/cpu.txt ".[dev]"
echo "resolved"
echo "== GPU set (extra: gpu; the extra flash-attn is left out, it builds against an installed torch and a CUDA toolkit)"
python -m pip install --quiet --dry-run --ignore-installed --constraint requirements/gpu.txt . \
    $(sed -n 's/^\([A-Za-z].*==.*\)$/\1/p' requirements/gpu.txt | grep -v '^flash-attn')
echo "resolved"
