"""What a training step consists of is what veRL makes of the same settings."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from verl.trainer.ppo.v1.trainer_base import PPOTrainer

from verl_actfocus.experiments.runs.composition import compose
from verl_actfocus.experiments.runs.step import Step

GROUPS = ("+actfocus=default", "+actfocus/run=cpu_frozenlake", "+actfocus/device=cpu")
CRITIC, NO_CRITIC = "algorithm.adv_estimator=actfocus_gae", "algorithm.adv_estimator=actfocus_grpo"


@pytest.mark.parametrize(
    ("overrides", "updates", "empty"),
    [
        ((NO_CRITIC,), 4, 0),
        ((NO_CRITIC, "actor_rollout_ref.actor.ppo_mini_batch_size=5"), 4, 32),
        ((CRITIC,), 4, 0),
        # Whole mini-batches of both: the least common multiple of 32 and 24 is 96.
        ((CRITIC, "critic.ppo_mini_batch_size=3"), 6, 64),
    ],
)
def test_updates_and_empty_trajectories_are_those_of_verls_own_count(
    overrides: tuple[str, ...], updates: int, empty: int
) -> None:
    config = compose(*GROUPS, *overrides)
    step = Step.of(config)
    trainer = SimpleNamespace(config=config, use_critic=CRITIC in overrides, global_steps=1)
    multiple = PPOTrainer._get_required_batch_multiple(trainer, dp_size=1)
    assert step.filled == math.ceil(step.kept / multiple) * multiple == 128 + empty
    assert step.updates == updates
    assert f"{updates} optimizer step(s)" in str(step)
    assert (f"fills up with {empty} empty" in str(step)) == bool(empty)


def test_the_critics_mini_batch_must_be_shared_equally_too() -> None:
    sizes = ("critic.ppo_mini_batch_size=3", "trainer.n_gpus_per_node=16")
    with pytest.raises(ValueError, match=r"24 trajectories .* by 16 GPUs .* change critic\.ppo_mini_batch_size"):
        Step.of(compose(*GROUPS, CRITIC, *sizes))
    # Without a critic its setting means nothing.
    assert Step.of(compose(*GROUPS, NO_CRITIC, *sizes)).gpus == 16


@pytest.mark.parametrize("name", ["max_prompt_length", "max_response_length"])
def test_a_length_that_is_null_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(ValueError, match=rf"data\.{name}=None must be a whole number of at least 1"):
        Step.of(compose(*GROUPS, f"data.{name}=null"))
