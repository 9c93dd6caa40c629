"""Playing WebShop on the shipped catalogue: the contract, the goals, the purchase, what is refused."""

from __future__ import annotations

import inspect
import json
import os
import random
import re
import subprocess
import sys

import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from verl_actfocus import envs
from verl_actfocus.envs.webshop.env import WebShopEnv
from verl_actfocus.envs.webshop.goals import split_goals

from .webshop_play import at, first_hit


@pytest.mark.filterwarnings("ignore:.*render.*")
def test_the_environment_passes_gymnasiums_checker() -> None:
    check_env(WebShopEnv(), skip_render_check=False)
    assert isinstance(envs.make("webshop"), WebShopEnv)


def random_play() -> str:
    """Twenty episodes of random legal actions, as JSON."""
    env, choose = WebShopEnv(), random.Random(3)
    record: list[object] = []
    for seed in range(20):
        record.append(env.reset(seed=seed))
        for _ in range(9):
            result = env.step(choose.choice(env.legal_actions()))
            record.append(result)
            if result[2]:
                break
    return json.dumps(record)


IN_ANOTHER_PROCESS = """
import json, random, threading
from verl_actfocus.envs.webshop.env import WebShopEnv
{source}
print(random_play())
print(threading.active_count())
"""


def test_a_trajectory_is_the_same_in_any_process_and_loading_starts_no_thread_and_shows_no_bar() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS.format(source=inspect.getsource(random_play))],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    trajectory, threads = done.stdout.splitlines()
    assert trajectory == random_play()
    assert threads == "1"
    assert done.stderr == ""


def test_the_seed_draws_the_goal_in_proportion_to_the_weights() -> None:
    env = WebShopEnv()
    drawn = [env.reset(seed=seed)[1]["goal"] for seed in range(3000)]
    part = env.shop.splits["train"].tolist()
    assert set(drawn) <= set(part)
    # A third of the weight, the heaviest goals, is drawn a third of the time: 4 standard errors of 3000.
    heaviest = sorted(part, key=lambda goal: -env.shop.goals[goal].weight)
    total = sum(env.shop.goals[goal].weight for goal in part)
    share, top = 0.0, set()
    for goal in heaviest:
        if share >= 1 / 3:
            break
        top.add(goal)
        share += env.shop.goals[goal].weight / total
    assert abs(sum(goal in top for goal in drawn) / 3000 - share) < 4 * (share * (1 - share) / 3000) ** 0.5
    # Without the weights it would be the share of goals, which is far from that.
    assert len(top) / len(part) < share - 0.1


def test_a_goal_can_be_asked_for_and_a_wrong_place_is_refused() -> None:
    env = WebShopEnv(split="test")
    _, info = env.reset(options={"goal": 499})
    assert info["goal"] == env.shop.splits["test"][499]
    with pytest.raises(ValueError, match=r"goal = 500.*'test' split, an integer from 0 to 499"):
        env.reset(options={"goal": 500})
    with pytest.raises(ValueError, match="unknown options"):
        env.reset(options={"goals": 1})


def test_splits_are_500_1000_and_the_rest_even_of_few_goals() -> None:
    assert {name: len(part) for name, part in split_goals(1501).items()} == {
        "test": 500,
        "validation": 1000,
        "train": 1,
    }
    assert {name: len(part) for name, part in split_goals(600).items()} == {
        "test": 500,
        "validation": 100,
        "train": 0,
    }


def buy(env: WebShopEnv, options: bool) -> tuple[float, dict[str, object]]:
    """Finds the wanted product by its title, chooses the wanted options or none, and buys."""
    wanted = env.shop.catalogue.products[env.goal.product]
    env.step(f"search[{wanted.title}]")
    env.step(f"click[{wanted.asin}]")
    if options:
        for value in env.goal.options.values():
            env.step(f"click[{value}]")
    _, reward, terminated, _, info = env.step("click[buy now]")
    assert terminated
    return reward, info


def test_buying_the_wanted_product_with_its_options_succeeds_and_without_them_does_not() -> None:
    env = WebShopEnv()
    partial = 0
    for seed in range(30):
        env.reset(seed=seed)
        reward, info = buy(env, options=True)
        assert reward == 1.0
        assert info["success"] and info["strict_success"] and info["purchase"]
        env.reset(seed=seed)
        reward, info = buy(env, options=False)
        asked, wishes = len(env.goal.options), len(env.goal.attributes)
        assert reward == pytest.approx((wishes + 1) / (wishes + asked + 1))
        assert info["purchase"]
        assert info["success"] == info["strict_success"] == (asked == 0)
        partial += asked > 0
    assert partial > 10


def test_after_the_purchase_the_episode_is_over() -> None:
    env = at("search[running shirts]", first_hit(), "click[buy now]")
    assert env.legal_actions() == []
    assert "Page: bought" in env.render()
    with pytest.raises(ResetNeeded, match="reset"):
        env.step("click[back to search]")
    with pytest.raises(ResetNeeded, match="reset"):
        WebShopEnv().step("search[lamp]")


@pytest.mark.parametrize(
    "actions",
    [(), ("search[running shirts]",), ("search[running shirts]", first_hit()), ("search[zzz]",)],
    ids=["search", "results", "product", "nothing found"],
)
@pytest.mark.parametrize(
    "action",
    [
        *("", "search", "search[]", "search[ ]", "click[]", "click[nowhere]", "buy now", "click[search]"),
        *("think[hard]", "search[a", "click[buy now] now", "\u2028", "click[AF99999]"),
    ],
)
def test_an_invalid_action_is_reported_and_changes_nothing(actions: tuple[str, ...], action: str) -> None:
    env = at(*actions)
    before = env.render(), env.view
    observation, reward, terminated, truncated, info = env.step(action)
    assert (observation, env.view) == before
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert not info["valid"] and not info["effective"] and not info["success"] and not info["purchase"]


def test_searching_is_possible_on_the_search_page_only() -> None:
    assert not at("search[lamp]").step("search[lamp]")[4]["valid"]
    assert at("search[lamp]", "click[back to search]").step("Search[Lamp]")[4]["valid"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=60) | st.sampled_from(["search[lamp]", "pick"]), max_size=12), st.randoms())
def test_no_text_raises_and_the_page_lists_exactly_the_legal_actions(texts: list[str], choose: random.Random) -> None:
    env = WebShopEnv()
    env.reset(seed=1)
    for text in texts:
        legal = env.legal_actions()
        observation, _, terminated, _, info = env.step(choose.choice(legal) if text == "pick" else text)
        assert info["valid"] or text != "pick"
        if terminated:
            return
        assert observation == env.render() and observation in env.observation_space
        if not observation.endswith("search[your keywords]"):
            listed = re.findall(r"(?<= )click\[.*?\](?= |$)|^click\[.*?\]", observation, re.MULTILINE)
            assert sorted(listed) == sorted(env.legal_actions())
