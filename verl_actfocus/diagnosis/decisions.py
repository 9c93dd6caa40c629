"""Draws reasonings, actions and futures in states of real episodes, for the estimator of `variance`.

A state is the prompt of turn k in an episode that the policy played. From there M whole responses are sampled, of
which the reasoning is kept: all tokens up to the one that completes its closing tag. Each is continued K times, and
each whole response is carried out F times. The state is reached by playing the episode's first turns again, token for
token, which is right because an environment's trajectory depends on the seed and the actions alone
(`verl_actfocus.envs.TextEnv`); from the decision on, chance is given another seed for every future.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from verl_actfocus.diagnosis.design import Design
from verl_actfocus.diagnosis.points import Point
from verl_actfocus.envs import registry
from verl_actfocus.episodes import StopReason, TagSettings
from verl_actfocus.episodes.action_policy import ActionPolicy
from verl_actfocus.episodes.deadline import call_within
from verl_actfocus.episodes.player import Player
from verl_actfocus.evaluation.driver import Driver, Players, ask_all
from verl_actfocus.evaluation.policy import Answer, Policy
from verl_actfocus.evaluation.settings import EvaluationSettings
from verl_actfocus.generation.sampling import SamplingParams, seed_of
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.tagging import SpanTagger

#: Number of a state's futures that ended because the expert knew no way to the goal; with an expert alone.
GAVE_UP = "expert_gave_up"
#: Numbers of reasoning, action and future.
_Draw = tuple[int, int, int]


@dataclass(frozen=True)
class _Response:
    """A response, or its beginning.

    Attributes:
        ids: Its tokens.
        whole: Whether nothing follows: the response ended without closing its reasoning.
        cut_off: Whether the length limit came first.
    """

    ids: list[int]
    whole: bool
    cut_off: bool


class Decisions:
    """Makes the draws.

    Args:
        policy: answers the prompts, and continues responses from any token on; closed by the caller.
        settings: what is played and how it is sampled.
        design: how many draws.
        at_once: most episodes under way at a time.

    Raises:
        ValueError: the environment has no expert, and it is to play.
    """

    def __init__(self, policy: Policy, settings: EvaluationSettings, design: Design, at_once: int) -> None:
        self._policy, self._settings, self._design, self._at_once = policy, settings, design, at_once
        self._expert = registry.expert(settings.environment) if design.future == "expert" else None
        self._players = Players(policy, settings)

    def draw(self, points: Sequence[Point]) -> Iterator[dict[str, Any]]:
        """Yield the returns of every state, as plain values.

        Args:
            points: the states.

        Yields:
            What names the state, the texts of reasonings and actions, and outcome → returns `(M, K, F)`; where the
            expert plays on, in how many futures it knew no way (`GAVE_UP`); with
            `failure`, in words, instead of the returns where an episode ended in an infrastructure failure.

        Raises:
            ExperimentError: the environment does not reach a state again, or the policy is lost.
            ValueError: the model cannot be sampled from.
        """
        self._policy.begin(self._players.lengths, self._at_once)
        # As many states together as fill the batch when their reasonings are sampled.
        together = max(1, self._at_once // self._design.reasonings)
        for start in range(0, len(points), together):
            block = points[start : start + together]
            yield from self._futures(block, self._responses(block))
        self._players.close()

    # ---- responses --------------------------------------------------------------------------------------------

    def _responses(self, block: Sequence[Point]) -> list[list[list[_Response]]]:
        """Sample responses, `[state][reasoning][action]`."""
        design, tagger = self._design, self._players.tagger
        rooms = []
        for point in block:
            player = self._reached(point)
            rooms.append((player.prompt, player.max_tokens))
            self._players.release(player)
        keys = list(product(range(len(block)), range(design.reasonings)))
        asked = {f"{n}-{m}": self._request(rooms[n], [], block[n], "reasoning", m) for n, m in keys}
        answers = self._answers(asked)
        begun = {(n, m): _reasoning(answers[f"{n}-{m}"], rooms[n][1], tagger, self._settings.tags) for n, m in keys}
        more = {
            f"{n}-{m}-{k}": self._request(rooms[n], begun[n, m].ids, block[n], "action", m, k)
            for (n, m), k in product(keys, range(design.actions))
            if not begun[n, m].whole
        }
        continued = self._answers(more)

        def response(n: int, m: int, k: int) -> _Response:
            first = begun[n, m]
            if first.whole:
                return first
            rest = continued[f"{n}-{m}-{k}"]
            return _Response([*first.ids, *rest.ids], True, rest.cut_off)

        count = range(design.actions)
        return [[[response(n, m, k) for k in count] for m in range(design.reasonings)] for n in range(len(block))]

    def _request(
        self, room: tuple[list[int], int], begun: list[int], point: Point, *draw: object
    ) -> tuple[list[int], SamplingParams]:
        prompt, most = room
        return [*prompt, *begun], self._sampling(most - len(begun), self._settings.temperature, point, *draw)

    def _sampling(self, most: int, temperature: float, point: Point, *draw: object) -> SamplingParams:
        settings = self._settings
        seed = seed_of(settings.seed, point.turn, point.task, *draw)
        return SamplingParams(
            max_tokens=most, temperature=temperature, top_p=settings.top_p, top_k=settings.top_k, seed=seed
        )

    def _answers(self, asked: dict[str, tuple[list[int], SamplingParams]]) -> dict[str, Answer]:
        answers = ask_all(self._policy, asked)
        error = next((answer.error for answer in answers.values() if answer.error is not None), None)
        if error is not None:
            raise ExperimentError(f"a response could not be sampled: {error}; the same command continues")
        return answers

    # ---- futures ----------------------------------------------------------------------------------------------

    def _futures(self, block: Sequence[Point], responses: list[list[list[_Response]]]) -> Iterator[dict[str, Any]]:
        """Carry every response out and play on; yield a state when all of its futures have ended."""
        design = self._design
        draws = list(product(range(design.reasonings), range(design.actions), range(design.futures)))
        where = {f"{n}-{m}-{k}-{f}": (n, (m, k, f)) for n, (m, k, f) in product(range(len(block)), draws)}
        ended: list[dict[_Draw, dict[str, float]]] = [{} for _ in block]
        gave_up = [0] * len(block)
        failures: dict[int, str] = {}

        def begin(n: int, draw: _Draw) -> Player:
            m, k, _ = draw
            player = self._decided(block[n], responses[n][m][k], draw)
            if self._expert is not None:
                seed = self._chance(block[n], draw)
                gave_up[n] += not _play_on(player, ActionPolicy(self._expert, seed), self._settings.step_timeout)
            return player

        def sampling(key: str, player: Player) -> SamplingParams:
            n, draw = where[key]
            temperature = 0.0 if design.future == "greedy" else self._settings.temperature
            return self._sampling(player.max_tokens, temperature, block[n], "later", *draw, player.episode.turn)

        driver = Driver(self._policy, sampling, self._at_once)
        for key, player in driver.play((key, partial(begin, *place)) for key, place in where.items()):
            n, draw = where[key]
            record = player.record()
            if record.failure is not None:
                failures[n] = record.failure
            ended[n][draw] = {"success": float(record.success), "reward": record.reward} | {
                name: float(value) for name, value in record.outcomes.items()
            }
            self._players.release(player)
            if len(ended[n]) == len(draws):
                state = self._state(block[n], responses[n], ended[n], failures.get(n))
                yield state if self._expert is None else {**state, GAVE_UP: gave_up[n]}

    def _state(
        self,
        point: Point,
        responses: list[list[_Response]],
        ended: dict[_Draw, dict[str, float]],
        failure: str | None,
    ) -> dict[str, Any]:
        """What is kept of a state."""
        design, tagger = self._design, self._players.tagger
        state = {
            **point.named(),
            "responses": [[tagger.read(one.ids)[0] for one in actions] for actions in responses],
        }
        if failure is not None:
            return {**state, "failure": failure}

        def returns(name: str) -> list[list[list[float]]]:
            return [
                [[ended[m, k, f][name] for f in range(design.futures)] for k in range(design.actions)]
                for m in range(design.reasonings)
            ]

        return {**state, "returns": {name: returns(name) for name in ended[0, 0, 0]}}

    def _reached(self, point: Point) -> Player:
        """Play an episode again up to a state."""
        player = self._players.new()
        player.begin(point.task)
        for ids in point.responses:
            if player.done:
                break
            player.answer(ids, cut_off=False)
        if player.done or player.episode.observation != point.observation:
            raise ExperimentError(
                f"{self._settings.environment}: the state of turn {point.turn} of task {point.task} is not reached "
                "again with the same seed and the same responses; an environment's chance must come from its seed alone"
            )
        return player

    def _decided(self, point: Point, response: _Response, draw: _Draw) -> Player:
        """Reach a state, give chance a seed of this future, and carry the response out."""
        player = self._reached(point)
        player.episode.env.reseed(self._chance(point, draw))
        player.answer(response.ids, cut_off=response.cut_off)
        return player

    def _chance(self, point: Point, draw: _Draw) -> int:
        """Seed of the environment's chance in a future."""
        return seed_of(self._settings.seed, point.turn, point.task, "chance", *draw)


def _play_on(player: Player, expert: ActionPolicy, step_timeout: float) -> bool:
    """Let an expert play the rest; where it knows no way to solve the task any more, the episode ends as it stands.

    Args:
        player: whose episode is played on.
        expert: plays.
        step_timeout: most seconds for the actions of a turn; one that takes longer, or breaks, fails the episode.

    Returns:
        Whether the expert knew a way to the end.
    """
    while not player.done:
        try:
            text = call_within(step_timeout, partial(expert.respond, player.episode))
        except ValueError:
            player.episode.stop(StopReason.TERMINATED)
            return False
        except Exception as error:  # any: the state is left out and counted, as if the environment had failed
            player.abort(f"the expert failed: {type(error).__name__}: {error}")
        else:
            player.episode.respond(text)
    return True


def _reasoning(answer: Answer, room: int, tagger: SpanTagger, tags: TagSettings) -> _Response:
    """Cut a response behind its reasoning: behind the token that completes the closing tag."""
    ids = list(answer.ids)
    opening, closing = tags.reasoning

    def closed(count: int) -> bool:
        text = tags.prefill + tagger.read(ids[:count])[0]
        return closing in text.partition(opening)[2]

    count = bisect_left(range(len(ids) + 1), True, key=closed)
    if count >= min(len(ids), room) or not closed(count):
        return _Response(ids, True, answer.cut_off)
    return _Response(ids[:count], False, False)
