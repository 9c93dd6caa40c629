"""veRL's synchronous trainer, also on a CPU.

The base of `verl_actfocus.integration.episode_trainer.EpisodeTrainer`, and under the trainer mode `sync_cpu` stock
veRL for machines without an accelerator: the baseline of comparisons, and what a stock command needs to run there.
"""

from __future__ import annotations

from typing import Any, cast

import ray
from omegaconf import DictConfig
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.device import get_device_name

from verl_actfocus.integration.cpu.workers import CPUActorRolloutRefWorker, CPUTrainingWorker

#: Trainer mode of stock veRL on a CPU.
STOCK_CPU_MODE = "sync_cpu"
#: Seconds between two looks at TransferQueue while a batch is generated; veRL's 2 s would be half a step on a CPU.
POLL_SECONDS = 0.05


class InOrder:
    """A replay buffer whose trajectories come in the order of their prompts, not in that in which they were finished.

    Sums over a batch round by its order: without this no run could be repeated.

    Args:
        buffer: veRL's; it names the prompts in the order in which they were drawn from the data.
    """

    def __init__(self, buffer: ReplayBuffer) -> None:
        self._buffer = buffer

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[KVBatchMeta, dict[str, Any]]:
        """Return what the buffer's `sample` does, ordered by prompt, session and index of the output.

        What veRL's `skip` has read from a file instead, of prompts that this run never drew, keeps the file's order.

        Raises:
            RuntimeError: no trajectory is left; veRL would go on and stop at an empty list of keys.
        """
        batch, metrics = self._buffer.sample(global_steps, partition_id, batch_size)
        if not batch.keys:
            what = "evaluation" if partition_id == "val" else "training"
            raise RuntimeError(
                f"step {global_steps}: all trajectories of {batch_size} {what} prompts failed for a reason that is not "
                "the model's; the agent loop has logged each ('excluded trajectory' or 'Error in _run_prompt' above)"
            )
        place = {uid: number for number, uid in enumerate(self._buffer.prompt_global_steps[partition_id])}

        names = [key.rsplit("_", 2) for key in batch.keys]
        if all(uid in place for uid, _, _ in names):
            order = [(place[uid], int(session), int(index)) for uid, session, index in names]
            batch.reorder(sorted(range(len(batch)), key=order.__getitem__))
        return batch, metrics


@register_trainer(STOCK_CPU_MODE)
class PortableSyncTrainer(PPOTrainerSync):
    """`PPOTrainerSync` under another name, with CPU workers where the platform is the CPU.

    Args:
        config: a complete veRL configuration.
    """

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        if config.data.get("environment") is not None:
            # An episode brings its reward: veRL's workers that compute rewards would start, and wait.
            config.reward.num_workers = 0

    def _build_replay_buffer(self) -> ReplayBuffer:
        # Everything in veRL that asks for the mode means "sync": any other name gets asynchronous buffers.
        self.trainer_mode = "sync"
        buffer = super()._build_replay_buffer()
        buffer.poll_interval = POLL_SECONDS
        # All that the trainer asks of it is a sample.
        return cast(ReplayBuffer, InOrder(buffer))

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        if get_device_name() == "cpu":
            for role in self.role_worker_mapping:
                worker = CPUTrainingWorker if role == Role.Critic else CPUActorRolloutRefWorker
                self.role_worker_mapping[role] = ray.remote(worker)
