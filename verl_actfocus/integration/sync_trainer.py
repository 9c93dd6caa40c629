"""veRL's synchronous trainer, also on a CPU.

The base of `verl_actfocus.integration.episode_trainer.EpisodeTrainer`, and under the trainer mode `sync_cpu` stock
veRL for machines without an accelerator: the baseline of comparisons, and what a stock command needs to run there.
"""

from __future__ import annotations

import ray
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


@register_trainer(STOCK_CPU_MODE)
class PortableSyncTrainer(PPOTrainerSync):
    """`PPOTrainerSync` under another name, with CPU workers where the platform is the CPU."""

    def _build_replay_buffer(self) -> ReplayBuffer:
        # Everything in veRL that asks for the mode means "sync": any other name gets asynchronous buffers.
        self.trainer_mode = "sync"
        buffer = super()._build_replay_buffer()
        buffer.poll_interval = POLL_SECONDS
        return buffer

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        if get_device_name() == "cpu":
            for role in self.role_worker_mapping:
                worker = CPUTrainingWorker if role == Role.Critic else CPUActorRolloutRefWorker
                self.role_worker_mapping[role] = ray.remote(worker)
