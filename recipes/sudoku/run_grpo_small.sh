#!/usr/bin/env bash
# sudoku_grpo_small: one GPU of 24 GB. Parameters in recipes/README.md, settings in
# verl_actfocus/config/actfocus/recipe/sudoku_grpo_small.yaml; a model that knows the format: actfocus warmstart sudoku --model …
exec "$(dirname "${BASH_SOURCE[0]}")/../launch.sh" sudoku_grpo_small "$@"
