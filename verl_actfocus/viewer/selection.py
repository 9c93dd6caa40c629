"""Which trajectories go on a page: whole groups, every run and every step alike, up to a limit."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import zip_longest
from typing import Any, TypeAlias

from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.trajectories import Trajectory, TrajectoryFormatError, read_trajectories
from verl_actfocus.viewer.signals import Scales, rounded, signals_of
from verl_actfocus.viewer.sources import Source


@dataclass(frozen=True)
class Entry:
    """A trajectory on its way to the page."""

    #: What the list shows of it; see `_summary`.
    summary: dict[str, Any]
    #: Everything else, as compressed JSON.
    body: bytes
    #: Place of the group among those of its source, as they were read.
    group: int


#: Training step, version of the policy outside training, name of the group.
_Group: TypeAlias = tuple[int | None, int | None, str]


@dataclass(frozen=True)
class Selection:
    """The trajectories of a page."""

    sources: list[Source]
    #: Ordered by source and step; groups of a step as they were written; siblings by their number.
    entries: list[Entry]
    #: The menu of signals with their scales, see `Scales.menu`.
    menu: list[dict[str, Any]]
    #: Sentences about what is not on the page.
    omissions: list[str]


def select(sources: Sequence[Source], limit: int, watch: Callable[[int], None] = lambda count: None) -> Selection:
    """Read trajectories and choose those that go on the page.

    Groups are taken in turns from all sources, and of a source the first group of every step before the second of any.
    If there is not room for one group of every step, steps are spread over the run.

    Args:
        sources: where they are.
        limit: most trajectories; the first group is taken whatever its size.
        watch: called with the number of trajectories read so far.

    Raises:
        ExperimentError: a line is no trajectory; the message names file and line.
        OSError: a file cannot be read.
    """
    scales = Scales()
    groups: list[list[list[Entry]]] = []
    omissions: list[str] = []
    read = 0
    for number, source in enumerate(sources):
        by_group: dict[_Group, list[Entry]] = {}
        for trajectory in _read(source, omissions):
            signals = signals_of(trajectory)
            scales.add(signals)
            members = by_group.setdefault((*_moment(trajectory), trajectory.group), [])
            place = members[0].group if members else len(by_group)
            members.append(Entry(_summary(trajectory, number), zlib.compress(_body(trajectory, signals)), place))
            read += 1
            watch(read)
        if not by_group:
            omissions.append(f"{source.label} holds no trajectories.")
        groups.append(_in_order_of_choice(by_group))
    chosen, left_out = _choose(groups, limit)
    if left_out:
        total = sum(map(len, groups))
        omissions.append(
            f"{sum(map(len, left_out))} of {read} trajectories are not on this page: {len(left_out)} of {total} "
            f"groups, beyond the limit of {limit}; actfocus view --limit {read} takes all."
        )
    entries = sorted((entry for group in chosen for entry in group), key=_position)
    return Selection(list(sources), _named(entries, sources), scales.menu(), omissions)


def _read(source: Source, omissions: list[str]) -> Iterator[Trajectory]:
    for path in source.files:
        cut_off = f"The last line of {path} was cut off while it was written, and is left out."
        try:
            yield from read_trajectories(path, partial(omissions.append, cut_off))
        except TrajectoryFormatError as error:
            raise ExperimentError(f"{error}; leave out that line or the whole file") from error


def _moment(trajectory: Trajectory) -> tuple[int | None, int | None]:
    """When it was played: the training step, whose groups several versions may have written, or else the version."""
    return trajectory.step, trajectory.policy_version if trajectory.step is None else None


def _in_order_of_choice(by_group: dict[_Group, list[Entry]]) -> list[list[Entry]]:
    """Order the groups of a source: by rank within their step, then steps spread over the run."""
    steps = list(dict.fromkeys((step, version) for step, version, _ in by_group))
    turn = {steps[position]: turn for turn, position in enumerate(_spread(len(steps)))}
    ranks: dict[tuple[int | None, int | None], int] = {}
    keyed = []
    for (step, version, _), group in by_group.items():
        rank = ranks[step, version] = ranks.get((step, version), -1) + 1
        keyed.append((rank, turn[step, version], group))
    return [group for _, _, group in sorted(keyed, key=lambda one: one[:2])]


def _spread(count: int) -> list[int]:
    """Return 0 to count − 1 so that the first few of them are spread: both ends, then always the widest gap's middle.

    Example:
        >>> _spread(5)
        [0, 4, 2, 1, 3]
    """
    order = list(dict.fromkeys([0, count - 1])) if count else []
    gaps = [(0, count - 1)]
    while gaps:
        low, high = gaps.pop(0)
        middle = (low + high) // 2
        if middle > low:
            order.append(middle)
            gaps += [(low, middle), (middle, high)]
    return order


def _choose(groups: Sequence[list[list[Entry]]], limit: int) -> tuple[list[list[Entry]], list[list[Entry]]]:
    """Take groups in turns until the first that does not fit; return what is taken and what is left."""
    in_turns = [group for turn in zip_longest(*groups) for group in turn if group is not None]
    room, taken = limit, 0
    for group in in_turns:
        if taken and len(group) > room:
            break
        room -= len(group)
        taken += 1
    return in_turns[:taken], in_turns[taken:]


def _position(entry: Entry) -> tuple[Any, ...]:
    one = entry.summary
    step = one["step"] is None, one["step"] or 0, one["policy_version"] or 0
    return one["source"], step, entry.group, one["session"]


def _named(entries: Sequence[Entry], sources: Sequence[Source]) -> list[Entry]:
    """Give every trajectory the name that a link uses: source, step, group, number in the group."""
    seen: dict[str, int] = {}
    for entry in entries:
        one = entry.summary
        step = "-" if one["step"] is None else one["step"]
        name = f"{sources[one['source']].label}/{step}/{one['group']}/{one['session']}"
        seen[name] = seen.get(name, 0) + 1
        one["name"] = name if seen[name] == 1 else f"{name}/{seen[name]}"
    return list(entries)


def _summary(trajectory: Trajectory, source: int) -> dict[str, Any]:
    """Return what the list shows, filters by and finds relatives with; what was not recorded is None."""
    return {
        "source": source,
        "environment": trajectory.environment,
        "step": trajectory.step,
        "policy_version": trajectory.policy_version,
        "task": trajectory.task,
        # Equal for trajectories of one task, whichever run and step.
        "same_task": sha256(_task(trajectory).encode(errors="replace")).hexdigest()[:16],
        "moment": list(_moment(trajectory)),
        "group": trajectory.group,
        "session": trajectory.session,
        "success": trajectory.success,
        "reward": rounded([trajectory.reward])[0],
        "stop_reason": trajectory.stop_reason,
        "turns": trajectory.turn_count,
        "tokens": sum(turn >= 0 for turn in trajectory.turns),
        "action_tokens": trajectory.spans.count("action"),
    }


def _task(trajectory: Trajectory) -> str:
    """What is equal for trajectories of one task: seed and first state, or else place in the data and prompt.

    The seed alone is not enough: another size of the board makes another task of it. Nor is the prompt alone: it does
    not show what a tool will find.
    """
    episode = trajectory.episode
    if episode is None:
        return json.dumps([trajectory.environment, trajectory.index, trajectory.prompt])
    first = episode.turns[0].observation if episode.turns else episode.final_observation
    return json.dumps([trajectory.environment, episode.task, first])


def _body(trajectory: Trajectory, signals: dict[str, list[float | None]]) -> bytes:
    """Return what the page shows when a trajectory is opened, as JSON."""
    episode = trajectory.episode
    body = {
        "prompt": trajectory.prompt,
        "ids": trajectory.ids,
        "tokens": trajectory.tokens,
        "spans": trajectory.spans,
        "turns": trajectory.turns,
        "signals": {name: rounded(values) for name, values in signals.items()},
        "turn_rewards": trajectory.turn_rewards,
        "outcomes": {} if episode is None else dict(episode.outcomes),
        "failure": None if episode is None else episode.failure,
        "played": None
        if episode is None
        else [
            {
                "observation": turn.observation,
                "parsed": turn.parsed,
                "executed": turn.executed,
                "problem": turn.problem,
                "reward": turn.reward,
            }
            for turn in episode.turns
        ],
        "final_observation": None if episode is None else episode.final_observation,
    }
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
