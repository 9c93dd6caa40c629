"""A working stock veRL command, switched to ActFocus by the estimator's name and one configuration group.

The run has nothing of this package's environments: a parquet file, veRL's single-turn agent loop and a reward function.
"""

from __future__ import annotations

import math

import pandas as pd
import pytest

pytestmark = pytest.mark.e2e

REWARD = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    return float(ground_truth in solution_str)
"""


@pytest.fixture
def stock_command(tmp_path) -> list[str]:
    rows = [
        {
            "data_source": "directions",
            "prompt": [{"role": "user", "content": f"Turn {n}\nActions left: {n}"}],
            "reward_model": {"style": "rule", "ground_truth": "Right"},
            "extra_info": {"index": n},
        }
        for n in range(1, 9)
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "data.parquet")
    (tmp_path / "reward.py").write_text(REWARD)
    return [
        f"data.train_files={tmp_path}/data.parquet",
        f"data.val_files={tmp_path}/data.parquet",
        "data.train_batch_size=4",
        "data.max_prompt_length=64",
        "data.max_response_length=64",
        "data.dataloader_num_workers=0",
        f"reward.custom_reward_function.path={tmp_path}/reward.py",
        "actor_rollout_ref.model.path=${actfocus.model:frozenlake}/model",
        "actor_rollout_ref.model.tokenizer_path=${actfocus.model:frozenlake}/tokenizer",
        "actor_rollout_ref.rollout.n=4",
        "actor_rollout_ref.actor.ppo_mini_batch_size=2",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=8",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=8",
        "trainer.total_training_steps=2",
        "trainer.val_before_train=False",
        "trainer.resume_mode=disable",
    ]


# Without `slow`: `test_uniform_is_stock` trains with veRL's own estimator, and the test below with veRL's own rollout.
@pytest.mark.slow
def test_the_stock_command_runs_unchanged_with_the_plugin_installed(run_verl, stock_command):
    metrics = run_verl(
        "algorithm.adv_estimator=grpo",
        "+actfocus/device=cpu",
        # veRL's own trainer cannot build its workers on a CPU; this mode changes them and nothing else.
        "trainer.v1.trainer_mode=sync_cpu",
        *stock_command,
    )
    assert len(metrics) == 2
    assert all(math.isfinite(step["actor/pg_loss"]) for step in metrics)
    assert not any(name.startswith("actfocus/") for step in metrics for name in step)


def test_one_name_switches_it_to_actfocus(run_verl, stock_command):
    metrics = run_verl(
        "algorithm.adv_estimator=actfocus_grpo",
        "+actfocus=default",
        "+actfocus/device=cpu",
        *stock_command,
    )
    assert len(metrics) == 2
    for step in metrics:
        assert math.isfinite(step["actor/pg_loss"])
        assert step["actfocus/action_tokens"] > 0
        assert step["actfocus/signal_std"] > 0
        shares = [step[f"actfocus/token_share/{span}"] for span in ("none", "reasoning", "action")]
        assert sum(shares) == pytest.approx(1)
