#!/usr/bin/env bash
# Whoever has a GPU runs this first: checks on one CUDA device what the tests check on a CPU, measures what it costs there, and
# writes outputs/gpu-check/gpu.json and gpu.md; some ten minutes, nothing to download. In an environment with the package
# (README.md, "Recipes for GPU nodes"). Options are those of `actfocus bench gpu`; --device cpu tries the check without a GPU.
#
# PYTHON=python3.12      interpreter to use
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# A shell that was set up for the CPU path names its platform.
case " $* " in *" --device cpu "* | *" --device=cpu "*) export VERL_PLATFORM=cpu ;; *) unset VERL_PLATFORM ;; esac
exec "${PYTHON:-python}" -m verl_actfocus.cli.main bench gpu "$@"
