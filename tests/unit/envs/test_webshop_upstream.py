"""The real catalogue of 1000 products: its counts, its goals, and purchases worked out by hand.

The files are not part of the project. `ACTFOCUS_WEBSHOP_DATA` names the directory that holds
`items_shuffle_1000.json` and `items_ins_v2_1000.json`; `../shared/webshop` beside the repository is
looked at otherwise.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from verl_actfocus.envs.webshop.env import WebShopEnv
from verl_actfocus.envs.webshop.expert import expert_action
from verl_actfocus.envs.webshop.goals import Shop, open_shop, resolve_prices
from verl_actfocus.envs.webshop.reward import purchase_reward

BESIDE_THE_REPOSITORY = Path(__file__).parents[4] / "shared" / "webshop"
DATA = Path(os.environ.get("ACTFOCUS_WEBSHOP_DATA", BESIDE_THE_REPOSITORY))
ITEMS, INSTRUCTIONS = DATA / "items_shuffle_1000.json", DATA / "items_ins_v2_1000.json"

pytestmark = pytest.mark.skipif(
    not ITEMS.exists(),
    reason="WebShop's products have no licence and cannot come with this project: download them (docs/webshop.md) and "
    f"set ACTFOCUS_WEBSHOP_DATA to their directory; there are none in {DATA}",
)


@pytest.fixture(scope="module")
def shop() -> Shop:
    return open_shop(ITEMS, INSTRUCTIONS)


def position(shop: Shop, asin: str) -> int:
    return next(i for i, product in enumerate(shop.catalogue.products) if product.asin == asin)


def test_the_catalogue_has_the_published_counts(shop: Shop) -> None:
    products = shop.catalogue.products
    assert len(products) == 1000
    assert sum(product.instruction is not None for product in products) == 415
    assert len(shop.goals) == 6910
    assert {name: len(part) for name, part in shop.splits.items()} == {
        "test": 500,
        "validation": 1000,
        "train": 5410,
    }


def test_the_splits_part_the_goals_and_do_not_depend_on_the_seed(shop: Shop) -> None:
    parts = [goal for part in shop.splits.values() for goal in part.tolist()]
    assert sorted(parts) == list(range(6910))
    other = open_shop(ITEMS, INSTRUCTIONS, catalogue_seed=1)
    for name, part in shop.splits.items():
        assert part.tolist() == other.splits[name].tolist()
        # A permutation, not a cut: the products of each split come from all over the catalogue.
        assert part.tolist() != sorted(part.tolist())
    assert [goal.options for goal in shop.goals] == [goal.options for goal in other.goals]


def test_option_values_are_lower_case_with_spaced_bars_for_slashes(shop: Shop) -> None:
    listed = [
        entry["value"]
        for item in json.loads(ITEMS.read_text(encoding="utf-8"))
        for entries in item["customization_options"].values()
        for entry in entries or []
    ]
    values = [v for p in shop.catalogue.products for vs in p.options.values() for v in vs]
    assert len(values) == len(listed)
    assert all(value == value.lower() and "/" not in value for value in values)
    assert sum(v.count(" | ") for v in values) == sum(v.count("/") for v in listed) > 0
    assert [v.replace(" ", "") for v in values] == [v.lower().replace(" ", "").replace("/", "|") for v in listed]


def test_prices_are_single_prices_or_lie_within_the_listed_range(shop: Shop) -> None:
    ranges = [product.price_range for product in shop.catalogue.products]
    assert sum(low != high for low, high in ranges) == 93
    for (low, high), price in zip(ranges, shop.prices, strict=True):
        assert low <= price <= high
    # Uniform over the range: the mean of 93 places in [0, 1] is within 4 standard errors of 1/2.
    places = [
        (price - low) / (high - low) for (low, high), price in zip(ranges, shop.prices, strict=True) if low < high
    ]
    assert abs(sum(places) / 93 - 0.5) < 4 / math.sqrt(12 * 93)
    assert resolve_prices(shop.catalogue.products, seed=0) == shop.prices
    assert resolve_prices(shop.catalogue.products, seed=1) != shop.prices


def test_price_limits_are_two_draws_from_the_next_four_multiples_of_ten(shop: Shop) -> None:
    ranks: Counter[int] = Counter()
    for goal in {goal.product: goal for goal in shop.goals}.values():
        price = shop.prices[goal.product]
        above = [10.0 * n for n in range(1, 100) if 10.0 * n > price][:4]
        if len(above) < 2:
            assert goal.price_limit == math.inf
            assert "price" not in goal.instruction
            continue
        assert goal.instruction.endswith(f", and price lower than {goal.price_limit:.2f} dollars")
        ranks[above.index(goal.price_limit)] += 1
    # The larger of two of four is never the lowest, and the 2nd, 3rd, 4th in 1, 2, 3 of 6 cases.
    total = sum(ranks.values())
    assert ranks[0] == 0
    for rank, share in ((1, 1 / 6), (2, 2 / 6), (3, 3 / 6)):
        assert abs(ranks[rank] / total - share) < 4 * math.sqrt(share * (1 - share) / total)


def test_goal_texts_name_the_options_in_order(shop: Shop) -> None:
    # Both options of this product are asked for, sorted by name: color before size.
    origin = position(shop, "B099FKK27G")
    goal = next(g for g in shop.goals if g.product == origin)
    stated = goal.instruction.partition(" with color: ")[2]
    assert stated.startswith("black multi, and size: small, and price lower than ")


def test_weights_are_the_mean_rarity_of_a_goals_attributes(shop: Shop) -> None:
    for goal in random.Random(0).sample(shop.goals, 30):
        carriers = [sum(attribute in other.attributes for other in shop.goals) for attribute in goal.attributes]
        mean = sum(1 / count for count in carriers) / len(carriers)
        assert goal.weight == pytest.approx(mean, rel=1e-12)


def test_buying_what_a_goal_was_made_from_is_always_worth_exactly_one(shop: Shop) -> None:
    for goal in shop.goals:
        wanted = shop.catalogue.products[goal.product]
        chosen = list(goal.options.values())
        assert purchase_reward(goal, wanted, wanted, shop.prices[goal.product], chosen).total == 1.0


# Wanted product, wanted options (None: the first goal's), bought product, chosen values, reward.
# Title scores are shared words / words of the wanted title, function words and numbers left out.
PURCHASES = [
    # 1. The product itself, without options: 1 * (2 + 0 + 1) / (2 + 0 + 1).
    ("B01N9I1E62", None, "B01N9I1E62", [], Fraction(1)),
    # 2. Same query. It has "faux fur" but no rubber sole; at most $33.39, and the limit is at least the
    #    second multiple of ten above 24.99, $40: 1 * (1 + 0 + 1) / 3.
    ("B01N9I1E62", None, "B099FKK27G", [], Fraction(2, 3)),
    # 3. The other way about: "faux fur" but neither "anti slip" nor "non slip", none of the two options,
    #    cheaper: 1 * (1 + 0 + 1) / (3 + 2 + 1).
    ("B099FKK27G", None, "B01N9I1E62", [], Fraction(1, 3)),
    # 4. Another query; 3 category levels shared, title 1/6. Rubber sole, no faux fur; at least $78.42, and
    #    the limit is at most the fourth multiple above 24.99, $60: 1 * (1 + 0 + 0) / 3.
    ("B01N9I1E62", None, "B002RRT0NM", [], Fraction(1, 3)),
    # 5. Another query, 2 category levels shared, but no word of the title: 0.
    ("B0821674CT", None, "B002RRT0NM", [], Fraction(0)),
    # 6. Same query and category, but no word of the title ("womens" is not "women's"): 0.
    ("B07MNW91JH", None, "B06W51MMKY", [], Fraction(0)),
    # 7. Another query, 1 level shared, 1 of 8 title words ("ounce"): 0.5. "gluten free" stands in the
    #    description only, "0g trans" nowhere; $100 is below the limit: 0.5 * (1 + 0 + 1) / 3.
    ("B002C56QX6", None, "B07BBQDRDR", [], Fraction(1, 3)),
    # 8. Another query, no category at all, but 2 of 6 title words ("men", "fleece"): 1. One attribute of
    #    two, cheaper: 1 * (1 + 0 + 1) / 3.
    ("B07V3WXX85", None, "B07FD13LP1", [], Fraction(2, 3)),
    # 9. 3 category levels shared, but 1 of 12 title words ("queen"): 0.1. One attribute of two; $565.71
    #    is above any limit for a product of $100: 0.1 * (1 + 0 + 0) / 3.
    ("B071S7GPMS", None, "B01A0L5FXA", [], Fraction(1, 30)),
    # 10. Unrelated, 1 of 11 title words ("antique"): 0.1. Two of three attributes, both in running text
    #     only; $100, where the limit is at least the second multiple above 89.99, $100 itself:
    #     0.1 * (2 + 0 + 1) / 4.
    ("B0873B8Y7P", None, "B07N33BPQ6", [], Fraction(3, 40)),
    # 11.-13. The product itself with no, one and both options right: (3 + n + 1) / (3 + 2 + 1).
    ("B099FKK27G", ["black multi", "small"], "B099FKK27G", ["other white", "large"], Fraction(4, 6)),
    ("B099FKK27G", ["black multi", "small"], "B099FKK27G", ["small"], Fraction(5, 6)),
    ("B099FKK27G", ["black multi", "small"], "B099FKK27G", ["small", "black multi"], Fraction(1)),
    # 14. "xx-large" counts as "large": the words of one are among those of the other.
    ("B08226NDZW", ["black", "men", "large"], "B08226NDZW", ["men", "black", "xx-large"], Fraction(1)),
    # 15. Same query, 2 of 8 title words; all attributes but one of seven, all options, cheaper:
    #     1 * (6 + 3 + 1) / (7 + 3 + 1).
    ("B08226NDZW", ["black", "men", "large"], "B09RVF4JP1", ["men", "black", "large"], Fraction(10, 11)),
    # 16. The bought product has no name, hence no title noun to share: 0.
    ("B01N4JDM7G", None, "B09P71WY8C", [], Fraction(0)),
]


@pytest.mark.parametrize(("wanted", "options", "bought", "chosen", "expected"), PURCHASES)
@pytest.mark.parametrize("catalogue_seed", [0, 1])
def test_purchases_are_worth_what_they_are_by_hand(
    wanted: str,
    options: list[str] | None,
    bought: str,
    chosen: list[str],
    expected: Fraction,
    catalogue_seed: int,
) -> None:
    shop = open_shop(ITEMS, INSTRUCTIONS, catalogue_seed)
    origin, place = position(shop, wanted), position(shop, bought)
    goal = next(
        g for g in shop.goals if g.product == origin and (options is None or list(g.options.values()) == options)
    )
    products = shop.catalogue.products
    reward = purchase_reward(goal, products[goal.product], products[place], shop.prices[place], chosen).total
    assert reward == pytest.approx(float(expected), abs=1e-12)


def test_every_page_of_every_product_is_short_and_within_the_observation_space() -> None:
    env = WebShopEnv(ITEMS, INSTRUCTIONS)
    longest = 0
    for place, product in enumerate(env.shop.catalogue.products):
        env.reset(seed=0, options={"goal": place})
        env.step(f"search[{product.title or product.query}]")
        page = f"click[{product.asin}]"
        pages = [env.render()]
        while page.lower() not in env.legal_actions() and "click[next >]" in env.legal_actions():
            pages.append(env.step("click[next >]")[0])
        if page.lower() in env.legal_actions():
            pages.append(env.step(page)[0])
            for detail in ("description", "features", "reviews"):
                pages.append(env.step(f"click[{detail}]")[0])
                env.step("click[< prev]")
        assert all(text in env.observation_space for text in pages)
        longest = max(longest, *map(len, pages))
    assert longest < 4000  # about 1000 tokens; App. C gives nine turns 8192 together


def test_search_finds_products_by_their_titles_and_loads_and_runs_fast(shop: Shop) -> None:
    started = time.perf_counter()
    ranks = [shop.catalogue.index.search(product.title) for product in shop.catalogue.products]
    seconds = (time.perf_counter() - started) / 1000
    found_first = sum(bool(hits) and hits[0] == place for place, hits in enumerate(ranks))
    assert found_first > 950
    assert max(map(len, ranks)) == 50
    assert seconds < 0.02


def test_the_expert_buys_always_and_right_mostly() -> None:
    env = WebShopEnv(ITEMS, INSTRUCTIONS)
    strict = 0
    for seed in range(100):
        env.reset(seed=seed)
        for _ in range(9):
            _, _, terminated, _, info = env.step(expert_action(env))
            assert info["valid"]
            if terminated:
                break
        assert info["purchase"]
        strict += info["strict_success"]
    assert strict >= 75
