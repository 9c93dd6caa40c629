#!/usr/bin/env bash
# Starts a recipe: turns the environment variables of recipes/README.md into Hydra overrides, checks the complete
# configuration (check.py), prints the command and runs it; with --dry-run it stops after printing.
# Usage: launch.sh RECIPE [--dry-run] [HYDRA_OVERRIDE...]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python="${PYTHON:-python}"
recipe="$1"
shift

dry_run=false extra=()
for argument in "$@"; do
    if [ "$argument" = --dry-run ]; then dry_run=true; else extra+=("$argument"); fi
done

weighting="${WEIGHTING:-default}"
if [ "$weighting" != default ] && [ "$weighting" != uniform ]; then
    echo "WEIGHTING=$weighting: choose default (ActFocus) or uniform (the baseline)" >&2
    exit 2
elif [ "$weighting" = uniform ] && [ -n "${ALPHA:-}${BETA:-}${SIGNAL:-}" ]; then
    echo "WEIGHTING=uniform means alpha=1 and beta=0: unset ALPHA, BETA and SIGNAL, or choose WEIGHTING=default" >&2
    exit 2
fi

model="${MODEL:-}"
name="$recipe-$weighting${model:+-${model##*/}}${ALPHA:+-alpha$ALPHA}${BETA:+-beta$BETA}${SIGNAL:+-$SIGNAL}-seed${SEED:-0}"
out="$(realpath -m "${OUT:-outputs/$name}")"
overrides=("+actfocus=$weighting" "+actfocus/recipe=$recipe" "data.seed=${SEED:-0}" "trainer.experiment_name='$name'"
    "trainer.default_local_dir='$out'" "hydra.run.dir='$out/hydra'"
    ${MODEL:+"actor_rollout_ref.model.path='$MODEL'"} ${ALPHA:+"algorithm.actfocus.alpha=$ALPHA"}
    ${BETA:+"algorithm.actfocus.beta=$BETA"} ${SIGNAL:+"algorithm.actfocus.signal=$SIGNAL"}
    ${GPUS:+"trainer.n_gpus_per_node=$GPUS"} ${NODES:+"trainer.nnodes=$NODES"} ${extra[@]+"${extra[@]}"})

"$python" "$here/check.py" "${overrides[@]}"
printf '%q ' "$python" -m verl.trainer.main_ppo "${overrides[@]}" && echo
if [ "$dry_run" = true ]; then exit 0; fi
exec "$python" -m verl.trainer.main_ppo "${overrides[@]}"
