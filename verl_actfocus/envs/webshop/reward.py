"""The reward of a purchase: how well the bought product, its options and its price meet a goal.

`r = r_type * (n_attr + n_opt + 1[price <= limit]) / (|attributes| + |options| + 1)` (Yao et al. 2022;
He et al. 2026, App. C). Everything is as in the original environment except its part-of-speech tagger:
the original takes the nouns of a title from spaCy, here every content word of a title counts as a noun
(see `title_nouns`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rapidfuzz.fuzz import token_set_ratio
from rapidfuzz.utils import default_process

from verl_actfocus.envs.webshop.goals import Goal
from verl_actfocus.envs.webshop.product import Product
from verl_actfocus.envs.webshop.text import FUNCTION_WORDS, words

MATCH_ABOVE = 85
SHARED_CATEGORY_LEVELS = 2
TITLE_SCORE_RELATED = 0.2
TITLE_SCORE_FAR = 0.1
TITLE_SCORE_WITHOUT_NOUNS = 0.2

# Colour words that option values are reduced to: the plain colours, then shades; and other spellings. The
# earliest in the list that a value contains stands for it, so "navy blue" is blue and "navy" is navy.
_COLOUR_WORDS = """
black blue brown gold green grey orange pink purple red silver white yellow
apricot aqua beige bronze burgundy camel champagne charcoal copper coral cream cyan indigo ivory khaki
lavender lilac lime magenta maroon mint mustard navy olive peach rose tan taupe teal turquoise violet wine
"""
_COLOURS = _COLOUR_WORDS.split()
_SPELLINGS = {"gray": "grey", "golden": "gold"}
_LETTERS = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class PurchaseReward:
    """The parts of a purchase's reward.

    Attributes:
        type_factor: `r_type`: 1, 0.5, 0.1 or 0.
        attributes_met: Wanted attributes that the bought product has.
        options_met: Wanted options that were chosen.
        price_met: Whether the price is within the limit.
        conditions: Number of attributes, options and the price: the denominator.
    """

    type_factor: float
    attributes_met: int
    options_met: int
    price_met: bool
    conditions: int

    @property
    def total(self) -> float:
        """The reward, in [0, 1]."""
        return self.type_factor * (self.attributes_met + self.options_met + self.price_met) / self.conditions


def purchase_reward(
    goal: Goal, wanted: Product, bought: Product, price: float, chosen: Sequence[str]
) -> PurchaseReward:
    """Judge a purchase.

    Args:
        goal: What was asked for.
        wanted: The product that the goal was made from.
        bought: The product that was bought.
        price: Its price in dollars.
        chosen: The chosen option values.

    Returns:
        The reward's parts; `.total` is the reward.
    """
    return PurchaseReward(
        type_factor=type_factor(wanted, bought),
        attributes_met=sum(has_attribute(bought, attribute) for attribute in goal.attributes),
        options_met=options_met(goal.options, chosen),
        price_met=price <= goal.price_limit,
        conditions=len(goal.attributes) + len(goal.options) + 1,
    )


def matches(left: str, right: str) -> bool:
    """Return whether two phrases mean the same by the token-set ratio, on the scale 0 to 100.

    RapidFuzz 3 compares the strings as they are unless told otherwise; the original's library first
    lower-cases them and turns punctuation into spaces, and rounds the ratio. Both are done here.

    Example:
        >>> matches("xx-large", "Large"), matches("easy clean", "easy carry")
        (True, False)
    """
    return round(token_set_ratio(left, right, processor=default_process)) > MATCH_ABOVE


def has_attribute(product: Product, attribute: str) -> bool:
    """Return whether a product has an attribute: among its attributes, else in the words of its page."""
    if any(matches(attribute, known) for known in product.attributes):
        return True
    return any(attribute.lower() in text for text in product.reward_texts)


def normalise_colour(value: str) -> str:
    """Reduce an option value that contains a colour word to that word; other values stay as they are.

    Example:
        >>> [normalise_colour(value) for value in ("a2-dark gray", "navy blue", "tiered", "10 x 12")]
        ['grey', 'blue', 'tiered', '10 x 12']
    """
    found = {_SPELLINGS.get(word, word) for word in _LETTERS.findall(value)}
    return next((colour for colour in _COLOURS if colour in found), value)


def options_met(wanted: Mapping[str, str], chosen: Sequence[str]) -> int:
    """Return how many wanted options match any of the chosen values, after colour names are normalised."""
    have = [normalise_colour(value) for value in chosen]
    return sum(any(matches(normalise_colour(want), value) for value in have) for want in wanted.values())


@lru_cache(maxsize=100_000)
def title_nouns(title: str) -> tuple[str, ...]:
    """Return the words of a title that count as its nouns, in order, repetitions included.

    An approximation: every word that contains a letter and is not a function word. Shop titles are
    strings of capitalised words, most of which spaCy calls (proper) nouns, adjectives among them;
    `tools.webshop.measure_nouns` reports how much that simplification matters.

    Example:
        >>> title_nouns("Women's Red Leather Boots, Size 8, for Winter")
        ('women', 'red', 'leather', 'boots', 'size', 'winter')
    """
    return tuple(w for w in words(title) if w not in FUNCTION_WORDS and not w.isdigit())


def title_score(wanted: Sequence[str], bought: Sequence[str]) -> float:
    """Return the share of the wanted title's nouns that the bought title has.

    Args:
        wanted: Nouns of the goal's title. As in the original, repetitions lengthen the denominator
            although a shared noun counts once.
        bought: Nouns of the bought product's title.

    Returns:
        A share in [0, 1]; 0.2 where the wanted title has no noun.
    """
    if not wanted:
        return TITLE_SCORE_WITHOUT_NOUNS
    return len(set(wanted) & set(bought)) / len(wanted)


def related_listing(wanted: Product, bought: Product) -> bool:
    """Return whether two products share the query they were listed under, or two category levels."""
    shared = set(wanted.category) & set(bought.category)
    return wanted.query == bought.query or len(shared) >= SHARED_CATEGORY_LEVELS


def type_factor_of(score: float, related: bool) -> float:
    """Return `r_type` from a title score and whether the listings are related.

    A title score below 0.1 overrides a related listing: 0.1, or 0 when no noun is shared.
    """
    if score == 0.0:
        return 0.0
    if score < TITLE_SCORE_FAR:
        return 0.1
    return 1.0 if related or score > TITLE_SCORE_RELATED else 0.5


def type_factor(wanted: Product, bought: Product) -> float:
    """Return `r_type`: whether the bought product is of the wanted kind at all (1, 0.5, 0.1 or 0)."""
    score = title_score(title_nouns(wanted.title), title_nouns(bought.title))
    return type_factor_of(score, related_listing(wanted, bought))
