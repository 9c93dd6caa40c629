#!/usr/bin/env bash
# veRL's own ToolAgentLoop with ActFocus, on a CPU: the tool call is the action span. Further overrides may follow.
#
#   python examples/tool_agent/prepare.py outputs/tool_agent
#   bash examples/tool_agent/run.sh outputs/tool_agent
set -euo pipefail
out=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
export VERL_PLATFORM=cpu PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m verl.trainer.main_ppo \
    algorithm.adv_estimator=actfocus_grpo +actfocus=default +actfocus/device=cpu \
    "++algorithm.actfocus.tags.action=['<tool_call>','</tool_call>']" \
    "++algorithm.actfocus.trajectories.folder=$out/trajectories" \
    actor_rollout_ref.rollout.agent.default_agent_loop=tool_agent \
    actor_rollout_ref.rollout.multi_turn.enable=True \
    actor_rollout_ref.rollout.multi_turn.format=hermes \
    actor_rollout_ref.rollout.multi_turn.max_assistant_turns=2 \
    "actor_rollout_ref.rollout.multi_turn.tool_config_path=$here/tools.yaml" \
    "reward.custom_reward_function.path=$here/drawers.py" \
    "data.train_files=$out/train.parquet" "data.val_files=$out/val.parquet" data.dataloader_num_workers=0 \
    data.train_batch_size=8 data.max_prompt_length=64 data.max_response_length=128 \
    "actor_rollout_ref.model.path=$out/model" "actor_rollout_ref.model.tokenizer_path=$out/tokenizer" \
    actor_rollout_ref.rollout.n=8 \
    actor_rollout_ref.actor.ppo_mini_batch_size=4 \
    actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=32 \
    actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=32 \
    actor_rollout_ref.actor.optim.lr=3e-4 \
    trainer.total_epochs=1 trainer.total_training_steps=20 trainer.val_before_train=False trainer.test_freq=-1 \
    trainer.save_freq=-1 trainer.resume_mode=disable "trainer.default_local_dir=$out/checkpoints" "hydra.run.dir=$out/hydra" \
    'trainer.logger=[console]' "${@:2}"
