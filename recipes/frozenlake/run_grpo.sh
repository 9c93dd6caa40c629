#!/usr/bin/env bash
# frozenlake_grpo: parameters in recipes/README.md, settings in verl_actfocus/config/actfocus/recipe/frozenlake_grpo.yaml.
exec "$(dirname "${BASH_SOURCE[0]}")/../launch.sh" frozenlake_grpo "$@"
