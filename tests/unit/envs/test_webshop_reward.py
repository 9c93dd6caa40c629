"""The reward, part by part, against numbers worked out by hand on made-up products."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import pytest

from tools.webshop.measure_nouns import mixture_bounds, narrow
from verl_actfocus.envs.webshop.goals import Goal
from verl_actfocus.envs.webshop.product import Product
from verl_actfocus.envs.webshop.reward import (
    has_attribute,
    matches,
    normalise_colour,
    options_met,
    purchase_reward,
    title_nouns,
    title_score,
    type_factor,
)


def product(**fields: Any) -> Product:
    defaults: dict[str, Any] = {
        "asin": "A1",
        "title": "Red Lamp",
        "query": "lamps",
        "category": ("Home", "Light"),
        "description": "",
        "bullets": (),
        "price_range": (10.0, 10.0),
        "options": {},
        "attributes": (),
        "rating": "",
        "instruction": None,
        "instruction_attributes": (),
    }
    return Product(**{**defaults, **fields})


def goal(
    attributes: tuple[str, ...] = ("easy clean",), options: dict[str, str] | None = None, limit: float = 20.0
) -> Goal:
    return Goal(0, "find it", attributes, options or {}, limit, weight=1.0)


# A goal title of ten nouns, so that n shared words are a score of n / 10.
TEN = "alpha bravo charlie delta echo foxtrot golf hotel india juliet"
# Eleven nouns: one shared word is 1 / 11 < 0.1.
ELEVEN = TEN + " kilo"


@pytest.mark.parametrize(
    ("wanted_title", "bought_title", "same_query", "shared_levels", "expected"),
    [
        (TEN, "alpha bravo charlie", False, 0, 1.0),  # 0.3 > 0.2
        (TEN, "alpha bravo", False, 0, 0.5),  # 0.2 is not above 0.2
        (TEN, "alpha bravo", True, 0, 1.0),  # the query makes up for it
        (TEN, "alpha bravo", False, 2, 1.0),  # so do two category levels
        (TEN, "alpha bravo", False, 1, 0.5),  # one level does not
        (TEN, "alpha", False, 0, 0.5),  # 0.1 is not below 0.1
        (TEN, "alpha", True, 2, 1.0),
        (ELEVEN, "alpha", False, 0, 0.1),  # 1/11 < 0.1
        (ELEVEN, "alpha", True, 2, 0.1),  # which overrides a related listing
        (TEN, "zulu", False, 0, 0.0),
        (TEN, "zulu", True, 2, 0.0),  # nothing shared overrides everything
        (TEN, "", True, 2, 0.0),
        ("", TEN, False, 0, 0.5),  # no nouns: 0.2, neither above 0.2 nor below 0.1
        ("3 of the 5", TEN, True, 0, 1.0),  # numbers and function words are no nouns
    ],
)
def test_type_factor_in_every_branch(
    wanted_title: str, bought_title: str, same_query: bool, shared_levels: int, expected: float
) -> None:
    levels = ("Home", "Light", "Desk")
    wanted = product(title=wanted_title, query="lamps", category=levels)
    bought = product(
        title=bought_title,
        query="lamps" if same_query else "chairs",
        # In another order and beside other levels: only how many are shared matters.
        category=(*reversed(levels[:shared_levels]), "Other"),
    )
    assert type_factor(wanted, bought) == expected


def test_repeated_nouns_lengthen_only_the_denominator() -> None:
    # lamp, oak, lamp, lamp: four nouns, of which the other title shares one kind.
    assert title_score(title_nouns("Lamp Oak Lamp Lamp"), title_nouns("Lamp")) == 1 / 4


def test_title_nouns_are_the_content_words_of_a_title() -> None:
    nouns = title_nouns("Women's Slip-On Shoes, Size 8, with Box of 2XL Laces")
    assert nouns == ("women", "slip", "shoes", "size", "box", "2xl", "laces")


@pytest.mark.parametrize(
    ("bought", "expected"),
    [
        (product(attributes=("easy clean",)), True),
        (product(attributes=("clean and easy",)), True),  # a superset of the words: ratio 100
        (product(attributes=("easy cleaning",)), True),  # 2 * 10 / (10 + 13) = 0.87
        (product(attributes=("easy carry",)), False),  # 2 * 7 / (10 + 10) = 0.70
        (product(title="An EASY CLEAN lamp"), True),
        (product(bullets=("bright", "Easy clean")), True),
        (product(bullets=("is easy", "clean lines")), True),  # bullet points are joined by a space
        (product(description="so easy cleaning is"), True),
        (product(description="easy to clean"), False),  # in texts only the very words count
    ],
)
def test_an_attribute_counts_by_likeness_or_by_its_words_on_the_page(bought: Product, expected: bool) -> None:
    assert has_attribute(bought, "easy clean") is expected


def test_the_token_set_ratio_ignores_case_and_punctuation_and_is_compared_with_85_of_100() -> None:
    assert matches("XX-Large", "large")  # {large} is a subset of {xx, large}
    assert matches("x-large", "xx-large")  # "large x" to "large xx": 2 * 7 / (7 + 8) = 0.93
    assert not matches("small", "large")
    assert not matches("abcdefg", "abcdexy")  # 2 * 5 / 14 = 0.71


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("navy", "navy"),
        ("royal blue", "blue"),
        ("navy blue", "blue"),  # plain colours before shades
        ("rose gold", "gold"),
        ("a1-blue", "blue"),
        ("2005brown", "brown"),
        ("dark gray", "grey"),
        ("black | gold", "black"),
        ("gold | black", "black"),  # the order of the words does not matter
        ("tired of stored hues", "tired of stored hues"),  # "red" inside words is no colour
        ("10 x 12 inch", "10 x 12 inch"),
    ],
)
def test_option_values_are_reduced_to_a_colour_word(value: str, expected: str) -> None:
    assert normalise_colour(value) == expected


@pytest.mark.parametrize(
    ("wanted", "chosen", "expected"),
    [
        ({}, [], 0),
        ({}, ["red"], 0),
        ({"color": "red"}, [], 0),
        ({"color": "dark red"}, ["light red"], 1),  # both are "red"
        ({"color": "red", "size": "small"}, ["small"], 1),
        ({"color": "red", "size": "small"}, ["small", "blue"], 1),
        ({"color": "red", "size": "small"}, ["small", "red"], 2),
        ({"frame": "red", "shade": "red"}, ["red"], 2),  # against any chosen value, whatever its name
    ],
)
def test_options_count_against_any_chosen_value(wanted: dict[str, str], chosen: list[str], expected: int) -> None:
    assert options_met(wanted, chosen) == expected


LAMP = product(title="Oak Lamp", attributes=("easy clean", "dimmable"))
CHAIR = product(title="Oak Chair Plain Soft Wide", query="chairs", category=("Sit",), attributes=("dimmable",))


@pytest.mark.parametrize(
    ("asked", "wanted", "bought", "price", "chosen", "expected"),
    [
        # 1 * (2 attributes + 1 option + price) / (2 + 1 + 1)
        (goal(("easy clean", "dimmable"), {"color": "red"}), LAMP, LAMP, 20.0, ["red"], Fraction(1)),
        # a cent above the limit: 1 * (2 + 1 + 0) / 4
        (goal(("easy clean", "dimmable"), {"color": "red"}), LAMP, LAMP, 20.01, ["red"], Fraction(3, 4)),
        # the option forgotten: 1 * (2 + 0 + 1) / 4
        (goal(("easy clean", "dimmable"), {"color": "red"}), LAMP, LAMP, 5.0, [], Fraction(3, 4)),
        # title 1/2 shared, 1 attribute of 2, no option asked for, price met: 1 * (1 + 0 + 1) / 3
        (goal(("easy clean", "dimmable")), LAMP, CHAIR, 5.0, ["red"], Fraction(2, 3)),
        # the other way about: 1/5 = 0.2 of the title, unrelated: 0.5 * (1 + 0 + 1) / 2
        (goal(("dimmable",)), CHAIR, LAMP, 5.0, [], Fraction(1, 2)),
        # no limit: any price is met: 1 * (1 + 0 + 1) / 2
        (goal(limit=math.inf), LAMP, LAMP, 99999.0, [], Fraction(1)),
        # nothing of the title: 0 * (1 + 0 + 1) / 2
        (goal(("dimmable",)), LAMP, product(title="Sofa", attributes=("dimmable",)), 5.0, [], Fraction(0)),
    ],
)
def test_the_reward_is_the_type_factor_times_the_share_of_met_conditions(
    asked: Goal, wanted: Product, bought: Product, price: float, chosen: list[str], expected: Fraction
) -> None:
    reward = purchase_reward(asked, wanted, bought, price, chosen).total
    assert reward == pytest.approx(float(expected), abs=1e-12)
    assert (reward >= 1) == (expected == 1)


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
