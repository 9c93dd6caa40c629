"""WebShop's expert: what it reads off a page and how often it is right."""

from __future__ import annotations

import pytest

from verl_actfocus import envs
from verl_actfocus.envs.webshop.env import WebShopEnv
from verl_actfocus.envs.webshop.expert import expert_action
from verl_actfocus.envs.webshop.goals import Goal
from verl_actfocus.envs.webshop.pages import Page, View, clicks, render
from verl_actfocus.envs.webshop.text import keywords, price_limit


def test_the_price_limit_and_keywords_are_read_off_the_instruction() -> None:
    text = "Show me kettles that are quiet with color: sky blue, and price lower than 50.00 dollars"
    assert price_limit(text) == 50.0
    assert keywords(text) == ["kettles", "quiet", "color", "sky", "blue"]
    assert price_limit("Show me kettles") is None


def test_the_expert_buys_always_and_right_mostly() -> None:
    env = WebShopEnv()
    strict = 0
    for seed in range(100):
        env.reset(seed=seed)
        for _ in range(envs.spec("webshop").limits.actions):
            action = expert_action(env)
            _, _, terminated, _, info = env.step(action)
            assert info["valid"] and info["effective"], action
            if terminated:
                break
        assert info["purchase"]
        strict += info["strict_success"]
    assert strict >= 85
    with pytest.raises(TypeError, match="FrozenLakeEnv"):
        expert_action(envs.make("frozenlake"))


def test_the_expert_decides_by_the_page_alone() -> None:
    class Masked(WebShopEnv):
        """Shows pages but refuses to say what the goal is."""

        @property
        def goal(self) -> Goal:
            raise AssertionError("the expert looked at the goal")

        def render(self) -> str:
            return render(self.view, self.shop, "Show me kettles that are quiet with color: teal")

    env = Masked()
    assert expert_action(env) == "search[kettles quiet color teal]"
    products = env.shop.catalogue.products
    teal = next(i for i, item in enumerate(products) if "teal" in item.options.get("color", ()))
    env.view = View(Page.RESULTS, hits=(teal,))
    assert expert_action(env) == f"click[{products[teal].asin.lower()}]"
    env.view = View(Page.PRODUCT, product=teal)
    assert expert_action(env) == "click[teal]"
    env.view = clicks(env.view, env.shop)["teal"]
    assert expert_action(env) == "click[buy now]"
