"""What is kept of an episode, and what many of them come to."""

from __future__ import annotations

import pytest

from verl_actfocus.episodes.record import EpisodeRecord, TurnRecord, summarise


def turn(tokens: int = 10, valid: bool = True, executed: int = 1, effective: int = 1, named: int = 1) -> TurnRecord:
    return TurnRecord(
        text="",
        parsed=["go"] * named,
        executed=["go"] * executed,
        valid=valid,
        problem=None,
        reward=0.0,
        effective_actions=effective,
        tokens=tokens,
        reasoning_tokens=0,
        action_tokens=0,
        observation="",
    )


WON = EpisodeRecord(task=3, sample=1, success=True, stop_reason="success", turns=[turn(20), turn(30, executed=2)])
LOST = EpisodeRecord(
    task=4,
    sample=0,
    stop_reason="turn_limit",
    turns=[
        turn(5, executed=1, effective=0),
        *(turn(5, valid=False, executed=0, effective=0, named=named) for named in (0, 1, 0)),
    ],
)


def test_the_counts_of_an_episode_are_those_of_its_turns() -> None:
    assert WON.counts() == {
        "success": 1.0,
        "stop_reason": "success",
        "turns": 2,
        "well_formed_turns": 2,
        "valid_turns": 2,
        "actions": 3,
        "effective_actions": 2,
        "response_tokens": 50,
        "seed": 3,
        "outcomes": [],
    }


def test_summaries_weigh_turns_and_actions_not_episodes() -> None:
    summary = summarise([WON.counts(), LOST.counts()])
    assert summary["success"] == 0.5
    # One of the three invalid turns names an action, which was refused.
    assert summary["well_formed_turn_rate"] == pytest.approx(4 / 6)
    assert summary["valid_turn_rate"] == pytest.approx(3 / 6)
    assert summary["effective_action_rate"] == pytest.approx(2 / 4)
    assert summary["turns"] == 3
    assert summary["response_length"] == pytest.approx((50 + 20) / 2)
    assert summary["stop/success"] == summary["stop/turn_limit"] == 0.5
    assert summary["stop/response_cut"] == 0


def test_an_outcome_is_averaged_over_the_episodes_that_have_it() -> None:
    bought = [EpisodeRecord(task=0, sample=i, outcomes={"purchase": i < 2}).counts() for i in range(3)]
    assert [one["purchase"] for one in bought] == [1.0, 1.0, 0.0]
    assert summarise([*bought, WON.counts()])["purchase"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", ["success", "seed", "valid_turn_rate", "reward", "outcomes"])
def test_an_outcome_cannot_take_the_name_of_another_metric(name: str) -> None:
    with pytest.raises(ValueError, match=rf"outcomes \['{name}'\]: another metric has that name"):
        EpisodeRecord(task=0, sample=0, outcomes={name: True})
