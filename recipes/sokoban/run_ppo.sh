#!/usr/bin/env bash
# sokoban_ppo: parameters in recipes/README.md, settings in verl_actfocus/config/actfocus/recipe/sokoban_ppo.yaml.
exec "$(dirname "${BASH_SOURCE[0]}")/../launch.sh" sokoban_ppo "$@"
