#!/usr/bin/env bash
# Sokoban with GRPO. Settings: verl_actfocus/config/actfocus/recipe/sokoban_grpo.yaml; parameters: recipes/README.md, for example
#   WEIGHTING=uniform SEED=1 recipes/sokoban/run_grpo.sh --dry-run trainer.save_freq=20
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/../launch.sh" sokoban_grpo "$@"
