#!/usr/bin/env bash
# WebShop with PPO. Settings: verl_actfocus/config/actfocus/recipe/webshop_ppo.yaml; parameters: recipes/README.md, for example
#   WEIGHTING=uniform SEED=1 recipes/webshop/run_ppo.sh --dry-run trainer.save_freq=20
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/../launch.sh" webshop_ppo "$@"
