#!/usr/bin/env bash
# webshop_ppo: parameters in recipes/README.md, settings in verl_actfocus/config/actfocus/recipe/webshop_ppo.yaml.
exec "$(dirname "${BASH_SOURCE[0]}")/../launch.sh" webshop_ppo "$@"
