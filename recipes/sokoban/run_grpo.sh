#!/usr/bin/env bash
# sokoban_grpo: parameters in recipes/README.md, settings in verl_actfocus/config/actfocus/recipe/sokoban_grpo.yaml.
exec "$(dirname "${BASH_SOURCE[0]}")/../launch.sh" sokoban_grpo "$@"
