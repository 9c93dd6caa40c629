#!/usr/bin/env bash
# sudoku_grpo: parameters in recipes/README.md, settings in verl_actfocus/config/actfocus/recipe/sudoku_grpo.yaml.
exec "$(dirname "${BASH_SOURCE[0]}")/../launch.sh" sudoku_grpo "$@"
