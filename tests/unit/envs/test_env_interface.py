"""What every environment promises, whatever its rules."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import warnings
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from verl_actfocus import envs
from verl_actfocus.envs import EpisodeLimits, TextEnv

NAMES = ("frozenlake", "sokoban", "sudoku", "webshop")
INVALID_REWARD = {"frozenlake": 0.0, "sokoban": 0.0, "sudoku": -0.1, "webshop": 0.0}
WELL_FORMED_SUDOKU = st.from_regex(r"(?i:place [0-9]{1,3} at row [0-9] col [0-9]|[0-9],[0-9],[0-9])", fullmatch=True)


def trajectory(name: str, seed: int, steps: int = 12) -> list[object]:
    """Plays actions drawn from the legal ones by a generator of the test's own."""
    env, choose = envs.make(name), random.Random(seed)
    record: list[object] = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        result = env.step(choose.choice(env.legal_actions()))
        record.append(result)
        if result[2] or result[3]:
            break
    return record


def digest(name: str) -> str:
    return hashlib.sha256(json.dumps([trajectory(name, seed) for seed in range(20)]).encode()).hexdigest()


@pytest.mark.parametrize("name", NAMES)
def test_passes_gymnasiums_checker_without_a_warning(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(envs.spec(name).id, disable_env_checker=True).unwrapped)


@pytest.mark.parametrize("name", NAMES)
def test_runs_under_gymnasiums_wrappers(name: str) -> None:
    env = gymnasium.make(envs.spec(name).id)
    observation, _ = env.reset(seed=3)
    assert observation == envs.make(name).reset(seed=3)[0]
    assert observation in env.observation_space


def test_trajectories_are_the_same_in_another_process_with_another_hash_seed() -> None:
    code = "from test_env_interface import NAMES, digest; print([digest(name) for name in NAMES])"
    here = os.path.dirname(__file__)
    environment = os.environ | {"PYTHONHASHSEED": "77", "PYTHONPATH": os.pathsep.join([here, *sys.path])}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert other.stdout.strip() == str([digest(name) for name in NAMES]), other.stderr


@pytest.mark.parametrize("name", NAMES)
def test_trajectories_do_not_depend_on_other_environments_or_global_generators(name: str) -> None:
    alone = [trajectory(name, seed) for seed in range(8)]
    np.random.seed(0)
    random.seed(0)
    beside = [envs.make(name) for _ in range(8)]
    chooser = [random.Random(seed) for seed in range(8)]
    records: list[list[object]] = [[env.reset(seed=seed)[0]] for seed, env in enumerate(beside)]
    running = set(range(8))
    for _ in range(12):
        for i in sorted(running):
            np.random.random()
            result = beside[i].step(chooser[i].choice(beside[i].legal_actions()))
            records[i].append(result)
            if result[2] or result[3]:
                running.discard(i)
    assert records == alone


@pytest.mark.parametrize("name", NAMES)
def test_different_seeds_give_different_tasks(name: str) -> None:
    env = envs.make(name)
    assert len({env.reset(seed=seed)[0] for seed in range(50)}) > 40


@pytest.mark.parametrize("name", NAMES)
def test_reset_without_seed_goes_on_with_the_environments_own_generator(name: str) -> None:
    one, two = envs.make(name), envs.make(name)
    assert [one.reset(seed=5)[0], one.reset()[0]] == [two.reset(seed=5)[0], two.reset()[0]]
    assert one.reset(seed=5)[0] != one.reset()[0]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40) | WELL_FORMED_SUDOKU)
def test_random_text_never_raises_and_an_invalid_action_changes_nothing(name: str, text: str) -> None:
    env = envs.make(name)
    env.reset(seed=1)
    legal = env.legal_actions()
    before = state_of(name, env)
    _, reward, terminated, truncated, info = env.step(text)
    if text.strip().casefold() in {action.casefold() for action in legal}:
        assert info["valid"]
    elif not info["valid"]:
        assert reward == INVALID_REWARD[name]
        assert not (terminated or truncated or info["effective"] or info["success"])
        assert env.legal_actions() == legal
        assert state_of(name, env) == before
    else:
        # sudoku's short form, blanks within an action, and free searches are not among the listed actions
        assert name in ("sudoku", "webshop")


def state_of(name: str, env: TextEnv) -> str:
    """The observation, for sudoku without what it says of the last action."""
    text = env.render()
    assert isinstance(text, str)
    if name == "sudoku":
        lines = text.replace("!", " ").split("\n")
        return "\n".join(line.rstrip() for line in lines if not line.startswith("Last action:"))
    return text


@pytest.mark.parametrize("name", NAMES)
def test_an_invalid_action_leaves_the_random_generator_alone(name: str) -> None:
    env = envs.make(name)
    env.reset(seed=1)
    before = env.np_random.bit_generator.state
    env.step("no such action")
    assert env.np_random.bit_generator.state == before


@pytest.mark.parametrize("name", NAMES)
def test_every_legal_action_is_accepted_whatever_its_case_and_surrounding_space(name: str) -> None:
    for seed in range(5):
        for index in range(len(envs_after_reset(name, seed).legal_actions())):
            env = envs_after_reset(name, seed)
            assert env.step(f" \n{env.legal_actions()[index].upper()} ")[4]["valid"]


def envs_after_reset(name: str, seed: int) -> TextEnv:
    env = envs.make(name)
    env.reset(seed=seed)
    return env


@pytest.mark.parametrize("name", NAMES)
def test_the_example_in_the_rules_is_a_well_formed_action(name: str) -> None:
    env = envs.make(name)
    example = env.rules.rsplit("Example of an action: ", 1)[1]
    # the sudoku example may meet a given clue on one seed, but not on all of them
    assert any(step_valid(env, seed, example) for seed in range(200))


def step_valid(env: TextEnv, seed: int, action: str) -> bool:
    env.reset(seed=seed)
    return bool(env.step(action)[4]["valid"])


@pytest.mark.parametrize("name", NAMES)
def test_stepping_without_an_episode_under_way_is_refused(name: str) -> None:
    env = envs.make(name)
    assert env.legal_actions() == []
    with pytest.raises(ResetNeeded, match="reset"):
        env.step("Left")
    env.reset(seed=0)
    for _ in range(3000):
        if any(env.step(random.choice(env.legal_actions()))[2:4]):
            break
    with pytest.raises(ResetNeeded):
        env.step("Left")
    assert env.legal_actions() == []


@pytest.mark.parametrize("name", NAMES)
def test_rendering_as_text_is_the_observation(name: str) -> None:
    env = envs.make(name, render_mode="ansi")
    assert env.reset(seed=2)[0] == env.render()
    assert env.step(env.legal_actions()[0])[0] == env.render()


@pytest.mark.parametrize(("name", "cells"), [("frozenlake", 4), ("sokoban", 6), ("sudoku", 4)])
def test_rendering_as_an_image_draws_one_tile_per_cell_and_follows_the_state(name: str, cells: int) -> None:
    env = envs.make(name, render_mode="rgb_array", **({"success_rate": 1.0} if name == "frozenlake" else {}))
    env.reset(seed=0)
    before = env.render()
    assert isinstance(before, np.ndarray) and before.dtype == np.uint8
    assert before.shape == (cells * 32, cells * 32, 3)
    for action in env.legal_actions():
        if env.step(action)[4]["effective"]:
            break
    assert not np.array_equal(before, env.render())


@pytest.mark.parametrize("name", NAMES)
def test_unknown_render_modes_and_options_are_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"'hologram'.*ansi"):
        envs.make(name, render_mode="hologram")
    with pytest.raises(ValueError, match="difficulty"):
        envs.make(name).reset(options={"difficulty": 3})


def test_importing_the_registry_imports_no_environment() -> None:
    code = "import sys, verl_actfocus.envs; print([m for m in sys.modules if m.startswith('verl_actfocus.envs.')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "['verl_actfocus.envs.base', 'verl_actfocus.envs.registry']"


@pytest.mark.parametrize(
    ("name", "turns", "per_turn", "actions", "words"),
    # He et al. 2026, App. C
    [
        ("sokoban", 5, 2, 10, 100),
        ("frozenlake", 5, 2, 10, 120),
        ("sudoku", 8, None, 16, 150),
        ("webshop", 9, 1, 9, 200),
    ],
)
def test_budgets_are_the_papers(name: str, turns: int, per_turn: int | None, actions: int, words: int) -> None:
    limits = envs.spec(name).limits
    assert (limits.turns, limits.actions_per_turn, limits.actions, limits.words) == (
        turns,
        per_turn,
        actions,
        words,
    )
    assert limits.response_tokens == 400


def test_an_unknown_environment_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'sokobann'.*frozenlake, sokoban, sudoku, textworld, webshop"):
        envs.spec("sokobann")


@pytest.mark.parametrize("field", ["turns", "actions_per_turn", "actions", "words", "response_tokens"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True])
def test_a_budget_that_is_no_positive_integer_is_refused_by_name(field: str, value: object) -> None:
    good = {"turns": 1, "actions_per_turn": 1, "actions": 1, "words": 1, "response_tokens": 1}
    with pytest.raises(ValueError, match=f"{field} = {value}"):
        EpisodeLimits(**(good | {field: value}))


def test_only_actions_per_turn_may_be_unlimited() -> None:
    assert EpisodeLimits(turns=1, actions_per_turn=None, actions=1, words=1).actions_per_turn is None
    with pytest.raises(ValueError, match="turns = None"):
        EpisodeLimits(turns=None, actions_per_turn=1, actions=1, words=1)


def test_an_argument_that_an_environment_does_not_have_is_named_with_those_it_has() -> None:
    with pytest.raises(TypeError, match=r"'frozenlake'.*'slip'.*size, frozen_probability, success_rate"):
        envs.make("frozenlake", slip=0.2)


def test_registering_a_taken_name_a_taken_id_or_a_malformed_entry_point_is_refused() -> None:
    sokoban = envs.spec("sokoban")
    with pytest.raises(ValueError, match="'sokoban' is taken"):
        envs.register_environment("sokoban", sokoban)
    with pytest.raises(ValueError, match="ActFocus/Sokoban-v0"):
        envs.register_environment("sokoban2", sokoban)
    assert "sokoban2" not in envs.ENVIRONMENTS
    for part in ("entry_point", "expert", "miniature"):
        with pytest.raises(ValueError, match=r"'module\.Class' is not 'module:name'"):
            replace(sokoban, **{part: "module.Class"})


@pytest.mark.parametrize("first", ["", "import verl_actfocus.envs; "])
def test_gymnasium_makes_an_environment_by_its_module_and_id_without_a_warning(first: str) -> None:
    code = f"{first}import gymnasium; print(gymnasium.make('verl_actfocus.envs:ActFocus/Sokoban-v0').reset(seed=0)[0])"
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert run.stdout.startswith("######") and run.stderr == ""
