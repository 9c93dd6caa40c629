#!/usr/bin/env bash
# FrozenLake with PPO. Settings: verl_actfocus/config/actfocus/recipe/frozenlake_ppo.yaml; parameters: recipes/README.md, for example
#   WEIGHTING=uniform SEED=1 recipes/frozenlake/run_ppo.sh --dry-run trainer.save_freq=20
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/../launch.sh" frozenlake_ppo "$@"
