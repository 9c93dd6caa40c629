#!/usr/bin/env bash
# Sokoban with PPO. Settings: verl_actfocus/config/actfocus/recipe/sokoban_ppo.yaml; parameters: recipes/README.md, for example
#   WEIGHTING=uniform SEED=1 recipes/sokoban/run_ppo.sh --dry-run trainer.save_freq=20
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/../launch.sh" sokoban_ppo "$@"
