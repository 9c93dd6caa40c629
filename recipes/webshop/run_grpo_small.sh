#!/usr/bin/env bash
# webshop_grpo_small: one GPU of 24 GB. Parameters in recipes/README.md, settings in
# verl_actfocus/config/actfocus/recipe/webshop_grpo_small.yaml; a model that knows the format: actfocus warmstart webshop --model …
exec "$(dirname "${BASH_SOURCE[0]}")/../launch.sh" webshop_grpo_small "$@"
