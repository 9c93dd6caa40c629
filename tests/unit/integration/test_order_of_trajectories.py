"""A batch lists its trajectories by prompt and session, in whatever order they were finished."""

from __future__ import annotations

import random

import pytest
from transfer_queue import KVBatchMeta

from verl_actfocus.integration.sync_trainer import InOrder

#: As veRL draws them: random names, in the order of the data.
PROMPTS = ["f3-1", "0a-7", "9c-2"]


class FinishedAnyhow:
    """What `ReplayBuffer` leaves behind after `sample`, in an order that a generator draws."""

    def __init__(self, seed: int) -> None:
        self.prompt_global_steps = {"train": dict.fromkeys(PROMPTS, 4), "val": {}}
        self._rng = random.Random(seed)

    def sample(self, global_steps, partition_id, batch_size):
        keys = [f"{uid}_{session}_{index}" for uid in PROMPTS for session in range(11) for index in range(2)]
        self._rng.shuffle(keys)
        return KVBatchMeta(keys=keys, tags=[{"of": key} for key in keys], partition_id=partition_id), {"evicted": 1}


def test_any_order_of_finishing_gives_the_batch_in_the_order_of_the_data():
    for seed in range(5):
        batch, metrics = InOrder(FinishedAnyhow(seed)).sample(4, "train", 3)
        assert batch.keys == [
            f"{uid}_{session}_{index}" for uid in PROMPTS for session in range(11) for index in (0, 1)
        ]
        assert [tag["of"] for tag in batch.tags] == batch.keys
        assert metrics == {"evicted": 1}


def test_trajectories_of_prompts_that_were_not_drawn_keep_their_order():
    buffer = FinishedAnyhow(0)
    buffer.prompt_global_steps["train"].pop("0a-7")
    batch, _ = InOrder(buffer).sample(4, "train", 3)
    expected, _ = FinishedAnyhow(0).sample(4, "train", 3)
    assert batch.keys == expected.keys


@pytest.mark.parametrize(("partition", "what"), [("val", "evaluation"), ("train", "training")])
def test_a_batch_of_which_nothing_is_left_says_so_instead_of_going_on(
    partition: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the environment's server is down: the rollout leaves out every trajectory."""
    nothing = KVBatchMeta(keys=[], tags=[], partition_id=partition), {}
    monkeypatch.setattr(FinishedAnyhow, "sample", lambda *_: nothing)
    with pytest.raises(RuntimeError, match=f"step 4: all trajectories of 3 {what} prompts failed for a reason that is"):
        InOrder(FinishedAnyhow(0)).sample(4, partition, 3)
