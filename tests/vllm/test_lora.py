"""veRL trains LoRA's adapters with a real vLLM server, which holds the frozen weights and is sent adapters alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..e2e.test_training import check_training_step, check_whole_groups
from .conftest import NO_EVALUATION, largest_difference, train, trajectories

pytestmark = [pytest.mark.e2e, pytest.mark.vllm]

ADAPTERS = [
    "+actfocus/adapter=lora",
    "actor_rollout_ref.model.lora_rank=8",
    # Adapters begin at 0: visibly otherwise after one step takes more than it does with all weights.
    "actor_rollout_ref.actor.optim.lr=1e-2",
]


def test_after_a_step_the_server_samples_with_the_new_adapters(tmp_path: Path) -> None:
    metrics = train(tmp_path, *ADAPTERS, *NO_EVALUATION)
    assert [step["step"] for step in metrics] == [1, 2]
    for number, step in enumerate(metrics, start=1):
        check_training_step(step)
        check_whole_groups(trajectories(tmp_path, number), groups=8, size=8)
    second = trajectories(tmp_path, 2)
    assert {one.policy_version for one in second} == {1}
    # The reference is the actor without its adapters: they matter, in trainer and server alike.
    assert largest_difference(second, "ref_log_prob", "old_log_prob") > 0.1
    assert largest_difference(second, "rollout_log_prob", "old_log_prob") < 1e-3
