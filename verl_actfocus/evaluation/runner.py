"""Plays the episodes of an evaluation, many at once, and writes each down as it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from verl_actfocus.episodes.player import Player
from verl_actfocus.episodes.record import EpisodeRecord
from verl_actfocus.evaluation.driver import Driver, Players, response_sampling
from verl_actfocus.evaluation.policy import Policy
from verl_actfocus.evaluation.records import EvaluationFolder
from verl_actfocus.evaluation.settings import EvaluationSettings
from verl_actfocus.trajectories import Trajectory, played


@dataclass
class Attempt:
    """What one call of `run` has to show.

    Attributes:
        finished: Finished episodes, those of earlier attempts included.
        failures: Episodes that ended in an infrastructure failure.
        lost: Why no further episode could be begun; None if all were.
    """

    finished: list[EpisodeRecord]
    failures: list[EpisodeRecord]
    lost: str | None = None


def run(
    policy: Policy,
    settings: EvaluationSettings,
    folder: EvaluationFolder,
    *,
    at_once: int,
    watch: Callable[[Attempt], None] = lambda attempt: None,
) -> Attempt:
    """Play the episodes that the folder does not hold yet.

    Args:
        policy: answers the prompts; closed by the caller.
        settings: what is played.
        folder: where episodes are written as they end; claimed by the caller.
        at_once: most episodes under way at a time.
        watch: called after every episode.

    Returns:
        All finished episodes and what failed in this attempt.

    Raises:
        ValueError: the environment's options are wrong.
    """
    attempt = Attempt(folder.episodes(), [])
    done = {(record.task, record.sample) for record in attempt.finished}
    waiting = [key for key in settings.schedule() if key not in done]
    folder.forget_failures()
    watch(attempt)
    if not waiting:
        return attempt
    at_once = min(at_once, len(waiting))
    players = Players(policy, settings)
    policy.begin(players.lengths, at_once)
    driver = Driver(policy, lambda _, player: response_sampling(settings, player), at_once)
    seats = ((f"{task}-{sample}", partial(_begin, players, task, sample)) for task, sample in waiting)
    for _, player in driver.play(seats):
        attempt.lost = driver.lost
        trajectory = played(player, players.tagger, environment=settings.environment)
        _end(trajectory, player.record(), folder, attempt)
        players.release(player)
        watch(attempt)
    players.close()
    return attempt


def _begin(players: Players, task: int, sample: int) -> Player:
    player = players.new()
    player.begin(task, sample)
    return player


def _end(trajectory: Trajectory, record: EpisodeRecord, folder: EvaluationFolder, attempt: Attempt) -> None:
    """Write an episode down."""
    if record.failure is None:
        folder.add(trajectory)
        attempt.finished.append(record)
    else:
        folder.add_failure(trajectory)
        attempt.failures.append(record)
