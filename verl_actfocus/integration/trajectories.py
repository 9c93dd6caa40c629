"""Writes sampled trajectories of training to disk, in the format of `verl_actfocus.trajectories`.

Whole prompt groups are written, so that siblings can be compared: of the groups that a step trains on those with the
smallest place in the data (`index` of veRL's datasets; with environments the order of their seeds). That is nothing
which depends on what became of an episode, and runs with the same data seed write the same tasks.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import IO, Any

import transfer_queue as tq
from torch import Tensor
from transfer_queue import KVBatchMeta

from verl_actfocus.config.settings import CONFIG_PATH, TrajectorySettings
from verl_actfocus.episodes.record import EpisodeRecord
from verl_actfocus.integration import fields
from verl_actfocus.integration.groups import group_of
from verl_actfocus.integration.response_tagger import ResponseTagger
from verl_actfocus.trajectories import Trajectory, TrajectoryFormatError, trajectory_files
from verl_actfocus.trajectories.files import SUFFIXES, encoded, step_of
from verl_actfocus.trajectories.format import shortest
from verl_actfocus.trajectories.playing import span_names
from verl_actfocus.weighting import TokenBatch, Weighting
from verl_actfocus.weighting.inputs import engine_inputs

logger = logging.getLogger(__name__)

#: Metric: trajectories in the file of a step that writes one; absent once the folder is full.
TRAJECTORIES_METRIC = "actfocus/trajectories_written"
#: Signal → veRL's field of it, one value per response token; all at the rollout's temperature.
_VERL_SIGNALS = {
    "advantage": "advantages",
    "rollout_log_prob": "rollout_log_probs",
    "old_log_prob": "old_log_probs",
    "ref_log_prob": "ref_log_prob",
}
_FIELDS = [
    "index",
    "prompts",
    "responses",
    "rm_scores",
    fields.SPANS,
    fields.TURN_REWARDS,
    fields.EPISODE,
    *_VERL_SIGNALS.values(),
]


def computed_signals(weighting: Weighting, tokens: TokenBatch, weights: Tensor) -> dict[str, Tensor]:
    """Return what a step's weights were computed from, and they, by names of `verl_actfocus.trajectories.SIGNALS`.

    Args:
        weighting: the scheme.
        tokens: what it has read.
        weights: `(B, T)` what it returned.
    """
    # Log-probabilities on disk are veRL's own, at the rollout's temperature; these are at temperature 1.
    names = (name for name in engine_inputs(weighting) if name not in _VERL_SIGNALS)
    signal = weighting.token_signal(tokens)
    own = {"weight": weights} if signal is None else {"weight": weights, "signal": signal}
    return own | {name: tokens.inputs[name] for name in names}


class TrajectoryLog:
    """Writes the files `<folder>/<step>.jsonl`, or `.jsonl.gz`.

    A file appears when all its groups are in it, and replaces what an attempt that was ended has left of its step.

    Args:
        settings: folder, interval, number of groups and most megabytes; without a folder nothing is written.
        environment: name of the environment; None for an agent loop of somebody else's.
    """

    def __init__(self, settings: TrajectorySettings, environment: str | None) -> None:
        self._settings, self._environment = settings, environment
        self._full = self._begun = False

    def wants(self, step: int) -> bool:
        """Whether trajectories of this step shall be written; not once the folder is full."""
        return self._settings.wants(step) and not self._full

    def write(
        self,
        step: int,
        batch: KVBatchMeta,
        tagger: ResponseTagger,
        turns: Sequence[Tensor],
        signals: Mapping[str, Sequence[Tensor]],
    ) -> int:
        """Write whole groups of a batch, one trajectory in memory at a time.

        Args:
            step: training step.
            batch: the training batch, in the row order of the tensors.
            tagger: decodes tokens to the text in which spans are found.
            turns: of every row `(T,)` the index of the model's turn that a token belongs to, -1 outside of its turns.
            signals: name → of every row `(T,)` values that were computed in this step.

        Returns:
            Number of trajectories written.

        Raises:
            OSError: the folder cannot be written to.
        """
        assert self._settings.folder is not None  # `wants` has said so
        folder = Path(self._settings.folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._drop_abandoned(step, folder)
        own = {suffix: folder / f"{step}{suffix}" for suffix in SUFFIXES}
        others = sum(path.stat().st_size for path in trajectory_files(folder) if path not in own.values())
        room = int(self._settings.max_megabytes * 1e6) - others
        written, part = 0, folder / f"{step}.part"
        with part.open("wb") as file:
            for rows in self._groups(batch):
                made = (self._trajectory(step, batch, row, tagger, turns, signals) for row in rows)
                try:
                    fits = self._add(file, made, room)
                except TrajectoryFormatError as error:  # samples are no reason to end a training
                    logger.warning("a group of step %d is not written: %s", step, error)
                    continue
                if not fits:
                    self._say_full(step, folder)
                    break
                written += len(rows)
        kept = own[SUFFIXES[self._settings.compress]] if written else None
        if kept is None:
            part.unlink()
        else:
            part.replace(kept)
        for path in set(own.values()) - {kept}:
            path.unlink(missing_ok=True)
        return written

    def _drop_abandoned(self, step: int, folder: Path) -> None:
        """Delete files of later steps than the first that is written: an attempt went on behind its checkpoint."""
        if not self._begun:
            for path in trajectory_files(folder):
                if (found := step_of(path)) is not None and found > step:
                    path.unlink()
        self._begun = True

    def _groups(self, batch: KVBatchMeta) -> list[list[int]]:
        """Rows of the groups to write, each in the order of its sessions."""
        rows = [row for row, tag in enumerate(batch.tags) if not tag.get("is_padding", False)]
        keys = [batch.keys[row] for row in rows]
        data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=["index"])
        places = dict(zip(map(group_of, keys), map(_place, fields.plain(data["index"])), strict=True))
        chosen = sorted(places, key=lambda group: (places[group], group))[: self._settings.groups]
        members: dict[str, list[tuple[int, int, int]]] = {group: [] for group in chosen}
        for row, key in zip(rows, keys, strict=True):
            if group_of(key) in members:
                _, session, output = key.rsplit("_", 2)
                members[group_of(key)].append((int(session), int(output), row))
        return [[row for _, _, row in sorted(found)] for found in members.values()]

    def _add(self, file: IO[bytes], group: Iterator[Trajectory], room: int) -> bool:
        """Add a group to a file; return whether it fits, and leave the file as it was if it does not."""
        begin, whole = file.tell(), False
        try:
            for trajectory in group:
                data = encoded(trajectory, compress=self._settings.compress)
                if file.tell() + len(data) > room:
                    return False
                file.write(data)
            whole = True
        finally:
            if not whole:
                file.seek(begin)
                file.truncate()
        return True

    def _say_full(self, step: int, folder: Path) -> None:
        self._full = True
        print(
            f"[actfocus] step {step}: no further trajectories are written: {folder} would hold more than "
            f"{CONFIG_PATH}.trajectories.max_megabytes={self._settings.max_megabytes:g}"
        )

    def _trajectory(
        self,
        step: int,
        batch: KVBatchMeta,
        row: int,
        tagger: ResponseTagger,
        turns: Sequence[Tensor],
        signals: Mapping[str, Sequence[Tensor]],
    ) -> Trajectory:
        key = batch.keys[row]
        data = tq.kv_batch_get(keys=[key], partition_id=batch.partition_id, select_fields=_FIELDS)
        tokens = tagger.texts(data["responses"][0])
        turn_of = turns[row][: len(tokens)].tolist()
        values = {name: tensor[row] for name, tensor in signals.items()}
        values |= {name: data[field][0] for name, field in _VERL_SIGNALS.items() if field in data}
        rewards = data[fields.TURN_REWARDS][0].tolist() if fields.TURN_REWARDS in data else None
        record = json.loads(fields.plain(data[fields.EPISODE])[0]) if fields.EPISODE in data else None
        return Trajectory(
            environment=self._environment,
            group=group_of(key),
            index=_index(fields.plain(data["index"])[0]),
            session=int(key.rsplit("_", 2)[1]),
            step=step,
            policy_version=batch.tags[row].get("max_global_steps"),
            prompt_ids=data["prompts"][0].tolist(),
            prompt="".join(tagger.texts(data["prompts"][0])),
            ids=data["responses"][0].tolist(),
            tokens=tokens,
            spans=span_names(data[fields.SPANS][0].tolist()),
            turns=turn_of,
            signals={name: _signal(name, key, value, turn_of) for name, value in values.items()},
            turn_rewards=None if rewards is None else _by_turn(rewards, turn_of),
            reward=shortest([float(data["rm_scores"][0].double().sum())])[0],
            episode=None if record is None else EpisodeRecord.from_dict(record),
        )


def _index(value: Any) -> int | str:
    """A place in the data; whoever makes a dataset may also write names there."""
    return int(value) if isinstance(value, Integral) else str(value)


def _place(value: Any) -> tuple[bool, int, str]:
    """A place in the data as something to sort by."""
    index = _index(value)
    return (False, index, "") if isinstance(index, int) else (True, 0, index)


def _signal(name: str, key: str, values: Tensor, turns: Sequence[int]) -> list[float | None]:
    """The values on the model's tokens; None elsewhere, and where a number is not finite, which JSON cannot hold."""
    values = values[: len(turns)].float()
    recorded = [turn >= 0 and finite for turn, finite in zip(turns, values.isfinite().tolist(), strict=True)]
    lost = sum(turn >= 0 for turn in turns) - sum(recorded)
    if lost:
        logger.warning("trajectory %s: %d values of %s are not finite and written as not recorded", key, lost, name)
    return [value if known else None for value, known in zip(shortest(values.tolist()), recorded, strict=True)]


def _by_turn(rewards: Sequence[float], turns: Sequence[int]) -> list[float]:
    """Sum what stands on the tokens of each turn."""
    sums = [0.0] * (max(turns, default=-1) + 1)
    for reward, turn in zip(rewards, turns, strict=True):
        if turn >= 0:
            sums[turn] += reward
    return shortest(sums)
