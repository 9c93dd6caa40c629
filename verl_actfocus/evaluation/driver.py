"""Many episodes under way at once with one policy: who plays next, whose prompt is out, who has ended."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

from verl_actfocus.episodes import Episode
from verl_actfocus.episodes.deadline import make_within
from verl_actfocus.episodes.player import Player
from verl_actfocus.evaluation.policy import Answer, Policy
from verl_actfocus.evaluation.settings import EvaluationSettings
from verl_actfocus.generation.sampling import SamplingParams, response_seed
from verl_actfocus.tagging import SpanTagger

#: Step of the sampling seeds. An evaluation before training has this one, so its responses are sampled alike here.
STEP = 0


class Players:
    """Makes the players of an evaluation's episodes.

    Environments of episodes that have ended serve the next ones: building one can take longer than an episode.

    Args:
        policy: whose prompts and tokens are played with.
        settings: environment, budgets, tags and lengths.

    Raises:
        ValueError: the model's chat template cannot be played with, or the prompt style does not suit the environment.
    """

    def __init__(self, policy: Policy, settings: EvaluationSettings) -> None:
        self._settings = settings
        self._prompts = policy.prompts(settings.tags, settings.template)
        self._phrasing = settings.phrasing()
        self.tagger = SpanTagger(policy.tokenizer, **asdict(settings.tags))
        self.lengths = settings.lengths.within(policy.context)
        self._idle: list[Episode] = []

    def new(self) -> Player:
        """Return a player that has not begun.

        Raises:
            ValueError: the environment's options are wrong.
        """
        return Player(self._idle.pop() if self._idle else self._episode(), self._prompts, self.tagger, self.lengths)

    def release(self, player: Player) -> None:
        """Take back the environment of a player that has ended; one that failed is closed."""
        if player.failure is None:
            self._idle.append(player.episode)
        else:
            self._close(player.episode)

    def close(self) -> None:
        """Close the environments that were taken back."""
        while self._idle:
            self._close(self._idle.pop())

    def _episode(self) -> Episode:
        settings = self._settings
        return Episode(
            make_within(settings.step_timeout, settings.environment, **settings.options),
            settings.limits,
            format_penalty=settings.format_penalty,
            tags=settings.tags,
            phrasing=self._phrasing,
            step_timeout=settings.step_timeout,
        )

    def _close(self, episode: Episode) -> None:
        """Close an environment; its episodes are written down, so a failure is only told."""
        episode.close()
        if episode.error is not None and episode.error.call == "close":
            warnings.warn(f"{self._settings.environment}: {episode.error}", stacklevel=2)


class Driver:
    """Lets a policy play many episodes at a time.

    Args:
        policy: answers the prompts; begun by the caller.
        sampling: how the next response of the player of a key is sampled.
        at_once: most episodes under way at a time.

    Attributes:
        lost: Why no further episode could be begun; None as long as the policy answers.
    """

    def __init__(self, policy: Policy, sampling: Callable[[str, Player], SamplingParams], at_once: int) -> None:
        self._policy, self._sampling, self._at_once = policy, sampling, at_once
        self._running: dict[str, Player] = {}
        self.lost: str | None = None

    def play(self, waiting: Iterable[tuple[str, Callable[[], Player]]]) -> Iterator[tuple[str, Player]]:
        """Play until nothing is left, or until the policy is lost.

        Args:
            waiting: a key of its own and what begins the player, for every episode. A player may have ended with that.

        Yields:
            Key and player of every episode that has ended, as it ends.
        """
        seats = iter(waiting)
        while True:
            while self.lost is None and len(self._running) < self._at_once:
                seat = next(seats, None)
                if seat is None:
                    break
                key, begin = seat
                self._running[key] = begin()
                yield from self._ask_or_end(key)
            if not self._running:
                return
            for key, answer in self._policy.answers().items():
                self._take(key, answer)
                yield from self._ask_or_end(key)

    def _take(self, key: str, answer: Answer) -> None:
        player = self._running[key]
        if answer.lost:
            self.lost = answer.error
        if answer.error is not None:
            player.abort(answer.error)
        else:
            player.answer(answer.ids, cut_off=answer.cut_off, log_probs=answer.log_probs)

    def _ask_or_end(self, key: str) -> Iterator[tuple[str, Player]]:
        player = self._running[key]
        if player.done:
            yield key, self._running.pop(key)
        else:
            self._policy.ask(key, player.prompt, self._sampling(key, player))


def response_sampling(settings: EvaluationSettings, player: Player) -> SamplingParams:
    """Return how the next response of an evaluation's episode is sampled."""
    return SamplingParams(
        max_tokens=player.max_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        seed=response_seed(settings.seed, STEP, player.task, player.sample, player.episode.turn),
    )


def ask_all(policy: Policy, requests: Mapping[str, tuple[Sequence[int], SamplingParams]]) -> dict[str, Answer]:
    """Put prompts to a policy that nobody else asks, and wait for all answers.

    Args:
        policy: begun by the caller.
        requests: prompt and sampling under a key of its own.
    """
    for key, (prompt, sampling) in requests.items():
        policy.ask(key, prompt, sampling)
    answers: dict[str, Answer] = {}
    while len(answers) < len(requests):
        answers |= policy.answers()
    return answers
