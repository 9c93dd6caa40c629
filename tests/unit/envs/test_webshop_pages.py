"""WebShop's pages: what they show, how they are left, which links they have."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from verl_actfocus.envs.webshop.env import WebShopEnv
from verl_actfocus.envs.webshop.pages import View, clicks, option_labels, render, shorten
from verl_actfocus.envs.webshop.text import keywords

from .webshop_play import at, clickable, first_hit


def test_the_walk_through_the_shop() -> None:
    env = WebShopEnv()
    observation, _ = env.reset(seed=0)
    assert observation.startswith("Instruction: ") and "search[your keywords]" in observation
    results, reward, terminated, truncated, info = env.step("search[color size count]")
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert info == {
        "valid": True,
        "effective": True,
        "success": False,
        "purchase": False,
        "strict_success": False,
    }
    assert "results 1-10 of 50" in results
    first_page = clickable(env)[:10]
    assert clickable(env)[10:] == ["next >", "back to search"]
    second, *_ = env.step("click[next >]")
    assert "results 11-20 of 50" in second
    assert clickable(env)[10:] == ["next >", "< prev", "back to search"]
    assert not set(first_page) & set(clickable(env)[:10])
    for _ in range(3):
        last, *_ = env.step("click[Next >]")
    assert "results 41-50 of 50" in last
    assert clickable(env)[10:] == ["< prev", "back to search"]
    assert not env.step("click[next >]")[4]["valid"]
    for _ in range(4):
        env.step("click[< prev]")
    assert env.render() == results
    product, *_ = env.step(f"click[{first_page[3].upper()}]")
    assert product.split("\n")[1] == f"Page: product {first_page[3]}"
    for page in ("description", "features", "reviews"):
        detail, *_ = env.step(f"click[{page}]")
        assert f"Page: {page} of {first_page[3]}" in detail
        assert clickable(env) == ["< prev", "back to search"]
        assert env.step("click[< prev]")[0] == product
    assert env.step("click[< prev]")[0] == results
    assert env.step("click[back to search]")[0] == observation


def test_a_page_lists_as_many_hits_as_asked_for_and_the_same_ones_in_the_same_order() -> None:
    def hits(env: WebShopEnv) -> list[str]:
        return re.findall(r"^click\[(af\d+)\] ", env.render(), re.MULTILINE)

    long, short = WebShopEnv(), WebShopEnv(hits_per_page=4)
    assert "lists up to 50 products, 10 a page" in long.rules
    assert "lists up to 50 products, 4 a page" in short.rules
    for env in (long, short):
        env.reset(seed=0)
        env.step("search[color size count]")
    assert short.shop.catalogue is long.shop.catalogue and short.shop.goals is long.shop.goals
    assert short.render().splitlines()[1] == "Page: results 1-4 of 50"
    seen = hits(short)
    for _ in range(12):
        assert short.step("click[next >]")[4]["valid"]
        seen += hits(short)
    assert not short.step("click[next >]")[4]["valid"], "50 hits are 13 pages of 4"
    assert len(seen) == 50 and seen[:10] == hits(long)
    short.step(f"click[{seen[-1]}]")
    short.step("click[< prev]")
    assert short.render().splitlines()[1] == "Page: results 49-50 of 50"


@pytest.mark.parametrize("number", [0, 51])
def test_a_page_length_out_of_range_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match=f"hits_per_page {number}.*1 to 50"):
        WebShopEnv(hits_per_page=number)


def test_chosen_options_stay_until_the_product_is_left() -> None:
    env = at("search[running shirts]", first_hit())
    name, values = next(iter(env.shop.catalogue.products[env.view.product].options.items()))
    assert f"{name} (chosen: none)" in env.render()
    assert env.step(f"click[{values[1]}]")[4]["effective"]
    assert f"{name} (chosen: {values[1]})" in env.render()
    info = env.step(f"click[  {values[1].upper()} ]")[4]
    assert info["valid"] and not info["effective"]  # chosen already
    env.step(f"click[{values[0]}]")  # replaces the first choice
    env.step("click[features]")
    env.step("click[< prev]")
    assert f"{name} (chosen: {values[0]})" in env.render()
    env.step("click[< prev]")
    env.step(first_hit())
    assert f"{name} (chosen: none)" in env.render()


def test_the_legal_search_has_the_instructions_keywords() -> None:
    env = at()
    (action,) = env.legal_actions()
    asked = keywords(env.goal.instruction)
    assert action == f"search[{' '.join(asked)}]"
    assert all(word in env.goal.instruction.lower() for word in asked)


def test_an_option_value_that_is_not_unique_is_clicked_with_its_name() -> None:
    env = at("search[running shirts]", first_hit())
    product = env.shop.catalogue.products[env.view.product]
    clashing = replace(product, options={"frame": ("red", "oak"), "shade": ("red", "buy now")})
    assert option_labels(clashing) == {
        "frame: red": ("frame", "red"),
        "oak": ("frame", "oak"),
        "shade: red": ("shade", "red"),
        "shade: buy now": ("shade", "buy now"),
    }


def test_nothing_found_leaves_only_the_way_back() -> None:
    env = at("search[xylophagous qwerty]")
    assert "nothing found" in env.render()
    assert env.legal_actions() == ["click[back to search]"]
    assert at("search[the of and]").legal_actions() == ["click[back to search]"]  # function words only


def test_long_texts_are_cut_at_a_word_and_visibly() -> None:
    assert shorten("one two three", 13) == "one two three"
    assert shorten("one two three", 12) == "one two..."
    assert shorten("one two three", 10) == "one two..."
    assert shorten("one two three", 9) == "one..."
    assert shorten("onetwothree", 9) == "onetwo..."
    assert shorten(" one\n\u00a0two ", 20) == "one two"


def test_every_page_is_rendered_from_a_view_that_its_click_leads_to() -> None:
    env = at("search[running shirts]")
    for view in clicks(env.view, env.shop).values():
        assert isinstance(view, View)
        assert render(view, env.shop, "x").startswith("Instruction: x\nPage: ")
