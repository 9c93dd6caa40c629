#!/usr/bin/env bash
# frozenlake_ppo: parameters in recipes/README.md, settings in verl_actfocus/config/actfocus/recipe/frozenlake_ppo.yaml.
exec "$(dirname "${BASH_SOURCE[0]}")/../launch.sh" frozenlake_ppo "$@"
