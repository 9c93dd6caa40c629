#!/usr/bin/env bash
# Turns the environment variables of recipes/README.md into options of `actfocus train`.
# Usage: launch.sh RECIPE [--dry-run] [--OPTION=VALUE]... [HYDRA_OVERRIDE]...
set -euo pipefail
recipe="$1" && shift
weighting="${WEIGHTING:-actfocus}${ALPHA:+ alpha=$ALPHA}${BETA:+ beta=$BETA}${SIGNAL:+ signal=$SIGNAL}"
options=(--weighting "$weighting" --seed "${SEED:-0}" ${OUT:+--out "$OUT"})
if [ "${DEVICE:-}" = cpu ] && [ -n "${MODEL:-}" ]; then
    echo "DEVICE=cpu is a trial with a tiny model: unset MODEL" >&2 && exit 2
fi
overrides=(${MODEL:+"actor_rollout_ref.model.path='$MODEL'"}
    ${GPUS:+"trainer.n_gpus_per_node=$GPUS"} ${NODES:+"trainer.nnodes=$NODES"}
    ${ATTENTION:+"actor_rollout_ref.model.override_config.attn_implementation=$ATTENTION"}
    ${LORA:+"+actfocus/adapter=lora" "actor_rollout_ref.model.lora_rank=$LORA"})
case "${DEVICE:-gpu}" in
    gpu) ;;
    cpu) options+=(--trial) ;;
    *) echo "DEVICE=$DEVICE: choose gpu or cpu (a trial)" >&2 && exit 2 ;;
esac
for word in "$@"; do
    if [[ "$word" == --* ]]; then options+=("$word"); else overrides+=("$word"); fi
done
exec "${PYTHON:-python}" -m verl_actfocus.cli.main train "$recipe" "${options[@]}" -- ${overrides[@]+"${overrides[@]}"}
