"""Generates the catalogue that the package ships, in the schema of WebShop's own files.

A stranger who installs the project has no catalogue: upstream's products are scraped listings without
a licence. This one is invented, so it can be shipped. It keeps what makes the task a task: many
products of one kind that differ in attributes and options, titles that name only some attributes, price
ranges, missing prices and ratings, products that nobody asks for.

    python -m tools.webshop.generate_catalogue --out DIRECTORY
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from tools.webshop import vocabulary
from tools.webshop.vocabulary import KINDS, ProductKind

DEFAULT_SEED = 1
PRODUCTS_PER_KIND = 17
ATTRIBUTES = (4, 5, 6)  # how many a product has
WISHES = (2, 2, 3)  # how many of them an instruction asks for
IN_TITLE = 2  # how many of them the title names
OPTION_VALUES = (3, 4, 5, 6)  # how many values an option offers
WITH_INSTRUCTION = 0.5
WITH_OPTIONS = 0.85
WITH_PRICE_RANGE = 0.1
WITHOUT_PRICE = 0.02
WITHOUT_RATING = 0.2
FILE_NAMES = ("items.json.gz", "instructions.json.gz")

T = TypeVar("T")


class _Draws:
    """Draws that use nothing but `Random.random`, whose stream Python promises never to change."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self._random.random()

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self._random.random() * len(items))]

    def some(self, items: Sequence[T], count: int) -> list[T]:
        """Return `count` of the items, in the items' order."""
        keys = [self._random.random() for _ in items]
        chosen = sorted(range(len(items)), key=keys.__getitem__)[:count]
        return [items[position] for position in sorted(chosen)]


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(";")]


def _phrase(attribute: str) -> str:
    """Return an attribute without its preposition: "is easy to clean" is known as "easy to clean"."""
    words = attribute.split()
    return " ".join(words[2:] if words[1] in ("a", "an", "the") else words[1:])


def generate(seed: int = DEFAULT_SEED) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Make a catalogue.

    Args:
        seed: Another seed gives another catalogue.

    Returns:
        The items and the instructions, as the two files hold them.
    """
    draws = _Draws(seed)
    kinds = [kind for kind in KINDS for _ in range(PRODUCTS_PER_KIND)]
    # In shuffled order, so that a product's position and id say nothing about its kind.
    order = sorted((draws.uniform(0.0, 1.0), position) for position in range(len(kinds)))
    items: list[dict[str, Any]] = []
    instructions: dict[str, dict[str, Any]] = {}
    for number, (_, position) in enumerate(order):
        item, instruction = _product(draws, f"AF{1000 + number}", kinds[position])
        items.append(item)
        instructions[item["asin"]] = instruction
    return items, instructions


def _product(draws: _Draws, asin: str, kind: ProductKind) -> tuple[dict[str, Any], dict[str, Any]]:
    brand = draws.pick(vocabulary.BRAND_STARTS.split()) + draws.pick(vocabulary.BRAND_ENDS.split())
    line = draws.pick(vocabulary.LINES.split())
    material = draws.pick(_split(kind.materials))
    department = _split(vocabulary.DEPARTMENT_ATTRIBUTES[_department(kind)])
    possible = list(dict.fromkeys([*_split(kind.attributes), *department]))
    attributes = draws.some(possible, draws.pick(ATTRIBUTES))
    phrases = [_phrase(attribute) for attribute in attributes]
    named = ", ".join(phrase.title() for phrase in draws.some(phrases, IN_TITLE))
    item = {
        "asin": asin,
        "name": f"{brand} {line} {material.title()} {kind.noun.title()}, {named}",
        "category": kind.category[0].lower(),
        "query": kind.query,
        "product_category": " \u203a ".join(kind.category),
        "full_description": draws.pick(vocabulary.DESCRIPTIONS).format(
            brand=brand,
            line=line,
            noun=kind.noun,
            material=material,
            first=phrases[0].capitalize(),
            second=phrases[1],
        ),
        "small_description": [
            draws.pick(vocabulary.BULLETS).format(attribute=phrase.capitalize(), noun=kind.noun) for phrase in phrases
        ],
        "pricing": _pricing(draws, *kind.prices),
        "customization_options": _options(draws, kind),
        "average_rating": "" if draws.chance(WITHOUT_RATING) else round(draws.uniform(2.8, 5.0), 1),
    }
    instruction: dict[str, Any] = {"attributes": phrases}
    if draws.chance(WITH_INSTRUCTION):
        wanted = draws.some(attributes, draws.pick(WISHES))
        instruction["instruction"] = _request(draws, kind, wanted)
        instruction["instruction_attributes"] = [_phrase(attribute) for attribute in wanted]
    return item, instruction


def _department(kind: ProductKind) -> str:
    return next(level for level in kind.category if level in vocabulary.DEPARTMENT_ATTRIBUTES)


def _pricing(draws: _Draws, low: float, high: float) -> str:
    """Return a price that favours the lower end of the range; seldom a range or nothing."""
    price = round(low + (high - low) * draws.uniform(0.0, 1.0) ** 2, 2)
    if draws.chance(WITHOUT_PRICE):
        return ""
    if draws.chance(WITH_PRICE_RANGE):
        return f"${price} to ${round(price * draws.uniform(1.1, 1.6), 2)}"
    return f"${price}"


def _options(draws: _Draws, kind: ProductKind) -> dict[str, list[dict[str, str]]]:
    options: dict[str, list[dict[str, str]]] = {}
    for name in kind.options:
        values = draws.some(_split(vocabulary.OPTION_SETS[name]), draws.pick(OPTION_VALUES))
        if draws.chance(WITH_OPTIONS):
            options[vocabulary.OPTION_NAMES.get(name, name)] = [{"value": value} for value in values]
    return options


def _request(draws: _Draws, kind: ProductKind, wanted: list[str]) -> str:
    """Return an instruction: adjectives first, then what the product comes with, then what it is for."""
    request = draws.pick(vocabulary.REQUESTS)
    adjectives = [wish.removeprefix("is ") for wish in wanted if wish.startswith("is ")]
    article = "an" if kind.noun[0] in "aeiou" else "a"
    text = request.format(article=article, noun=kind.noun, query=kind.query)
    if adjectives:
        text += (" that are " if "{query}" in request else " that is ") + _enumeration(adjectives)
    for preposition in ("with ", "for "):
        things = [wish.removeprefix(preposition) for wish in wanted if wish.startswith(preposition)]
        if things:
            text += f" {preposition}{_enumeration(things)}"
    return text


def _enumeration(words: list[str]) -> str:
    *head, last = words
    return f"{', '.join(head)} and {last}" if head else last


def encode(data: object) -> bytes:
    """Return compressed JSON without a time stamp: the same data give the same bytes."""
    text = json.dumps(data, ensure_ascii=False, indent=0)
    return gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0)


def write(directory: Path, seed: int = DEFAULT_SEED) -> list[Path]:
    """Generate a catalogue and write its two files.

    Args:
        directory: Where to; made if it does not exist.
        seed: As in `generate`.

    Returns:
        Paths of the items and of the instructions.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / name for name in FILE_NAMES]
    for path, data in zip(paths, generate(seed), strict=True):
        path.write_bytes(encode(data))
    return paths


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="directory for the two files")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="the shipped files have %(default)s")
    options = parser.parse_args(arguments)
    for path in write(options.out, options.seed):
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
