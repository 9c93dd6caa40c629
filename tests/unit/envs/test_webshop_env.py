"""Playing WebShop on the shipped catalogue: the contract, the pages, the clicks, the purchase."""

from __future__ import annotations

import inspect
import itertools
import json
import math
import os
import random
import re
import string
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from verl_actfocus import envs
from verl_actfocus.envs.experts.webshop import expert_action
from verl_actfocus.envs.webshop import WebShopEnv
from verl_actfocus.envs.webshop.goals import Goal, split_goals
from verl_actfocus.envs.webshop.measure_nouns import mixture_bounds, narrow
from verl_actfocus.envs.webshop.pages import Page, View, clicks, option_labels, render, shorten
from verl_actfocus.envs.webshop.reward import title_score
from verl_actfocus.envs.webshop.search import SearchIndex
from verl_actfocus.envs.webshop.text import keywords, price_limit, search_terms


def at(*actions: str, seed: int = 0) -> WebShopEnv:
    """An environment after some actions, all of which have to be valid."""
    env = WebShopEnv()
    env.reset(seed=seed)
    for action in actions:
        assert env.step(action)[4]["valid"], (action, env.render())
    return env


def clickable(env: WebShopEnv) -> list[str]:
    return [action.removeprefix("click[").removesuffix("]") for action in env.legal_actions()]


def first_hit(query: str = "running shirts") -> str:
    return at(f"search[{query}]").legal_actions()[0]


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
from verl_actfocus.envs.webshop import WebShopEnv
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


def bm25(query: list[str], documents: list[list[str]], k1: float = 0.9, b: float = 0.4) -> list[float]:
    """Okapi BM25 with Lucene's idf, straight from its formula."""
    mean = sum(map(len, documents)) / len(documents)
    scores = [0.0] * len(documents)
    for term in query:
        containing = sum(term in document for document in documents)
        idf = math.log(1 + (len(documents) - containing + 0.5) / (containing + 0.5))
        for place, document in enumerate(documents):
            tf = document.count(term)
            scores[place] += idf * tf / (tf + k1 * (1 - b + b * len(document) / mean))
    return scores


def test_search_ranks_by_bm25() -> None:
    products = WebShopEnv().shop.catalogue.products
    documents = [product.search_text for product in products]
    index = SearchIndex(documents)
    terms = [search_terms(document) for document in documents]
    for query in ("copper kettle with a goose neck", "gift box students", "running shirts navy blue small"):
        scores = bm25(search_terms(query), terms)
        hits = index.search(query)
        assert len(hits) == 50
        ranked = [scores[hit] for hit in hits]
        assert all(high >= low - 1e-5 for high, low in itertools.pairwise(ranked))
        assert min(ranked) >= max(score for i, score in enumerate(scores) if i not in hits) - 1e-5


def test_search_sees_titles_descriptions_bullets_and_options_in_any_number_and_case() -> None:
    index = SearchIndex(["Oak table", "Pine chairs in red", "a box"])
    assert index.search("CHAIR") == (1,)
    assert index.search("tables, chairs") == (0, 1) or index.search("tables, chairs") == (1, 0)
    assert index.search("boxes") == (2,) or index.search("box") == (2,)
    assert SearchIndex(["", ""]).search("lamp") == ()
    product = next(p for p in WebShopEnv().shop.catalogue.products if p.options and p.bullets)
    option = next(iter(product.options.values()))[0]
    for part in (product.title, product.description, product.bullets[0], option):
        assert part in product.search_text


def test_a_word_of_one_letter_is_a_word_like_any_other() -> None:
    index = SearchIndex(["shirt in s", "shirt in m", "shirt"])
    assert index.search("S") == (0,)
    assert index.search("m shirts")[0] == 1
    for letter in string.ascii_lowercase:
        assert at().step(f"search[{letter}]")[4]["valid"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("aeisy' -1", min_size=1, max_size=4), min_size=1, max_size=4).map(" ".join))
def test_a_search_for_short_words_never_raises(query: str) -> None:
    for index in (WebShopEnv().shop.catalogue.index, SearchIndex(["as is", "yes s"])):
        assert len(index.search(query)) <= 50


def test_equally_good_hits_come_in_catalogue_order() -> None:
    assert SearchIndex(["red lamp", "chair", "red lamp", "red lamp"]).search("lamp") == (0, 2, 3)


def test_a_search_takes_about_a_millisecond_at_most() -> None:
    index = WebShopEnv().shop.catalogue.index
    started = time.perf_counter()
    for _ in range(200):
        index.search("waxed canvas backpack with a laptop sleeve for day hikes color black")
    assert (time.perf_counter() - started) / 200 < 0.02  # generous: a busy machine is no failure


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


def test_the_bounds_of_the_noun_approximation_hold_for_every_reading() -> None:
    """Brute force: each doubtful word is a noun or not, in each title on its own."""
    wanted = ("oak", "red", "washable", "lamp")
    for bought in (("oak", "red"), ("red", "soft"), ("washable", "red", "lamp"), ("sofa",)):
        scores = []
        for keep_wanted in itertools.product((True, False), repeat=len(wanted)):
            for keep_bought in itertools.product((True, False), repeat=len(bought)):
                w = tuple(x for x, keep in zip(wanted, keep_wanted, strict=True) if keep or narrow([x]))
                b = tuple(x for x, keep in zip(bought, keep_bought, strict=True) if keep or narrow([x]))
                scores.append(title_score(w, b))
        assert mixture_bounds(wanted, bought) == (min(scores), max(scores))
