"""veRL's synchronous trainer for batches of episodes: what was played is counted, before anything is trained on.

`EpisodeTrainer` overrides five places of `verl/trainer/ppo/v1/trainer_base.py`:

=======================  ===============================================================================================
step                     what is added
=======================  ===============================================================================================
`_init_tokenizer`      the prompts of episodes are checked against the model's chat template
`_init_dataloader`     the data last for all the steps that are asked for
`_balance_batch`       excluded trajectories and outcomes are counted, groups selected
`_val_metrics_update`  the same counts of an evaluation, and the run's best one
`_save_checkpoint`     the best evaluation goes into the checkpoint (`_load_checkpoint`: comes out of it); what a run
                         was resumed from is deleted, and folders whose models veRL has deleted are too. Another
                         run's checkpoint is refused before, and only begun from where its path is named
=======================  ===============================================================================================
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import transfer_queue as tq
from omegaconf import DictConfig
from transfer_queue import KVBatchMeta

from verl_actfocus.episodes.clusters import MAX_EXCLUDED_SHARE
from verl_actfocus.integration import exclusions, fields
from verl_actfocus.integration.checkpoints import NEWEST, require_own_checkpoint
from verl_actfocus.integration.groups import group_of
from verl_actfocus.integration.metrics import (
    STATE_FILE,
    SuccessTracker,
    identical_responses,
    rollout_metrics,
    validation_metrics,
)
from verl_actfocus.integration.prompts import episode_prompts
from verl_actfocus.integration.selection import select_groups
from verl_actfocus.integration.sync_trainer import PortableSyncTrainer

#: Column of the data with which a row sets how many responses veRL samples (`verl/trainer/ppo/v1/agent_loop_tq.py`).
SAMPLES = "__rollout_n__"
#: What a checkpoint holds beside the models: the position in the data (veRL's) and the best evaluation.
_BESIDE_MODELS = {"data.pt", STATE_FILE}


class EpisodeTrainer(PortableSyncTrainer):
    """Synchronous training on episodes of `verl_actfocus.integration.agent_loop.EpisodeLoop` or any other agent loop.

    Args:
        config: a complete veRL configuration.
        keep_groups: share of the groups that are trained on, see `verl_actfocus.integration.selection.select_groups`.
    """

    #: Of this run; behind the checkpoint where it began from another run's.
    _first_step = 1

    def __init__(self, config: DictConfig, *, keep_groups: float) -> None:
        require_own_checkpoint(config)
        super().__init__(config)
        self._keep_groups = keep_groups
        self._success = SuccessTracker()

    def _init_tokenizer(self) -> None:
        """Load the tokenizer, and refuse a model whose chat template cannot be played with.

        Raises:
            ValueError: it cannot; the message shows where prompts and template part.
        """
        super()._init_tokenizer()
        if self.config.data.get("environment") is not None:
            episode_prompts(self.config, self.tokenizer, self.processor)

    def _init_dataloader(self) -> None:
        """Load the data.

        Raises:
            ValueError: the epochs end before the last step; veRL would stop there without its last evaluation. Or rows
                of the training data have a number of samples of their own.
        """
        super()._init_dataloader()
        if SAMPLES in getattr(getattr(self.train_dataset, "dataframe", None), "column_names", ()):
            raise ValueError(
                f"data.train_files has a column {SAMPLES}, by which veRL samples another number of responses of a row "
                "than actor_rollout_ref.rollout.n; which trajectories have failed could not be told then: leave it out"
            )
        epochs, steps = self.config.trainer.total_epochs, self.total_training_steps
        if self.steps_per_epoch * epochs < steps:
            raise ValueError(
                f"trainer.total_training_steps={steps}, but trainer.total_epochs={epochs} of {self.steps_per_epoch} "
                f"steps each ({len(self.train_dataset)} training prompts, data.train_batch_size="
                f"{self.config.data.train_batch_size}) end the run before; raise trainer.total_epochs or lower "
                "trainer.total_training_steps"
            )

    # ---- training batches -------------------------------------------------------------------------------------

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> KVBatchMeta:
        expected = self.config.data.train_batch_size * self.config.actor_rollout_ref.rollout.n
        present = len({key.rsplit("_", 1)[0] for key in batch.keys})
        self._count_excluded("rollout", expected, present, metrics)
        names = ["extra_fields", "responses", "rm_scores"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=names)
        # Before the selection: success is that of everything that was played.
        metrics.update(rollout_metrics([dict(extra) for extra in fields.plain(data["extra_fields"])]))
        metrics.update(identical_responses([group_of(key) for key in batch.keys], data["responses"].unbind()))
        batch = select_groups(batch, data["rm_scores"], self._keep_groups, metrics)
        return super()._balance_batch(batch, metrics, *args, **kwargs)

    # ---- evaluation -------------------------------------------------------------------------------------------

    def _val_metrics_update(
        self,
        data_sources: list[str],
        sample_uids: list[str],
        reward_extra_infos_dict: dict[str, list[Any]],
        sample_turns: list[int],
        expected_acc_counts: dict[tuple[str, str], int] | None = None,
    ) -> dict[str, float]:
        own = validation_metrics(reward_extra_infos_dict)
        if not own:
            return super()._val_metrics_update(
                data_sources, sample_uids, reward_extra_infos_dict, sample_turns, expected_acc_counts
            )
        self._count_excluded("val", sum((expected_acc_counts or {}).values()), len(sample_uids), own)
        own.update(self._success.update(self.global_steps, own["val/success"]))
        # veRL saves a step's checkpoint before it evaluates the step.
        if self._checkpoint_folder().is_dir():
            self._success.save(self._checkpoint_folder())
        return own

    def _count_excluded(self, prefix: str, expected: int, present: int, metrics: dict[str, Any]) -> None:
        """Count the episodes that ended in an infrastructure failure: the rollout has left them out.

        Args:
            prefix: `rollout` or `val`, of the metrics.
            expected: episodes started.
            present: episodes with data.
            metrics: receives `exclusions.exclusion_metrics`.

        Raises:
            RuntimeError: more than `MAX_EXCLUDED_SHARE` of the episodes were excluded, so that failures which are not
                the model's would decide the numbers.
        """
        reasons = exclusions.collect(validate=prefix == "val")
        metrics.update(exclusions.exclusion_metrics(prefix, expected, present, reasons))
        if expected - present > MAX_EXCLUDED_SHARE * expected:
            what = "evaluation episodes" if prefix == "val" else "trajectories"
            raise RuntimeError(
                f"step {self.global_steps}: {expected - present} of {expected} {what} failed for a reason that is not "
                "the model's; the agent loop has logged each ('excluded trajectory' or 'Error in _run_prompt' above)"
            )

    # ---- checkpoints ------------------------------------------------------------------------------------------

    def _save_checkpoint(self) -> None:
        # Before veRL's tracker file names the checkpoint as complete.
        self._success.save(self._checkpoint_folder())
        super()._save_checkpoint()
        self._delete_models_of_earlier_attempts()
        self._delete_emptied_checkpoints()

    def _delete_models_of_earlier_attempts(self) -> None:
        """Keep as many models as asked for: veRL counts those that this process has written, not what it resumed from.

        Only where the run resumes by itself from its own folder; a folder that was named stays as it is.
        """
        trainer = self.config.trainer
        tracker = self._checkpoint_folder().parent / NEWEST
        if trainer.resume_mode != "auto" or not tracker.is_file() or tracker.read_text() != str(self.global_steps):
            return
        steps = {folder: folder.name.removeprefix("global_step_") for folder in tracker.parent.glob("global_step_*")}
        older = sorted(
            (folder for folder, step in steps.items() if step.isdecimal() and int(step) <= self.global_steps),
            key=lambda folder: int(steps[folder]),
        )
        for model, kept in (("actor", trainer.max_actor_ckpt_to_keep), ("critic", trainer.max_critic_ckpt_to_keep)):
            # Another run's, from which this one was begun, have no state of this package.
            there = [folder / model for folder in older if (folder / model).is_dir() and (folder / STATE_FILE).exists()]
            for path in there[: -kept if kept else 0]:
                shutil.rmtree(path, ignore_errors=True)  # a folder too many is no reason to end a training

    def _delete_emptied_checkpoints(self) -> None:
        """Delete what veRL leaves of older checkpoints (`trainer.max_actor_ckpt_to_keep`): nothing resumes from it."""
        newest = self._checkpoint_folder()
        for folder in newest.parent.glob("global_step_*"):
            if folder != newest and {item.name for item in folder.iterdir()} <= _BESIDE_MODELS:
                shutil.rmtree(folder, ignore_errors=True)

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        if self.global_steps > 0:
            explicit = self.config.trainer.resume_mode == "resume_path"
            folder = Path(self.config.trainer.resume_from_path) if explicit else self._checkpoint_folder()
            self._success.load(folder)
            if not (folder / STATE_FILE).exists():
                self._first_step = self.global_steps + 1

    def _checkpoint_folder(self) -> Path:
        return Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}"
