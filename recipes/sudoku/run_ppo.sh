#!/usr/bin/env bash
# sudoku_ppo: parameters in recipes/README.md, settings in verl_actfocus/config/actfocus/recipe/sudoku_ppo.yaml.
exec "$(dirname "${BASH_SOURCE[0]}")/../launch.sh" sudoku_ppo "$@"
