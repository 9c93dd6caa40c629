"""Whose checkpoint veRL would resume from: that of a run without this package is another run's."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from verl_actfocus.integration.metrics import STATE_FILE

#: veRL's, in the folder of a run's checkpoints: the step of the newest complete one.
NEWEST = "latest_checkpointed_iteration.txt"


def require_own_checkpoint(config: DictConfig) -> None:
    """Refuse to go on by itself from what a run without this package has left.

    veRL resumes from its folder of checkpoints unless it is told otherwise, and the folder follows from the names of
    project and experiment: a stock run's command with another estimator would continue the stock run, and replace its
    checkpoints.

    Args:
        config: a complete veRL configuration.

    Raises:
        ValueError: the newest checkpoint of the folder is such a one.
    """
    trainer = config.trainer
    if trainer.resume_mode != "auto":
        return
    folder = Path(trainer.default_local_dir)
    tracker = folder / NEWEST
    if not tracker.is_file():
        return
    newest = folder / f"global_step_{tracker.read_text().strip()}"
    if newest.is_dir() and not (newest / STATE_FILE).exists():
        raise ValueError(
            f"trainer.default_local_dir={folder} holds the checkpoint {newest.name} of a run without this package, "
            "which trainer.resume_mode=auto would continue with other weights and whose checkpoints it would replace; "
            "give this run a trainer.experiment_name or folder of its own; to begin from that checkpoint on purpose "
            f"add trainer.resume_mode=resume_path trainer.resume_from_path={newest}"
        )
