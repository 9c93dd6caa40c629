"""Draws in states of real episodes: whether the shares are those that are known of an environment made for it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from verl_actfocus.diagnosis.decisions import GAVE_UP, Decisions
from verl_actfocus.diagnosis.design import Design
from verl_actfocus.diagnosis.groups import play
from verl_actfocus.diagnosis.points import Point, points
from verl_actfocus.diagnosis.variance import decided
from verl_actfocus.envs import spec
from verl_actfocus.episodes.tokens import Lengths
from verl_actfocus.evaluation.settings import EvaluationSettings
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.trajectories import Trajectory

from .drawn import Drawn, Thinker

DESIGN = Design(4, 4, 2)


def settings(states: int, **options: Any) -> EvaluationSettings:
    return EvaluationSettings(
        environment="drawn",
        options=options,
        limits=spec("drawn").limits,
        lengths=Lengths(prompt=400, response=800),
        tasks=states,
        samples=1,
        temperature=1.0,
    )


def chosen(policy: Thinker, what: EvaluationSettings, turn: int) -> list[Point]:
    played: list[Trajectory] = []
    play(policy, what, what.schedule(), at_once=8, ended=lambda _, trajectory: played.append(trajectory))
    return points(played, turn, what.tasks, seed=0)


def drawn(
    policy: Thinker, states: int, turn: int = 1, design: Design = DESIGN, **options: Any
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """States and the returns of the outcome `reward`, `(states, M, K, F)`."""
    what = settings(states, **options)
    found = list(Decisions(policy, what, design, at_once=32).draw(chosen(policy, what, turn)))
    return found, np.array([one["returns"]["reward"] for one in found])


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"acted": 1}, (0, 1, 0)),
        ({"thought": 1}, (1, 0, 0)),
        ({"thought": 1, "acted": 1}, (0.5, 0.5, 0)),
        ({"chance": 1}, (0, 0, 1)),
        ({"thought": 1, "acted": 2, "chance": 2}, (1 / 9, 4 / 9, 4 / 9)),
        ({"acted": 1, "later": 1}, (0, 0.5, 0.5)),
    ],
    ids=["action alone", "reasoning alone", "half and half", "chance alone", "all three", "action and a later turn"],
)
def test_shares_are_those_of_an_environment_where_they_are_known(
    tokenizer: PreTrainedTokenizerBase, weights: dict[str, float], expected: tuple[float, float, float]
) -> None:
    _, returns = drawn(Thinker(tokenizer), 60, **weights)
    assert returns.shape == (60, 4, 4, 2)
    found = decided(returns)
    assert [share.value for share in found.shares.values()] == pytest.approx(expected, abs=0.1)
    if expected == (1, 0, 0):  # the action copies what was thought: nothing at all is left to decide
        assert [share.value for share in found.shares.values()] == [1, 0, 0]


def test_a_response_goes_on_from_the_end_of_its_reasoning(tokenizer: PreTrainedTokenizerBase) -> None:
    policy = Thinker(tokenizer)
    what = settings(2, thought=1)
    states = chosen(policy, what, 1)
    policy.begun.clear()
    found = list(Decisions(policy, what, DESIGN, at_once=8).draw(states))
    reasonings, actions = 2 * 4, 2 * 4 * 4
    assert policy.begun[:4] == [""] * 4
    assert len([begun for begun in policy.begun if begun]) == actions
    assert len([begun for begun in policy.begun if not begun]) == reasonings
    assert {begun[1:] for begun in policy.begun if begun} == {"</think>"}
    assert all(len({response[0] for response in those}) == 1 for one in found for those in one["responses"])


def test_a_fixed_player_of_the_later_turns_leaves_nothing_to_them(tokenizer: PreTrainedTokenizerBase) -> None:
    for future in ("expert", "greedy"):
        _, returns = drawn(Thinker(tokenizer), 20, design=Design(3, 3, 2, future), acted=1, later=1)
        assert decided(returns).shares["after"].value == 0, future
        assert returns.max() == (2 if future == "expert" else 1)  # the expert is paid in its turn


def test_futures_in_which_the_expert_knew_no_way_are_counted(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_times(env: Drawn) -> str:
        if env.room % 2:
            raise ValueError("no way")
        return "Go 1 1"

    monkeypatch.setattr("tests.unit.diagnosis.drawn.expert_action", at_times)
    found, _ = drawn(Thinker(tokenizer), 12, design=Design(2, 2, 2, "expert"), acted=1, later=1)
    assert {(int(one["observation"].split()[1].rstrip(",")) % 2, one[GAVE_UP]) for one in found} == {(0, 0), (1, 8)}
    found, _ = drawn(Thinker(tokenizer), 2, design=Design(2, 2, 2), acted=1, later=1)
    assert not any(GAVE_UP in one for one in found)


@pytest.mark.parametrize(("problem", "said"), [("hangs", "no answer within 0.2 s"), ("breaks", "KeyError: 'way'")])
def test_an_expert_that_hangs_or_breaks_fails_the_state_in_words(
    problem: str, said: str, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(env: Drawn) -> str:
        if problem == "breaks":
            raise KeyError("way")
        while True:
            time.sleep(0.01)

    monkeypatch.setattr("tests.unit.diagnosis.drawn.expert_action", never)
    policy, what = Thinker(tokenizer), replace(settings(1, acted=1, later=1), step_timeout=0.2)
    (found,) = Decisions(policy, what, Design(2, 2, 1, "expert"), at_once=4).draw(chosen(policy, what, 1))
    assert "returns" not in found and found["failure"].startswith("the expert failed: ")
    assert said in found["failure"]


def test_a_later_turn_is_reached_again_with_its_past(tokenizer: PreTrainedTokenizerBase) -> None:
    found, returns = drawn(Thinker(tokenizer), 40, turn=2, thought=10, acted=10, chance=10, later=1)
    assert {one["turn"] for one in found} == {2} and all(one["observation"].endswith("turn 1") for one in found)
    # What was earned before is the same in all futures of a state, chance of the past included.
    assert (np.ptp(returns // 10, axis=(1, 2, 3)) == 0).all() and len(set((returns // 10).ravel())) > 1
    assert decided(returns).shares["action"].value == pytest.approx(1, abs=0.1)


def test_draws_depend_on_the_seed_and_not_on_how_many_are_made_at_once(tokenizer: PreTrainedTokenizerBase) -> None:
    what = settings(6, thought=1, acted=2, chance=4)
    states = chosen(Thinker(tokenizer), what, 1)
    together = list(Decisions(Thinker(tokenizer), what, DESIGN, at_once=100).draw(states))
    alone = list(Decisions(Thinker(tokenizer), what, DESIGN, at_once=1).draw(states[3:]))
    by_task = {one["task"]: one for one in together}
    assert [by_task[one["task"]] for one in alone] == alone


def test_a_response_that_never_ends_its_reasoning_is_decided_by_it(tokenizer: PreTrainedTokenizerBase) -> None:
    policy = Thinker(tokenizer, closes=False)
    found, returns = drawn(policy, 3, acted=1)
    assert not any(policy.begun)  # nothing is continued
    assert all(len(set(those)) == 1 for one in found for those in one["responses"])
    assert decided(returns).variance == 0


def test_a_turn_at_random_takes_all_turns(tokenizer: PreTrainedTokenizerBase) -> None:
    states = chosen(Thinker(tokenizer), settings(40, later=1), 0)
    assert {one.turn for one in states} == {1, 2} and {one.asked for one in states} == {0}
    assert 8 < sum(one.turn == 1 for one in states) < 32


def test_an_environment_that_does_not_keep_to_its_seed_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ExperimentError, match="the state of turn 1 of task 0 is not reached again"):
        drawn(Thinker(tokenizer), 2, acted=1, forgets=True)


def test_too_few_draws_are_refused() -> None:
    with pytest.raises(ValueError, match="1 actions: a variance needs at least 2 of each"):
        Design(5, 1, 2)
