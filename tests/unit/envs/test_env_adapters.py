"""The adapter: gymnasium's own text environments played in words."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import gymnasium
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from verl_actfocus.envs.adapters import DiscreteTextAdapter, write_out_colours

CLIFF = ("Up", "Right", "Down", "Left")
TAXI = ("South", "North", "East", "West", "Pick up", "Drop off")
LAKE = ("Left", "Down", "Right", "Up")


def adapted(gymnasium_id: str, names: tuple[str, ...], **arguments: object) -> DiscreteTextAdapter:
    return DiscreteTextAdapter(
        gymnasium.make(gymnasium_id, render_mode="ansi", **arguments),
        action_names=names,
        rules="Reach the goal.",
        solved=lambda reward, terminated: terminated,
    )


@pytest.mark.filterwarnings("ignore:.*alternative render modes")
@pytest.mark.parametrize(("gymnasium_id", "names"), [("CliffWalking-v1", CLIFF), ("Taxi-v4", TAXI)])
def test_an_adapted_environment_passes_gymnasiums_checker(gymnasium_id: str, names: tuple[str, ...]) -> None:
    check_env(adapted(gymnasium_id, names))


def test_words_do_what_the_numbers_do() -> None:
    env, bare = adapted("Taxi-v4", TAXI), gymnasium.make("Taxi-v4", render_mode="ansi")
    env.reset(seed=4)
    bare.reset(seed=4)
    for number in (0, 1, 2, 3, 4, 5, 0, 0, 2):
        before = bare.unwrapped.s  # Taxi's state number
        state, reward, terminated, truncated, _ = bare.step(number)
        result = env.step(TAXI[number].lower())
        assert result[1:4] == (reward, terminated, truncated)
        assert result[4] == {"valid": True, "effective": state != before, "success": terminated}


def test_cliff_walking_is_solved_by_walking_around_the_cliff() -> None:
    env = adapted("CliffWalking-v1", CLIFF)
    assert env.reset(seed=0)[0].split("\n")[-1].startswith("x  C  C")
    env.step("Up")
    for _ in range(11):
        env.step("Right")
    observation, reward, terminated, _, info = env.step("Down")
    assert (reward, terminated, info["success"]) == (-1.0, True, True)
    assert observation.endswith("x")
    with pytest.raises(ResetNeeded):
        env.step("Up")


def test_colours_that_carry_the_state_are_written_out() -> None:
    observation, _ = adapted("FrozenLake-v1", LAKE).reset(seed=0)
    assert observation == "[red S]FFF\nFHFH\nFFFH\nHFFG"
    marked = DiscreteTextAdapter(
        gymnasium.make("FrozenLake-v1", render_mode="ansi"),
        action_names=LAKE,
        rules="",
        solved=lambda reward, terminated: reward > 0,
        marks={"red": "<{}>"},
    )
    assert marked.reset(seed=0)[0].startswith("<S>FFF")


def test_colours_within_colours_and_other_escapes_leave_only_text() -> None:
    marks = {"magenta": "({})", "yellow": "[{}]", "blue": "{}"}
    assert write_out_colours("\x1b[35m\x1b[43mY\x1b[0m\x1b[0m|\x1b[34;1mB\x1b[0m:\x1b[2K", marks) == "([Y])|B:"


@given(st.text(alphabet="ab\x1b[03145;m", max_size=40))
def test_no_escape_sequence_survives(text: str) -> None:
    marks = dict.fromkeys(("gray", "red", "green", "yellow", "blue", "magenta", "cyan", "white"), "{}")
    assert not re.search(r"\x1b\[[0-9;]*m", write_out_colours(f"\x1b[31m{text}\x1b[0m", marks))


def test_an_invalid_action_does_not_reach_the_environment_or_its_time_limit() -> None:
    env = adapted("CliffWalking-v1", CLIFF, max_episode_steps=2)
    observation, _ = env.reset(seed=0)
    for _ in range(5):
        result = env.step("Jump")
        assert result == (
            observation,
            0.0,
            False,
            False,
            {"valid": False, "effective": False, "success": False},
        )
    assert [env.step("Up")[3] for _ in range(2)] == [False, True]


def test_the_rules_name_the_actions_and_give_an_example_that_is_legal() -> None:
    env = adapted("Taxi-v4", TAXI)
    env.reset(seed=0)
    assert env.rules.startswith("Reach the goal.\n")
    assert all(name in env.rules for name in TAXI)
    assert env.rules.rsplit(": ", 1)[1] in env.legal_actions()


def test_what_cannot_be_adapted_is_refused_with_the_reason() -> None:
    lake = gymnasium.make("FrozenLake-v1")
    with pytest.raises(ValueError, match="render_mode='ansi'"):
        DiscreteTextAdapter(lake, action_names=LAKE, rules="", solved=lambda reward, over: over)
    with pytest.raises(ValueError, match="must be 4 different names"):
        adapted("FrozenLake-v1", ("Left", "left", "Right", "Up"))
    with pytest.raises(TypeError, match="Discrete"):
        adapted("ActFocus/Sokoban-v0", LAKE)
    with pytest.raises(ValueError, match="unknown colours \\['pink'\\]"):
        DiscreteTextAdapter(
            gymnasium.make("FrozenLake-v1", render_mode="ansi"),
            action_names=LAKE,
            rules="",
            solved=lambda reward, over: over,
            marks={"pink": "{}"},
        )


class Snowman(gymnasium.Env[int, int]):
    """Draws a character that no default observation space holds."""

    action_space = gymnasium.spaces.Discrete(1, start=5)
    observation_space = gymnasium.spaces.Discrete(8)
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"]}
    render_mode = "ansi"

    def reset(self, *, seed=None, options=None):
        return 0, {}

    def step(self, action):
        return action, 0.0, False, False, {}

    def render(self) -> str:
        return "☃"


def test_a_foreign_character_is_refused_until_it_is_declared() -> None:
    def snowman(extra: str) -> DiscreteTextAdapter:
        return DiscreteTextAdapter(
            Snowman(), action_names=["Melt"], rules="", solved=lambda r, t: t, extra_symbols=extra
        )

    with pytest.raises(ValueError, match=r"☃.*extra_symbols"):
        snowman("").reset()
    env = snowman("☃")
    assert env.reset()[0] in env.observation_space


def test_action_numbers_that_do_not_start_at_zero_are_kept() -> None:
    env = DiscreteTextAdapter(Snowman(), action_names=["Melt"], rules="", solved=lambda r, t: t, extra_symbols="☃")
    env.reset()
    env.step("Melt")
    assert env._inner == 5


@pytest.mark.parametrize("name", ["Melt || Freeze", " "])
def test_a_name_that_no_response_can_hold_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"a name is not empty and has no '\|\|' in it"):
        DiscreteTextAdapter(Snowman(), action_names=[name], rules="", solved=lambda r, t: t)


def test_reseeding_changes_what_chance_brings_and_not_the_state() -> None:
    def walked(seed: int) -> list[str]:
        env = DiscreteTextAdapter(
            gymnasium.make("FrozenLake-v1", render_mode="ansi", is_slippery=True),
            action_names=("Left", "Down", "Right", "Up"),
            rules="Cross the ice.",
            solved=lambda reward, terminated: reward > 0,
        )
        before, _ = env.reset(seed=0)
        env.reseed(seed)
        assert env.render() == before
        seen = []
        while env.legal_actions():
            seen.append(env.step("Right")[0])
        return seen

    assert walked(1) == walked(1)
    assert len({tuple(walked(seed)) for seed in range(5)}) > 1
