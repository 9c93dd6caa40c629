#!/usr/bin/env bash
# sokoban_grpo_small: one GPU of 24 GB. Parameters in recipes/README.md, settings in
# verl_actfocus/config/actfocus/recipe/sokoban_grpo_small.yaml; a model that knows the format: actfocus warmstart sokoban --model …
exec "$(dirname "${BASH_SOURCE[0]}")/../launch.sh" sokoban_grpo_small "$@"
