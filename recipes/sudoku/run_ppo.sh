#!/usr/bin/env bash
# Sudoku 4×4 with PPO. Settings: verl_actfocus/config/actfocus/recipe/sudoku_ppo.yaml; parameters: recipes/README.md, for example
#   WEIGHTING=uniform SEED=1 recipes/sudoku/run_ppo.sh --dry-run trainer.save_freq=20
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/../launch.sh" sudoku_ppo "$@"
