#!/usr/bin/env bash
# frozenlake_grpo_small: one GPU of 24 GB. Parameters in recipes/README.md, settings in
# verl_actfocus/config/actfocus/recipe/frozenlake_grpo_small.yaml; a model that knows the format: actfocus warmstart frozenlake --model …
exec "$(dirname "${BASH_SOURCE[0]}")/../launch.sh" frozenlake_grpo_small "$@"
