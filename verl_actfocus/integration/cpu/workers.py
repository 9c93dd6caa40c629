"""veRL's workers on a CPU: the process group is gloo, and the cores are shared between the ranks."""

from __future__ import annotations

import os

import torch
from verl.utils.distributed import initialize_global_process_group_ray
from verl.workers.config import TrainingWorkerConfig
from verl.workers.engine_workers import ActorRolloutRefWorker, TrainingWorker


class CPUTrainingWorker(TrainingWorker):
    """Actor, reference or critic of one rank.

    veRL would join a process group with backend `cpu:gloo,cpu:gloo`, which torch refuses
    (`verl/utils/distributed.py`); joining a plain gloo group first makes that call a no-op.
    """

    def __init__(self, config: TrainingWorkerConfig) -> None:
        initialize_global_process_group_ray(backend="gloo")
        # Ray sets OMP_NUM_THREADS=1 for its actors; the ranks of a machine share all of its cores instead.
        ranks = int(os.environ.get("RAY_LOCAL_WORLD_SIZE", "1"))
        # Those it may use, not those it has: a run that was pinned to a core must not fight itself for it.
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks))
        # Dropout, where a model has some; new weights have a seed of their own (`integration/building.py`).
        torch.manual_seed(config.engine_config.seed)
        super().__init__(config)


class CPUActorRolloutRefWorker(ActorRolloutRefWorker):
    """veRL's hybrid worker built from `CPUTrainingWorker`."""

    actor_worker_cls = CPUTrainingWorker
    ref_worker_cls = CPUTrainingWorker
