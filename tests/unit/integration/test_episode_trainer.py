"""The trainer of episodes refuses what would end before it is asked to, and keeps checkpoints that can be resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from verl_actfocus.integration.checkpoints import require_own_checkpoint
from verl_actfocus.integration.episode_trainer import EpisodeTrainer
from verl_actfocus.integration.metrics import SuccessTracker
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


def test_of_older_checkpoints_only_those_with_a_model_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """veRL keeps the newest model and leaves the folders of the others, with the position in the data."""

    def save(self: PortableSyncTrainer) -> None:
        for actor in tmp_path.glob("global_step_*/actor"):
            actor.rmdir()
        (tmp_path / f"global_step_{self.global_steps}/actor").mkdir(parents=True)
        (tmp_path / f"global_step_{self.global_steps}/data.pt").touch()

    monkeypatch.setattr(PortableSyncTrainer, "_save_checkpoint", save)
    made = EpisodeTrainer.__new__(EpisodeTrainer)
    made.config = OmegaConf.create({"trainer": {"default_local_dir": str(tmp_path), "resume_mode": "auto"}})
    made._success = SuccessTracker()
    for own in ("global_step_1/critic", "global_step_2/actor", "global_step_3/notes", "merged"):
        (tmp_path / own).mkdir(parents=True)
    for step in (2, 4, 6):
        made.global_steps = step
        made._save_checkpoint()
        assert (tmp_path / f"global_step_{step}/actor").is_dir()
    # Critic and what others have put there are not veRL's leftovers.
    left = sorted(folder.name for folder in tmp_path.iterdir())
    assert left == ["global_step_1", "global_step_3", "global_step_6", "merged"]


def resumed(
    monkeypatch: pytest.MonkeyPatch, folder: Path, mode: str, kept: int | None, others: tuple[int, ...] = ()
) -> EpisodeTrainer:
    """A trainer of step 6 in a folder with whole checkpoints of steps 2, 4 and 9 that other processes have written.

    Those of `others` are of runs without this package.
    """

    def save(self: PortableSyncTrainer) -> None:
        for model in ("actor", "critic"):
            (folder / f"global_step_{self.global_steps}" / model).mkdir(parents=True)
        (folder / "latest_checkpointed_iteration.txt").write_text(str(self.global_steps))

    monkeypatch.setattr(PortableSyncTrainer, "_save_checkpoint", save)
    made = EpisodeTrainer.__new__(EpisodeTrainer)
    trainer = {"default_local_dir": str(folder), "resume_mode": mode}
    trainer |= {"max_actor_ckpt_to_keep": kept, "max_critic_ckpt_to_keep": kept}
    made.config = OmegaConf.create({"trainer": trainer})
    made._success = SuccessTracker()
    made.global_steps = 6
    for step in (2, 4, 9):
        for model in ("actor", "critic"):
            (folder / f"global_step_{step}" / model).mkdir(parents=True)
        if step not in others:
            SuccessTracker().save(folder / f"global_step_{step}")
    made._save_checkpoint()
    return made


@pytest.mark.parametrize(
    ("mode", "kept", "left"),
    [
        ("auto", 1, [6, 9]),
        ("auto", 2, [4, 6, 9]),
        ("auto", None, [2, 4, 6, 9]),
        # A folder that was named, and runs that others have left there, are not the run's own.
        ("resume_path", 1, [2, 4, 6, 9]),
        ("disable", 1, [2, 4, 6, 9]),
    ],
)
def test_a_resumed_run_leaves_no_more_checkpoints_than_one_that_was_not_interrupted(
    mode: str, kept: int | None, left: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Later steps are of another run: nothing that this one has written yet."""
    resumed(monkeypatch, tmp_path, mode, kept)
    assert sorted(int(path.parent.name[12:]) for path in tmp_path.glob("global_step_*/critic")) == left


def test_checkpoints_of_a_run_without_this_package_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run that was begun from them on purpose, and interrupted, goes on by itself from its own."""
    resumed(monkeypatch, tmp_path, "auto", 1, others=(2,))
    assert sorted(int(path.parent.name[12:]) for path in tmp_path.glob("global_step_*/actor")) == [2, 6, 9]


def test_nothing_is_deleted_before_the_new_checkpoint_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With `async_save` veRL names a checkpoint complete later, from another process."""
    made = resumed(monkeypatch, tmp_path, "auto", None)
    made.config.trainer.max_actor_ckpt_to_keep = 1
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("4")
    made._delete_models_of_earlier_attempts()
    assert (tmp_path / "global_step_2/actor").is_dir()


def left_behind(folder: Path, *, own: bool) -> DictConfig:
    """A configuration whose folder holds a checkpoint of step 4, and an older one."""
    for step in (2, 4):
        (folder / f"global_step_{step}/actor").mkdir(parents=True)
    if own:
        SuccessTracker().save(folder / "global_step_4")
    (folder / "latest_checkpointed_iteration.txt").write_text("4")
    return OmegaConf.create({"trainer": {"default_local_dir": str(folder), "resume_mode": "auto"}})


def test_another_runs_checkpoints_are_not_gone_on_from_by_chance(tmp_path: Path) -> None:
    """A stock command with another estimator has the stock run's folder."""
    config = left_behind(tmp_path, own=False)
    with pytest.raises(ValueError, match=r"global_step_4 of a run without this package.*resume_from_path=.*step_4$"):
        require_own_checkpoint(config)
    for mode in ("disable", "resume_path"):
        config.trainer.resume_mode = mode
        require_own_checkpoint(config)


def test_its_own_checkpoints_and_an_empty_folder_are_gone_on_from(tmp_path: Path) -> None:
    require_own_checkpoint(left_behind(tmp_path / "own", own=True))
    nowhere = {"default_local_dir": str(tmp_path / "none"), "resume_mode": "auto"}
    require_own_checkpoint(OmegaConf.create({"trainer": nowhere}))


@pytest.mark.parametrize(("own", "first"), [(False, 5), (True, 1)])
def test_a_run_that_begins_from_another_ones_checkpoint_has_its_first_step_behind_it(
    own: bool, first: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def load(self: PortableSyncTrainer) -> None:
        self.global_steps = 4

    monkeypatch.setattr(PortableSyncTrainer, "_load_checkpoint", load)
    made = EpisodeTrainer.__new__(EpisodeTrainer)
    left_behind(tmp_path, own=own)
    named = {"resume_mode": "resume_path", "resume_from_path": str(tmp_path / "global_step_4")}
    made.config, made._success = OmegaConf.create({"trainer": named}), SuccessTracker()
    made._load_checkpoint()
    assert made._first_step == first
