"""Synthetic goals: what shoppers ask for, how often, and which goals are kept for evaluation.

Facts of the original environment (Yao et al. 2022): every product that carries an instruction yields
one goal for each combination of its options; the instruction names the options and a price limit.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations, product
from pathlib import Path
from threading import Lock

import numpy as np

from verl_actfocus.envs.webshop.catalogue import Catalogue, load_catalogue
from verl_actfocus.envs.webshop.product import Product

TEST_GOALS = 500
VALIDATION_GOALS = 1000
SPLITS = ("train", "validation", "test")
HITS_PER_PAGE = 10  # the original's
# Price limits are multiples of 10 dollars; two of the four lowest above the price are drawn.
PRICE_LIMITS = tuple(10.0 * step for step in range(1, 100))
PRICE_LIMIT_CANDIDATES = 4
# Fixes the permutation behind the splits, whatever the seed of the prices: a goal never changes sides.
_SPLIT_SEED = 20220704


@dataclass(frozen=True)
class Goal:
    """What one episode asks for.

    Attributes:
        product: Position of the wanted product in the catalogue.
        instruction: The text that the shopper reads.
        attributes: Attributes that the instruction asks for.
        options: Option name to wanted value.
        price_limit: Highest acceptable price in dollars; infinite where the text states none.
        weight: How often the goal is drawn, relative to the others of its split.
    """

    product: int
    instruction: str
    attributes: tuple[str, ...]
    options: Mapping[str, str]
    price_limit: float
    weight: float


@dataclass(frozen=True, eq=False)
class Shop:
    """A catalogue with its prices and goals fixed: everything that sessions share.

    Attributes:
        catalogue: Products and search index.
        prices: Price in dollars of each product, its range resolved.
        goals: Every synthetic goal, in catalogue order.
        splits: Split name to positions in `goals`.
        thresholds: Split name to the cumulative share of the goals' weights, for drawing.
        hits_per_page: How many products a page of results lists.
    """

    catalogue: Catalogue
    prices: tuple[float, ...]
    goals: tuple[Goal, ...]
    splits: Mapping[str, np.ndarray]
    thresholds: Mapping[str, np.ndarray]
    hits_per_page: int = HITS_PER_PAGE

    def draw(self, split: str, uniform: float) -> int:
        """Return the goal that a uniform number in [0, 1) selects from a split, in proportion to the weights.

        Returns:
            A position in `goals`.
        """
        place = int(np.searchsorted(self.thresholds[split], uniform, side="right"))
        return int(self.splits[split][min(place, len(self.splits[split]) - 1)])


_OPENING = Lock()


def open_shop(
    items_path: str | Path | None = None,
    instructions_path: str | Path | None = None,
    catalogue_seed: int = 0,
) -> Shop:
    """Load a catalogue, resolve its prices and build its goals; cached per process.

    Args:
        items_path: As in `load_catalogue`.
        instructions_path: As in `load_catalogue`.
        catalogue_seed: Seeds the prices of products that list a range and the goals' price limits.
            It belongs to the shop, not to the episode: sessions with the same seed share one shop,
            and those with different seeds still share the catalogue and its index.

    Returns:
        The shop.

    Raises:
        ValueError: The catalogue is malformed or no product carries an instruction.
    """
    catalogue = load_catalogue(items_path, instructions_path)
    with _OPENING:
        return _open(catalogue, catalogue_seed)


@lru_cache(maxsize=8)
def _open(catalogue: Catalogue, catalogue_seed: int) -> Shop:
    prices = resolve_prices(catalogue.products, catalogue_seed)
    goals = synthetic_goals(catalogue.products, prices, catalogue_seed)
    if not goals:
        raise ValueError(
            f"none of the {len(catalogue.products)} products carries an instruction, so there is no goal; "
            "check that the instructions file belongs to the items file"
        )
    splits = split_goals(len(goals))
    thresholds = {name: _cumulative([goals[i].weight for i in part]) for name, part in splits.items()}
    return Shop(catalogue, prices, goals, splits, thresholds)


def _cumulative(weights: Sequence[float]) -> np.ndarray:
    total = np.cumsum(np.asarray(weights, dtype=np.float64))
    return total / total[-1] if len(total) else total


def _generator(purpose: str, seed: int, asin: str) -> random.Random:
    """Return a generator of one product's own, so that no draw depends on the rest of the catalogue."""
    return random.Random(f"{purpose}/{seed}/{asin}")


def resolve_prices(products: Sequence[Product], seed: int) -> tuple[float, ...]:
    """Draw the price of each product uniformly from its range, rounded to cents.

    Args:
        products: The catalogue's products.
        seed: The shop's seed.

    Returns:
        Prices in dollars, by position; a product with a single price keeps it.
    """
    prices: list[float] = []
    for item in products:
        low, high = item.price_range
        if low < high:
            low = round(low + (high - low) * _generator("price", seed, item.asin).random(), 2)
        prices.append(low)
    return tuple(prices)


def price_limit(asin: str, price: float, seed: int) -> float:
    """Return the larger of two draws, without replacement, from the four lowest limits above the price.

    Args:
        asin: Product id; with the seed it determines the draw.
        price: The product's price in dollars.
        seed: The shop's seed.

    Returns:
        The limit in dollars; infinite where fewer than two limits lie above the price.
    """
    candidates = [limit for limit in PRICE_LIMITS if limit > price][:PRICE_LIMIT_CANDIDATES]
    pairs = list(combinations(candidates, 2))
    if not pairs:
        return math.inf
    return max(pairs[int(_generator("limit", seed, asin).random() * len(pairs))])


def synthetic_goals(products: Sequence[Product], prices: Sequence[float], seed: int) -> tuple[Goal, ...]:
    """Build the goals: every product with an instruction times every combination of its options.

    Args:
        products: The catalogue's products.
        prices: Their prices in dollars, by position.
        seed: The shop's seed, for the price limits.

    Returns:
        The goals with their weights: the mean over a goal's attributes of 1 / (how many goals carry
        that attribute), so that a product with hundreds of combinations is not asked for hundreds of
        times as often.
    """
    goals: list[Goal] = []
    for position, item in enumerate(products):
        if item.instruction is None:
            continue
        limit = price_limit(item.asin, prices[position], seed)
        names = sorted(item.options)
        for values in product(*(item.options[name] for name in names)):
            options = dict(zip(names, values, strict=True))
            text = _instruction_text(item.instruction, options, limit)
            goals.append(Goal(position, text, item.instruction_attributes, options, limit, weight=0.0))
    carriers = Counter(attribute for goal in goals for attribute in goal.attributes)
    return tuple(
        replace(goal, weight=sum(1 / carriers[a] for a in goal.attributes) / len(goal.attributes)) for goal in goals
    )


def _instruction_text(instruction: str, options: Mapping[str, str], limit: float) -> str:
    wanted = ", and ".join(f"{name}: {value}" for name, value in options.items())
    return (
        instruction
        + (f" with {wanted}" if wanted else "")
        + (f", and price lower than {limit:.2f} dollars" if limit < math.inf else "")
    )


def split_goals(count: int) -> dict[str, np.ndarray]:
    """Permute the goals and cut the permutation: test 500, validation 1000, the rest train.

    Args:
        count: Number of goals.

    Returns:
        Split name to positions, int64. With fewer than 1501 goals the train split is empty.

    Example:
        >>> {name: len(part) for name, part in split_goals(6910).items()}
        {'test': 500, 'validation': 1000, 'train': 5410}
    """
    generator = random.Random(_SPLIT_SEED)
    # Sorting by `random()` rather than `shuffle()`: only the former's stream is promised never to change.
    keys = [generator.random() for _ in range(count)]
    order = np.asarray(sorted(range(count), key=keys.__getitem__), dtype=np.int64)
    held_out = TEST_GOALS + VALIDATION_GOALS
    return {
        "test": order[:TEST_GOALS],
        "validation": order[TEST_GOALS:held_out],
        "train": order[held_out:],
    }
