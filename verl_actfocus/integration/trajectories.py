"""Writes a few trajectories of a run to disk, token by token, with span, weight and signal.

One JSON object per trajectory and line; the report and any viewer read nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transfer_queue as tq
from torch import Tensor
from transfer_queue import KVBatchMeta

from verl_actfocus.config.settings import TrajectorySettings
from verl_actfocus.integration import fields
from verl_actfocus.integration.response_tagger import ResponseTagger
from verl_actfocus.weighting import Span

_FIELDS = [
    "prompts",
    "responses",
    "response_mask",
    "advantages",
    "rm_scores",
    "extra_fields",
    fields.SPANS,
    fields.TURN_REWARDS,
]


class TrajectoryLog:
    """Appends sampled trajectories to `<folder>/<step>.jsonl`.

    Args:
        settings: folder, interval and number; without a folder nothing is written.
    """

    def __init__(self, settings: TrajectorySettings) -> None:
        self._settings = settings

    def wants(self, step: int) -> bool:
        """Whether trajectories of this step shall be written."""
        return self._settings.folder is not None and (step == 1 or step % self._settings.every == 0)

    def write(
        self,
        step: int,
        batch: KVBatchMeta,
        tagger: ResponseTagger,
        weights: Tensor,
        signal: Tensor | None,
    ) -> None:
        """Write the first real trajectories of a batch.

        Args:
            step: training step.
            batch: the training batch, in the row order of `weights`.
            tagger: decodes tokens to the text in which spans are found.
            weights: `(B, T)` token weights.
            signal: `(B, T)` signal, or None where it plays no part.
        """
        if self._settings.folder is None:
            return
        rows = [i for i, tag in enumerate(batch.tags) if not tag.get("is_padding", False)][: self._settings.count]
        keys = [batch.keys[i] for i in rows]
        data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=_FIELDS)
        folder = Path(self._settings.folder)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{step}.jsonl").open("w", encoding="utf-8") as file:
            for n, row in enumerate(rows):
                record = _record(data, n, tagger, weights[row], None if signal is None else signal[row])
                file.write(json.dumps({"step": step, **record}, ensure_ascii=False) + "\n")


def _record(data: Any, n: int, tagger: ResponseTagger, weights: Tensor, signal: Tensor | None) -> dict[str, Any]:
    tokens = tagger.texts(data["responses"][n])
    length = len(tokens)
    extra = data["extra_fields"][n]
    extra = getattr(extra, "data", extra)
    turn_rewards = data[fields.TURN_REWARDS][n].tolist() if fields.TURN_REWARDS in data else None
    return {
        "prompt": "".join(tagger.texts(data["prompts"][n])),
        "tokens": tokens,
        "from_model": data["response_mask"][n].tolist(),
        "spans": [Span(span).name.lower() for span in data[fields.SPANS][n].tolist()],
        "weights": weights[:length].tolist(),
        "signal": None if signal is None else signal[:length].tolist(),
        "advantages": data["advantages"][n].tolist(),
        "turn_rewards": turn_rewards,
        "reward": float(data["rm_scores"][n].sum()),
        "episode": extra.get("reward_extra_info", {}),
    }
