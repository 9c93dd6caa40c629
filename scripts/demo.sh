#!/usr/bin/env bash
# The main job: installs, trains Uniform and ActFocus with veRL on this machine's CPU, and writes a report.
# Options are those of `actfocus compare`, e.g. --algorithm ppo --env sokoban --steps 60 --seeds 2 --out outputs/mine
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$ROOT"
exec actfocus compare "$@"
