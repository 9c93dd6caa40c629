#!/usr/bin/env bash
# Both diagnoses of a tiny model, or of a checkpoint that was trained from it:
#
#   recipes/diagnose/measure.sh frozenlake outputs/diagnose/frozenlake-before
#   recipes/diagnose/measure.sh frozenlake outputs/diagnose/frozenlake-actfocus RUN_OR_CHECKPOINT
#
# The same command continues; GROUPS_PLAYED and STATES may be raised then. Several hundred groups and a hundred states of every
# turn take some ten minutes on two cores of an x86-64 without a GPU.
set -euo pipefail
environment=$1 out=$2
start=$(python -c "from verl_actfocus import models; print(models.folder('$environment'))")
model=${3:-$start}
case $environment in
  sudoku) turns=(1 2 3 4) ;;
  webshop) turns=(1 2 3 4 5) ;;
  *) turns=(1 2 3) ;;
esac
reference=()
if [[ $model != "$start" ]]; then reference=(--reference "$start"); fi
actfocus diagnose correlation --model "$model" "${reference[@]}" --profile "cpu_$environment" \
  --groups "${GROUPS_PLAYED:-200}" --group-size 8 --out "$out/correlation"
actfocus diagnose decisions --model "$model" --profile "cpu_$environment" \
  --at-turn "${turns[@]}" --states "${STATES:-40}" --out "$out/decisions"
