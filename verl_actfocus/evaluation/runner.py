"""Plays the episodes of an evaluation, many at once, and writes each down as it ends."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass

from verl_actfocus.episodes import Episode
from verl_actfocus.episodes.deadline import make_within
from verl_actfocus.episodes.player import Player
from verl_actfocus.episodes.record import EpisodeRecord
from verl_actfocus.evaluation.policy import Answer, Policy
from verl_actfocus.evaluation.records import EvaluationFolder
from verl_actfocus.evaluation.settings import EvaluationSettings
from verl_actfocus.generation.sampling import SamplingParams, response_seed
from verl_actfocus.tagging import SpanTagger
from verl_actfocus.trajectories import played

#: Step of the sampling seeds. An evaluation before training has this one, so its responses are sampled alike here.
STEP = 0


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
    waiting = deque(key for key in settings.schedule() if key not in done)
    folder.forget_failures()
    watch(attempt)
    if waiting:
        _Run(policy, settings, folder, min(at_once, len(waiting)), watch, attempt).play(waiting)
    return attempt


class _Run:
    """The episodes under way."""

    def __init__(
        self,
        policy: Policy,
        settings: EvaluationSettings,
        folder: EvaluationFolder,
        at_once: int,
        watch: Callable[[Attempt], None],
        attempt: Attempt,
    ) -> None:
        self._policy, self._settings, self._folder = policy, settings, folder
        self._at_once, self._watch, self._attempt = at_once, watch, attempt
        self._prompts = policy.prompts(settings.tags, settings.template)
        self._tagger = SpanTagger(policy.tokenizer, **asdict(settings.tags))
        self._lengths = settings.lengths.within(policy.context)
        self._running: dict[str, Player] = {}
        #: Episodes that have ended, whose environments serve the next: building one can take longer than an episode.
        self._idle: list[Episode] = []

    def play(self, waiting: deque[tuple[int, int]]) -> None:
        """Play until nothing is left, or until the policy is lost."""
        self._policy.begin(self._lengths, self._at_once)
        while self._running or (waiting and self._attempt.lost is None):
            while waiting and self._attempt.lost is None and len(self._running) < self._at_once:
                self._begin(*waiting.popleft())
            if self._running:
                for key, answer in self._policy.answers().items():
                    self._take(key, answer)
        for episode in self._idle:
            self._close(episode)

    def _begin(self, task: int, sample: int) -> None:
        player = Player(self._idle.pop() if self._idle else self._episode(), self._prompts, self._tagger, self._lengths)
        player.begin(task, sample)
        self._running[f"{task}-{sample}"] = player
        self._ask_or_end(f"{task}-{sample}")

    def _episode(self) -> Episode:
        settings = self._settings
        return Episode(
            make_within(settings.step_timeout, settings.environment, **settings.options),
            settings.limits,
            format_penalty=settings.format_penalty,
            tags=settings.tags,
            step_timeout=settings.step_timeout,
        )

    def _take(self, key: str, answer: Answer) -> None:
        player = self._running[key]
        if answer.lost:
            self._attempt.lost = answer.error
        if answer.error is not None:
            player.abort(answer.error)
        else:
            player.answer(answer.ids, cut_off=answer.cut_off, log_probs=answer.log_probs)
        self._ask_or_end(key)

    def _ask_or_end(self, key: str) -> None:
        player = self._running[key]
        if not player.done:
            self._policy.ask(key, player.prompt, self._sampling(player))
            return
        del self._running[key]
        trajectory = played(player, self._tagger, environment=self._settings.environment)
        record = player.record()
        if record.failure is None:
            self._folder.add(trajectory)
            self._attempt.finished.append(record)
            self._idle.append(player.episode)
        else:
            self._folder.add_failure(trajectory)
            self._attempt.failures.append(record)
            self._close(player.episode)
        self._watch(self._attempt)

    def _close(self, episode: Episode) -> None:
        """Close an environment; its episodes are written down, so a failure is only told."""
        episode.close()
        if episode.error is not None and episode.error.call == "close":
            warnings.warn(f"{self._settings.environment}: {episode.error}", stacklevel=2)

    def _sampling(self, player: Player) -> SamplingParams:
        """How the next response is sampled."""
        settings = self._settings
        return SamplingParams(
            max_tokens=player.max_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            seed=response_seed(settings.seed, STEP, player.task, player.sample, player.episode.turn),
        )
