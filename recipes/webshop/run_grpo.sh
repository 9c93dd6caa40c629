#!/usr/bin/env bash
# WebShop with GRPO. Settings: verl_actfocus/config/actfocus/recipe/webshop_grpo.yaml; parameters: recipes/README.md, for example
#   WEIGHTING=uniform SEED=1 recipes/webshop/run_grpo.sh --dry-run trainer.save_freq=20
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/../launch.sh" webshop_grpo "$@"
