"""docs/metrics.md lists every metric that this package logs, and none that it does not."""

from __future__ import annotations

from collections import Counter

import torch
from transfer_queue import KVBatchMeta

from verl_actfocus.episodes.outcomes import StopReason
from verl_actfocus.episodes.record import EpisodeRecord
from verl_actfocus.estimators import GiGPO
from verl_actfocus.integration import selection, trainer
from verl_actfocus.integration.exclusions import exclusion_metrics
from verl_actfocus.integration.metrics import (
    SuccessTracker,
    identical_responses,
    rollout_metrics,
    validation_metrics,
)
from verl_actfocus.integration.trajectories import TRAJECTORIES_METRIC
from verl_actfocus.weighting import ActFocus, EntropyTop, TokenBatch, compute_weights, share_metrics

from ...documented_metrics import documented, pattern, undocumented
from ..estimators.batches import Played, batch_of


def of_weightings_and_estimators() -> set[str]:
    mask = torch.ones(1, 3, dtype=torch.long)
    inputs = {"ref_energy": torch.tensor([[-1.0, -2.0, -3.0]]), "old_entropy": torch.tensor([[0.1, 0.2, 0.3]])}
    batch = TokenBatch(
        spans=torch.tensor([[0, 1, 2]]), response_mask=mask, turns=mask - 1, advantages=mask.float(), inputs=inputs
    )
    names: set[str] = set()
    for weighting in (ActFocus(), EntropyTop()):
        weights = compute_weights(weighting, batch)
        names |= {f"actfocus/{name}" for name in share_metrics(batch, weights) | weighting.metrics(batch, weights)}
    estimate = GiGPO().estimate(batch_of([Played("a", [1.0])]))
    names |= {f"actfocus/{name}" for name in estimate.metrics}
    return names | {trainer.NO_ACTION_METRIC, TRAJECTORIES_METRIC, "actfocus/skipped_updates"}


def of_episodes() -> set[str]:
    records = [
        EpisodeRecord(task=task, sample=0, stop_reason=StopReason.SUCCESS.value, outcomes={"purchase": True}).counts()
        for task in (1, 2)
    ]
    names = set(rollout_metrics([{"reward_extra_info": record} for record in records]))
    infos = {name: [record[name] for record in records] for name in records[0]}
    names |= set(validation_metrics({**infos, "reward": [0.0, 1.0]}))
    names |= set(SuccessTracker().update(1, 0.5))
    names |= set(identical_responses(["a", "a"], [torch.tensor([1])] * 2))
    for prefix in ("rollout", "val"):
        names |= set(exclusion_metrics(prefix, 2, 1, Counter()))
    return names


def of_selection() -> set[str]:
    metrics: dict[str, float] = {}
    batch = KVBatchMeta(keys=["a_0_0", "a_1_0"], tags=[{}, {}], partition_id="train")
    selection.select_groups(batch, [torch.tensor([0.0]), torch.tensor([1.0])], 1.0, metrics)
    return set(metrics)


def test_every_metric_is_documented_and_every_documented_one_is_logged():
    logged = of_weightings_and_estimators() | of_episodes() | of_selection()
    assert undocumented(logged) == set()
    # The gradient report's are compared with a real report, see test_gradient_report.py.
    listed = [name for name in documented() if not name.startswith(("actfocus/gradient_n", "actfocus/gradient_v"))]
    unknown = [name for name in listed if not any(pattern(name).fullmatch(one) for one in logged)]
    assert unknown == ["actfocus/gradient_cosine"]
