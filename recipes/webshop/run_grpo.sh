#!/usr/bin/env bash
# webshop_grpo: parameters in recipes/README.md, settings in verl_actfocus/config/actfocus/recipe/webshop_grpo.yaml.
exec "$(dirname "${BASH_SOURCE[0]}")/../launch.sh" webshop_grpo "$@"
