#!/usr/bin/env bash
# Starts a recipe: turns the environment variables of recipes/README.md into Hydra overrides, checks the complete
# configuration (check.py), prints the command and runs it; with --dry-run it stops after printing.
# Usage: launch.sh RECIPE [--dry-run] [HYDRA_OVERRIDE...]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
recipe="$1" weighting="${WEIGHTING:-default}" device="${DEVICE:-gpu}" model="${MODEL:-}" trial=""
command=("${PYTHON:-python}" -m verl.trainer.main_ppo)
shift

dry_run=false extra=()
for argument in "$@"; do
    if [ "$argument" = --dry-run ]; then dry_run=true; else extra+=("$argument"); fi
done

refuse() { echo "$1" >&2 && exit 2; }
if [ "$weighting" = uniform ] && [ -n "${ALPHA:-}${BETA:-}${SIGNAL:-}" ]; then
    refuse "WEIGHTING=uniform means alpha=1 and beta=0: unset ALPHA, BETA and SIGNAL, or choose WEIGHTING=default"
elif [ "$weighting" != default ] && [ "$weighting" != uniform ]; then
    refuse "WEIGHTING=$weighting: choose default (ActFocus) or uniform (the baseline)"
elif [ "$device" = cpu ] && [ -n "$model" ]; then refuse "DEVICE=cpu is a trial with a tiny model: unset MODEL"
elif [ "$device" != cpu ] && [ "$device" != gpu ]; then refuse "DEVICE=$device: choose gpu or cpu (a trial)"; fi

name="$recipe-$weighting${model:+-${model##*/}}${ALPHA:+-alpha$ALPHA}${BETA:+-beta$BETA}${SIGNAL:+-$SIGNAL}-seed${SEED:-0}"
if [ "$device" = cpu ]; then name+=-cpu trial=+actfocus/device=cpu_trial command=(env VERL_PLATFORM=cpu "${command[@]}"); fi
out="$(realpath -m "${OUT:-outputs/$name}")"
# A resumed run begins another file: veRL's file logger empties the one that it is given. Ray passes the variable on.
attempt=1 && while [ -e "$out/metrics-$attempt.jsonl" ]; do attempt=$((attempt + 1)); done
overrides=("+actfocus=$weighting" "+actfocus/recipe=$recipe" ${trial:+"$trial"} "data.seed=${SEED:-0}"
    "trainer.experiment_name='$name'" "trainer.default_local_dir='$out'" "hydra.run.dir='$out/hydra'"
    "++ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH='$out/metrics-$attempt.jsonl'"
    ${MODEL:+"actor_rollout_ref.model.path='$MODEL'"} ${ALPHA:+"algorithm.actfocus.alpha=$ALPHA"}
    ${BETA:+"algorithm.actfocus.beta=$BETA"} ${SIGNAL:+"algorithm.actfocus.signal=$SIGNAL"}
    ${GPUS:+"trainer.n_gpus_per_node=$GPUS"} ${NODES:+"trainer.nnodes=$NODES"} ${extra[@]+"${extra[@]}"})

"${PYTHON:-python}" "$here/check.py" "${overrides[@]}"
printf '%q ' "${command[@]}" "${overrides[@]}" && echo
if [ "$dry_run" = true ]; then exit 0; fi
mkdir -p "$out" && exec "${command[@]}" "${overrides[@]}"
