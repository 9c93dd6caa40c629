"""Reading and checking a product catalogue in the schema of WebShop's own files (Yao et al. 2022).

Two JSON files make a catalogue: the items (`items_shuffle_*.json`, a list of products) and the
instructions (`items_ins_v2_*.json`, what shoppers ask for, by product id). Without paths the catalogue
that `tools.webshop.generate_catalogue` made and the package ships is read. Every record is checked: a shop that
silently lost products would still train, on other goals than one believes.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from verl_actfocus.envs.webshop.product import Product, read_product
from verl_actfocus.envs.webshop.search import SearchIndex

_DATA = Path(__file__).parent / "data"
EMBEDDED_ITEMS = _DATA / "items.json.gz"
EMBEDDED_INSTRUCTIONS = _DATA / "instructions.json.gz"


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The products of a shop and the index over them; immutable and shared by all sessions.

    Attributes:
        products: In the order of the file.
        index: Search index; its positions are positions in `products`.
        charset: Every character that a page of this catalogue may show.
    """

    products: tuple[Product, ...]
    index: SearchIndex
    charset: frozenset[str]


def load_catalogue(items_path: str | Path | None = None, instructions_path: str | Path | None = None) -> Catalogue:
    """Read a catalogue, or return it from the process's cache.

    The cache is keyed by the files' paths, modification times and sizes: a changed file is read anew.

    Args:
        items_path: Products; `.json` or `.json.gz`. None, with the other None too: the shipped catalogue.
        instructions_path: Attributes and instructions by product id. Entries for products that are
            not in `items_path` are left aside (upstream pairs one instruction file with several
            selections of products).

    Returns:
        The catalogue with its search index.

    Raises:
        ValueError: Only one path is given, a file is not valid JSON, or a record is malformed; the
            message names the record, the field, its value and the remedy.
        FileNotFoundError: A path does not exist.

    Example:
        >>> load_catalogue() is load_catalogue()
        True
    """
    if (items_path is None) != (instructions_path is None):
        raise ValueError(
            f"items_path = {items_path!r}, instructions_path = {instructions_path!r}: "
            "give both files of a catalogue, or neither for the one that is shipped"
        )
    items = Path(EMBEDDED_ITEMS if items_path is None else items_path).resolve()
    instructions = Path(EMBEDDED_INSTRUCTIONS if instructions_path is None else instructions_path).resolve()
    with _LOADING:  # a thousand sessions that start together wait for one reading instead of doing it each
        return _load(items, _version(items), instructions, _version(instructions))


_LOADING = Lock()


def _version(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=4)
def _load(
    items: Path, _items_version: tuple[int, int], instructions: Path, _instructions_version: tuple[int, int]
) -> Catalogue:
    records = _read_json(items)
    wishes = _read_json(instructions)
    if not isinstance(records, list) or not records:
        raise ValueError(f"{items}: expected a non-empty list of products, found {type(records).__name__}")
    if not isinstance(wishes, dict):
        raise ValueError(f"{instructions}: expected {{asin: {{…}}}}, found {type(wishes).__name__}")
    products: list[Product] = []
    positions: dict[str, int] = {}
    for position, data in enumerate(records):
        product = read_product(items, position, data, instructions, wishes)
        earlier = positions.setdefault(product.asin, position)
        if earlier != position:
            raise ValueError(
                f"{items}: product {position}: field 'asin' = {product.asin!r} is already that of "
                f"product {earlier}; remove one of the two"
            )
        products.append(product)
    index = SearchIndex([product.search_text for product in products])
    return Catalogue(tuple(products), index, _charset(products))


def _read_json(path: Path) -> Any:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        try:
            return json.load(file)
        except (json.JSONDecodeError, UnicodeDecodeError, EOFError) as error:  # the last: a .gz that is cut off
            raise ValueError(f"{path}: not valid JSON in UTF-8 ({error}); download the file again") from error


def _charset(products: list[Product]) -> frozenset[str]:
    characters: set[str] = set()
    for product in products:
        texts = [product.search_text, product.rating, product.asin, product.instruction or ""]
        for text in texts:
            characters.update(text, text.lower())
    return frozenset(characters)
