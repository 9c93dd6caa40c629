"""The shopper that WebShop's tiny model imitates: true in its reasoning, noisy in its clicks, blind to the goal."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from verl_actfocus import envs
from verl_actfocus.envs.webshop.demonstrations import FOLLOW, MINIATURE, demonstrate
from verl_actfocus.envs.webshop.env import WebShopEnv
from verl_actfocus.warmstart import demonstrations

from .demonstrated import actions


class Step:
    """One response to one page: what the page says and what the shopper says and does."""

    def __init__(self, env: WebShopEnv, rng: np.random.Generator) -> None:
        self.goal = env.goal
        self.page = env.render()
        self.clicks = env.legal_actions()
        self.chosen = dict(env.view.chosen)
        self.prices = [float(price) for price in re.findall(r"^click\[.* \$([\d.]+)$", self.page, re.MULTILINE)]
        response = demonstrate(env, rng, 1)
        self.reasoning, (self.action,) = response.reasoning, actions(response)


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    rng = np.random.default_rng(0)
    env = MINIATURE.make_env()
    assert isinstance(env, WebShopEnv)
    found = []
    for seed in range(250):
        env.reset(seed=seed)
        for _ in range(6):
            found.append(Step(env, rng))
            if env.step(found[-1].action)[2]:
                break
    return found


def on(steps: list[Step], page: str) -> list[Step]:
    chosen = [step for step in steps if f"\nPage: {page}" in step.page]
    assert len(chosen) > 100
    return chosen


def near(values: list[bool]) -> bool:
    """Whether a share is FOLLOW but for chance."""
    return abs(float(np.mean(values)) - FOLLOW) < 4 * (FOLLOW * (1 - FOLLOW) / len(values)) ** 0.5


def test_a_search_is_for_words_of_the_wish_and_leaves_each_out_with_the_documented_probability(
    steps: list[Step],
) -> None:
    kept = []
    for step in on(steps, "search"):
        instruction = step.goal.instruction.partition(", and price lower than")[0].lower()
        searched = step.action.removeprefix("search[").removesuffix("]").split()
        assert set(searched) <= set(re.findall(r"\w+", instruction))
        named = re.search(r"(?:want|about|are) ([^.]*)\.", step.reasoning)
        assert named is not None
        for attribute in step.goal.attributes:
            small = {"all", "for", "no", "of", "on", "through", "to", "with"}
            assert set(re.findall(r"\w+", attribute.lower())) - small <= set(named[1].split())
        kept += [word in searched for word in named[1].split()]
        options = " and ".join(f"{name} {value}" for name, value in step.goal.options.items())
        assert step.reasoning.partition(". ")[2] in ("", f"Then {options}.", f"Later I choose {options}.")
        assert bool(options) == (". " in step.reasoning)
    assert near(kept)


def test_the_hit_that_the_reasoning_names_is_the_first_that_the_price_limit_allows(steps: list[Step]) -> None:
    followed = []
    for step in on(steps, "results"):
        place = re.search(r"number (\d)", step.reasoning)
        if place is None and "the first" not in step.reasoning:
            assert all(price > step.goal.price_limit for price in step.prices)
            continue
        index = int(place[1]) - 1 if place else 0
        affordable = [price <= step.goal.price_limit for price in step.prices]
        assert affordable.index(True) == index
        assert f"{step.goal.price_limit:.2f}" in step.reasoning
        followed.append(step.action == step.clicks[index])
    assert near(followed)


def test_the_options_that_the_reasoning_states_are_those_of_the_wish_and_of_the_page(steps: list[Step]) -> None:
    followed = []
    for step in on(steps, "product"):
        rows = dict(re.findall(r"^(\w+) \(chosen: .+\): (click.*)$", step.page, re.MULTILINE))
        # What was asked for, is offered under that name, and is not chosen.
        open_ones = [n for n in rows if n in step.goal.options and step.goal.options[n] != step.chosen.get(n)]
        exact = [n for n in open_ones if re.search(rf"click\[(?:\w+: )?{re.escape(step.goal.options[n])}\]", rows[n])]
        done = [f"{n} {v}" for n, v in step.goal.options.items() if n in rows and n not in open_ones]
        wish = re.search(
            r"(?:The (\w+) should be|I want (\w+)) (.+?)(?: and is|, not) (.+?)\. (?:After|Then)", step.reasoning
        )
        if wish is None:
            assert not exact, "what can be had is chosen before buying"
            assert ("cannot be had" in step.reasoning) == bool(open_ones)
            assert ("No option here is asked for" in step.reasoning) == (not done and not open_ones)
            if done:
                assert step.reasoning.startswith(
                    (f"I have {' and '.join(done)}. ", f"{' and '.join(done)} is chosen. ")
                )
            followed.append(step.action == "click[buy now]")
        else:
            name = wish[1] or wish[2]
            assert name in open_ones
            assert (wish[3], wish[4]) == (step.goal.options[name], step.chosen.get(name, "none"))
            later = re.search(r"After that ([^.]*)\.", step.reasoning)
            assert (later[1].split(" and ") if later else []) == [one for one in open_ones if one != name]
            if name in exact:
                followed.append(step.action in (f"click[{wish[3]}]", f"click[{name}: {wish[3]}]"))
    assert near(followed)


def test_every_click_is_one_that_the_page_offers(steps: list[Step]) -> None:
    assert all(step.action in step.clicks for step in steps if step.action.startswith("click["))


def test_the_shopper_decides_by_the_page_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    env = WebShopEnv(hits_per_page=4)
    env.reset(seed=5)
    page, clicks = env.render(), env.legal_actions()
    expected = demonstrate(env, np.random.default_rng(0), 1)
    other = WebShopEnv(hits_per_page=4)
    other.reset(seed=6)
    monkeypatch.setattr(other, "render", lambda: page)
    monkeypatch.setattr(other, "legal_actions", lambda: clicks)
    assert demonstrate(other, np.random.default_rng(0), 1) == expected


def test_without_slips_the_shopper_mostly_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verl_actfocus.envs.webshop.demonstrations.FOLLOW", 1.0)
    env = MINIATURE.make_env()
    # The heuristic that it follows succeeds in 94.6 ± 1.0 % of the train split (docs/webshop.md).
    assert sum(demonstrations.demonstrate(MINIATURE, env, seed=3, index=index).success for index in range(100)) > 80


def test_a_page_of_text_is_left() -> None:
    env = WebShopEnv()
    env.reset(seed=1)
    env.step("search[backpack]")
    env.step(env.legal_actions()[0])
    assert env.step("click[features]")[4]["valid"]
    assert "I go back" in demonstrate(env, np.random.default_rng(0), 1).reasoning


def test_models_are_measured_on_goals_that_no_demonstration_asks_for() -> None:
    train, evaluation = MINIATURE.make_env(), envs.make("webshop", **MINIATURE.options_in_evaluation)
    assert isinstance(train, WebShopEnv) and isinstance(evaluation, WebShopEnv)
    goals = [set(env.shop.splits[env.split].tolist()) for env in (train, evaluation)]
    assert goals[0] and goals[1] and not goals[0] & goals[1]
    assert train.shop.hits_per_page == evaluation.shop.hits_per_page
    same = envs.make("webshop", **replace(MINIATURE, evaluation_options={}).options_in_evaluation)
    assert isinstance(same, WebShopEnv) and same.split == train.split
