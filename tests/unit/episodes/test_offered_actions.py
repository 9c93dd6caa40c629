"""Whatever an environment offers, a response can name: the separator and the tags are reserved."""

from __future__ import annotations

import pytest

from verl_actfocus import envs
from verl_actfocus.episodes import STANDARD_TAGS, Episode, StopReason, TagSettings, write_response
from verl_actfocus.episodes.grammar import can_be_written

from .conftest import LIMITS, ScriptedEnv, answer

REST = TagSettings(action="rest")
BRACKETS = TagSettings(action=("[", "]"))


class Offering(ScriptedEnv):
    """Offers an action from the beginning, or from the first step on."""

    def __init__(self, action: str, *, later: bool = False) -> None:
        super().__init__()
        self.offered, self.later = action, later

    def legal_actions(self) -> list[str]:
        return ["go 0"] if self.later and not self.steps else ["go 0", self.offered]


@pytest.mark.parametrize(
    ("action", "tags", "possible"),
    [
        ("click[a || b]", STANDARD_TAGS, False),
        ("a||b", REST, False),
        ("say </answer>", STANDARD_TAGS, False),
        ("say </answer>", REST, True),
        ("say <think>", REST, False),
        ("say <think>", STANDARD_TAGS, True),
        ("click[a]", BRACKETS, False),
        ("  ", STANDARD_TAGS, False),
        ("click[a | b]", STANDARD_TAGS, True),
        (" Up ", STANDARD_TAGS, True),
    ],
)
def test_an_action_that_no_response_can_name_is_the_environments_failure(
    action: str, tags: TagSettings, possible: bool
) -> None:
    assert can_be_written(action, tags) is possible
    for later in (False, True):
        episode = Episode(Offering(action, later=later), LIMITS, tags=tags)
        episode.reset(seed=1)
        if later:
            assert not episode.done
            episode.respond(write_response("go 1", tags=tags))
        if possible:
            assert not episode.done
            continue
        assert episode.stop_reason is StopReason.ENVIRONMENT_ERROR
        assert f"Offering offers the action {action!r}, which no response can name" in str(episode.error)


def test_what_is_offered_after_the_end_is_of_no_interest() -> None:
    episode = Episode(Offering("a || b", later=True), LIMITS)
    episode.reset(seed=1)
    assert episode.respond(answer("win 1")).stop_reason is StopReason.SUCCESS


@pytest.mark.parametrize("name", ["sokoban", "frozenlake", "sudoku", "webshop"])
def test_every_action_that_is_offered_along_an_experts_way_is_executed(name: str) -> None:
    for seed in range(3):
        episode = Episode(envs.make(name), envs.spec(name).limits)
        episode.reset(seed)
        expert = envs.expert(name)
        while not episode.done:
            assert all(can_be_written(action) for action in episode.env.legal_actions())
            episode.respond(write_response(expert(episode.env)))
        assert episode.error is None
