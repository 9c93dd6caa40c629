"""Reading catalogues: what is accepted, what is refused and how, what is shared, what is shipped."""

from __future__ import annotations

import copy
import gzip
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tools.webshop import generate_catalogue
from verl_actfocus.envs.base import EpisodeLimits
from verl_actfocus.envs.webshop.catalogue import EMBEDDED_INSTRUCTIONS, EMBEDDED_ITEMS, load_catalogue
from verl_actfocus.envs.webshop.env import WebShopEnv
from verl_actfocus.envs.webshop.expert import expert_action
from verl_actfocus.envs.webshop.goals import open_shop
from verl_actfocus.episodes import Episode, write_response

ITEM: dict[str, Any] = {
    "asin": "K100",
    "name": "Oak Lamp",
    "query": " Desk Lamps ",
    "product_category": "Home \u203a Light",
    "full_description": "A lamp.",
    "small_description": ["Dimmable", "Quiet"],
    "pricing": "$12.5",
    "customization_options": {"Color": [{"value": "Red/White"}, {"value": " Blue "}], "Size": None},
    "average_rating": 4.0,
}
INSTRUCTIONS: dict[str, Any] = {
    "K100": {"attributes": ["dimmable"], "instruction": "A lamp", "instruction_attributes": ["dimmable"]}
}


def write(directory: Path, items: Any, instructions: Any = None) -> tuple[Path, Path]:
    paths = directory / "items.json", directory / "instructions.json"
    for path, data in zip(paths, (items, INSTRUCTIONS if instructions is None else instructions), strict=True):
        path.write_text(json.dumps(data), encoding="utf-8")
    return paths


def changed(**fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(ITEM), **fields}


def without(field: str) -> dict[str, Any]:
    return {key: value for key, value in ITEM.items() if key != field}


def test_a_product_is_read_with_the_normalisations_of_the_original(tmp_path: Path) -> None:
    (product,) = load_catalogue(*write(tmp_path, [ITEM])).products
    assert product.query == "desk lamps"
    assert product.category == ("Home", "Light")
    assert product.options == {"color": ("red | white", "blue")}  # an option without values is left out
    assert product.price_range == (12.5, 12.5)
    assert product.rating == "4"


@pytest.mark.parametrize(
    ("pricing", "expected"),
    [
        ("$12.5", (12.5, 12.5)),
        ("$1,234.00", (1234.0, 1234.0)),
        ("$5.0 to $7.5", (5.0, 7.5)),
        ("$7.5 to $5.0", (5.0, 7.5)),  # upstream lists some ranges the wrong way round
        ("$5.0 - $7.5", (5.0, 7.5)),
        ("", (100.0, 100.0)),
        (None, (100.0, 100.0)),
    ],
)
def test_prices_and_price_ranges_are_read(tmp_path: Path, pricing: str | None, expected: tuple[float, float]) -> None:
    (product,) = load_catalogue(*write(tmp_path, [changed(pricing=pricing)])).products
    assert product.price_range == expected


def test_a_product_without_price_counts_as_100_dollars(tmp_path: Path) -> None:
    (product,) = load_catalogue(*write(tmp_path, [without("pricing")])).products
    assert product.price_range == (100.0, 100.0)


def test_a_lone_bullet_point_may_be_a_string(tmp_path: Path) -> None:
    (product,) = load_catalogue(*write(tmp_path, [changed(small_description="Dimmable")])).products
    assert product.bullets == ("Dimmable",)


REQUIRED = (
    "asin",
    "name",
    "query",
    "product_category",
    "full_description",
    "small_description",
    "customization_options",
)


@pytest.mark.parametrize("field", REQUIRED)
def test_a_missing_field_is_named_with_its_record(tmp_path: Path, field: str) -> None:
    paths = write(tmp_path, [ITEM | {"asin": "K099"}, without(field)])
    with pytest.raises(ValueError, match=rf"items\.json: product 1.*field '{field}' is missing; add it"):
        load_catalogue(*paths)


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"asin": ""}, ["product 0", "'asin'", "is empty"]),
        ({"asin": 7}, ["product 0", "'asin'", "= 7 is not a string"]),
        ({"name": None}, ["asin K100", "'name'", "= None is not a string"]),
        ({"pricing": "cheap"}, ["asin K100", "'pricing'", "= 'cheap' is not a price", "$12.5 to $20.0"]),
        ({"pricing": "$-3"}, ["asin K100", "'pricing'", "'$-3'"]),
        ({"pricing": "$1 to $2 to $3"}, ["asin K100", "'pricing'"]),
        ({"pricing": 12.5}, ["asin K100", "'pricing'", "= 12.5 is not a string"]),
        ({"small_description": [1]}, ["asin K100", "'small_description'", "[1]", "list of strings"]),
        ({"customization_options": []}, ["asin K100", "'customization_options'", "= []", '"value"']),
        ({"customization_options": {"Color": []}}, ["asin K100", "['Color'] = []"]),
        ({"customization_options": {"Color": ["red"]}}, ["asin K100", "['Color']", "'red'"]),
        (
            {"customization_options": {"Color": [{"value": " "}]}},
            ["asin K100", "['Color']", "{'value': ' '}"],
        ),
        (
            {"customization_options": {"Size": [{"value": "s"}], "size": [{"value": "m"}]}},
            ["asin K100", "'size' twice"],
        ),
        ({"average_rating": [5]}, ["asin K100", "'average_rating'", "[5]"]),
    ],
)
def test_a_malformed_product_is_refused_by_record_field_and_value(
    tmp_path: Path, fields: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(ValueError, match=r"items\.json") as error:
        load_catalogue(*write(tmp_path, [changed(**fields)]))
    for part in parts:
        assert part in str(error.value)


def test_a_duplicate_product_is_refused_with_both_places(tmp_path: Path) -> None:
    paths = write(tmp_path, [ITEM, changed(asin="K200"), changed(asin="k100")])
    with pytest.raises(ValueError, match=r"product 2: field 'asin' = 'K100' is already that of product 0"):
        load_catalogue(*paths)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({}, "asin K100: field 'attributes' is missing"),
        ({"attributes": "dimmable"}, "asin K100: field 'attributes' = 'dimmable' is not a list"),
        ({"attributes": [], "instruction": ""}, "asin K100: field 'instruction' is empty"),
        ({"attributes": [], "instruction": "A lamp"}, "field 'instruction_attributes' is missing"),
        (
            {"attributes": [], "instruction": "A lamp", "instruction_attributes": []},
            "asin K100: field 'instruction_attributes' = [] leaves the instruction without attributes",
        ),
        ([], "asin K100 = [] is not a JSON object"),
    ],
)
def test_a_malformed_instruction_is_refused_by_record_and_field(tmp_path: Path, entry: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=r"instructions\.json") as error:
        load_catalogue(*write(tmp_path, [ITEM], {"K100": entry}))
    assert problem in str(error.value)


def test_files_that_are_no_catalogue_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="non-empty list of products, found dict"):
        load_catalogue(*write(tmp_path, {}))
    with pytest.raises(ValueError, match=r"expected .*found list"):
        load_catalogue(*write(tmp_path, [ITEM], []))
    items, instructions = write(tmp_path, [ITEM])
    items.write_text("[{]")
    with pytest.raises(ValueError, match=r"items\.json: not valid JSON"):
        load_catalogue(items, instructions)
    cut = tmp_path / "items.json.gz"
    cut.write_bytes(gzip.compress(json.dumps([ITEM]).encode())[:-10])
    with pytest.raises(ValueError, match=r"items\.json\.gz: not valid JSON.*download the file again"):
        load_catalogue(cut, instructions)
    with pytest.raises(ValueError, match="give both files"):
        load_catalogue(items)
    with pytest.raises(FileNotFoundError, match=r"absent\.json"):
        load_catalogue(tmp_path / "absent.json", instructions)


def test_a_catalogue_without_goals_or_with_too_few_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of the 1 products carries an instruction"):
        open_shop(*write(tmp_path, [ITEM], {}))
    with pytest.raises(ValueError, match="split 'train' is empty: the catalogue yields 2 goals"):
        WebShopEnv(*write(tmp_path, [ITEM]))
    assert WebShopEnv(*write(tmp_path, [ITEM]), split="test").reset(seed=0)
    with pytest.raises(ValueError, match=r"split 'dev'.*train, validation, test"):
        WebShopEnv(split="dev")


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    paths = write(tmp_path, [ITEM])
    before = load_catalogue(*paths)
    assert load_catalogue(*paths) is before
    write(tmp_path, [changed(name="Elm Lamp")])  # of the same length: only the time differs
    os.utime(paths[0], ns=(1, 1))
    assert load_catalogue(*paths).products[0].title == "Elm Lamp"


def test_a_thousand_sessions_share_one_catalogue_index_and_set_of_goals() -> None:
    with ThreadPoolExecutor(max_workers=32) as pool:
        sessions = list(pool.map(lambda _: WebShopEnv(), range(1000)))
    assert len({id(session.shop) for session in sessions}) == 1
    # Other prices make another shop, on the same catalogue and index.
    other = WebShopEnv(catalogue_seed=5)
    assert other.shop is not sessions[0].shop
    assert other.shop.catalogue is sessions[0].shop.catalogue
    assert other.shop.prices != sessions[0].shop.prices
    assert WebShopEnv(catalogue_seed=5).shop is other.shop


def test_the_shipped_catalogue_is_what_the_generator_makes(tmp_path: Path) -> None:
    shipped = EMBEDDED_ITEMS, EMBEDDED_INSTRUCTIONS
    made = generate_catalogue.write(tmp_path)
    for ours, theirs in zip(shipped, made, strict=True):
        assert gzip.decompress(ours.read_bytes()) == gzip.decompress(theirs.read_bytes())


def test_the_generator_writes_the_same_bytes_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gzip header may hold the time, and would change the file in the repository whenever it is made again."""
    first = generate_catalogue.write(tmp_path / "first")
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    again = generate_catalogue.write(tmp_path / "again")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_another_seed_makes_another_catalogue_of_the_same_shape() -> None:
    (items, instructions), (others, _) = generate_catalogue.generate(), generate_catalogue.generate(seed=2)
    assert 400 <= len(items) == len(others) <= 600
    assert items != others
    assert instructions.keys() == {item["asin"] for item in items}
    # Invented titles, all different, and the fields of upstream's files that the loader reads.
    assert len({item["name"] for item in items}) == len(items)
    assert all(set(REQUIRED) <= item.keys() for item in items)


def test_the_shipped_catalogue_is_large_enough_for_every_split_and_small_enough_to_ship() -> None:
    shop = open_shop()
    assert len(shop.splits["train"]) >= 1000
    assert EMBEDDED_ITEMS.stat().st_size + EMBEDDED_INSTRUCTIONS.stat().st_size < 100_000
    for product in shop.catalogue.products:
        if product.instruction is not None:
            assert set(product.instruction_attributes) <= set(product.attributes)
            assert all(attribute in product.instruction for attribute in product.instruction_attributes)


def test_an_option_with_the_separator_of_actions_can_be_chosen_and_bought(tmp_path: Path) -> None:
    options = {"Size || Fit": [{"value": "S || Slim"}, {"value": "L||||Wide"}], "Shade": [{"value": "S || Slim"}]}
    paths = write(tmp_path, [changed(customization_options=options)])
    episode = Episode(WebShopEnv(*paths, split="test"), EpisodeLimits(turns=9, actions_per_turn=1, actions=9, words=9))
    episode.reset(seed=0)
    for _ in range(2):
        chosen = expert_action(episode.env)
        assert episode.respond(write_response(chosen)).valid, chosen
    shown = episode.observation
    labels = {action for action in episode.env.legal_actions() if "|" in action}
    assert labels == {"click[size | fit: s | slim]", "click[l|wide]", "click[shade: s | slim]"}
    assert all(label in shown for label in labels) and "||" not in shown
    while not episode.done:
        assert episode.respond(write_response(expert_action(episode.env))).valid
    assert episode.success
