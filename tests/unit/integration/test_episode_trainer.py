"""The trainer of episodes refuses what would end before it is asked to."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from verl_actfocus.integration.episode_trainer import EpisodeTrainer
from verl_actfocus.integration.sync_trainer import PortableSyncTrainer


def trainer(monkeypatch: pytest.MonkeyPatch, steps: int, epochs: int) -> EpisodeTrainer:
    """A trainer whose data, 8 prompts in batches of 4, veRL has loaded already."""

    def loaded(self: PortableSyncTrainer) -> None:
        self.train_dataset, self.steps_per_epoch, self.total_training_steps = range(8), 2, steps

    monkeypatch.setattr(PortableSyncTrainer, "_init_dataloader", loaded)
    made = EpisodeTrainer.__new__(EpisodeTrainer)
    made.config = OmegaConf.create({"trainer": {"total_epochs": epochs}, "data": {"train_batch_size": 4}})
    return made


def test_epochs_that_end_before_the_last_step_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"total_training_steps=4, but trainer\.total_epochs=1 of 2 steps.*raise"):
        trainer(monkeypatch, steps=4, epochs=1)._init_dataloader()


def test_epochs_that_last_for_all_steps_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer(monkeypatch, steps=4, epochs=2)._init_dataloader()
    trainer(monkeypatch, steps=3, epochs=2)._init_dataloader()
