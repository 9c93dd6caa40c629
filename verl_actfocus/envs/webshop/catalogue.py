"""Reading and checking a product catalogue in the schema of WebShop's own files (Yao et al. 2022).

Two JSON files make a catalogue: the items (`items_shuffle_*.json`, a list of products) and the
instructions (`items_ins_v2_*.json`, what shoppers ask for, by product id). Without paths the catalogue
that `tools.webshop.generate_catalogue` made and the package ships is read. Every record is checked: a shop that
silently lost products would still train, on other goals than one believes.
"""

from __future__ import annotations

import gzip
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn

from verl_actfocus.envs.base import ACTION_SEPARATOR
from verl_actfocus.envs.webshop.search import SearchIndex

_DATA = Path(__file__).parent / "data"
EMBEDDED_ITEMS = _DATA / "items.json.gz"
EMBEDDED_INSTRUCTIONS = _DATA / "instructions.json.gz"
MISSING_PRICE = 100.0
CATEGORY_SEPARATOR = "\u203a"  # the single right-pointing angle quotation mark
_SEPARATORS = re.compile(rf"{re.escape(ACTION_SEPARATOR)}\|*")
_PRICE = re.compile(r"\$\s*([\d,]+(?:\.\d+)?)(?:\s*(?:to|-|\u2013)?\s*\$\s*([\d,]+(?:\.\d+)?))?")


@dataclass(frozen=True, eq=False)
class Product:
    """One product, as the shop shows it and as the reward compares it.

    Attributes:
        asin: Product id in upper case.
        title: Display name; upstream has a few products without one.
        query: The query under which the product was listed, lower case.
        category: Levels of the category, from the widest.
        description: Running text, possibly empty.
        bullets: Bullet points ("features").
        price_range: Lowest and highest price in dollars, equal unless the listing gives a range.
        options: Option name to its values, all lower case, in the listing's order.
        attributes: What the product is known for; the reward matches goals against them.
        rating: Average rating as listed; empty if there is none.
        instruction: What a shopper who wants this product says; None for most products.
        instruction_attributes: The attributes that the instruction asks for.
    """

    asin: str
    title: str
    query: str
    category: tuple[str, ...]
    description: str
    bullets: tuple[str, ...]
    price_range: tuple[float, float]
    options: Mapping[str, tuple[str, ...]]
    attributes: tuple[str, ...]
    rating: str
    instruction: str | None
    instruction_attributes: tuple[str, ...]

    @property
    def search_text(self) -> str:
        """What search sees: title, description, bullet points and options."""
        options = (f"{name} {' '.join(values)}" for name, values in self.options.items())
        return " ".join([self.title, self.description, *self.bullets, *options])

    @cached_property
    def reward_texts(self) -> tuple[str, str, str]:
        """Lower-cased title, bullet points and description, in which the reward looks for attributes."""
        return self.title.lower(), " ".join(self.bullets).lower(), self.description.lower()


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


@dataclass(frozen=True)
class _Record:
    """One JSON object of a file, read field by field with errors that name the place."""

    path: Path
    place: str
    data: Mapping[str, Any]

    def fail(self, field: str, problem: str, remedy: str) -> NoReturn:
        raise ValueError(f"{self.path}: {self.place}: field {field!r} {problem}; {remedy}")

    def value(self, field: str) -> Any:
        if field not in self.data:
            self.fail(field, "is missing", f"add it to the record (present: {', '.join(sorted(self.data))})")
        return self.data[field]

    def text(self, field: str) -> str:
        value = self.value(field)
        if not isinstance(value, str):
            self.fail(field, f"= {value!r} is not a string", "write it as a JSON string")
        return value

    def nonempty_text(self, field: str) -> str:
        value = self.text(field).strip()
        if not value:
            self.fail(field, "is empty", "give it a value or remove the record")
        return value

    def texts(self, field: str) -> tuple[str, ...]:
        value = self.value(field)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.fail(field, f"= {value!r} is not a list of strings", 'write it as ["…", "…"]')
        return tuple(value)


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
        product = _product(items, position, data, instructions, wishes)
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
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not valid JSON in UTF-8 ({error}); download the file again") from error


def _product(items: Path, position: int, data: Any, instructions: Path, wishes: Mapping[str, Any]) -> Product:
    if not isinstance(data, dict):
        raise ValueError(f"{items}: product {position} = {data!r} is not a JSON object; remove it")
    asin = _Record(items, f"product {position}", data).nonempty_text("asin")
    record = _Record(items, f"product {position} (asin {asin})", data)
    wish = wishes.get(asin, {"attributes": []})
    if not isinstance(wish, dict):
        raise ValueError(f"{instructions}: asin {asin} = {wish!r} is not a JSON object; remove it")
    wish_record = _Record(instructions, f"asin {asin}", wish)
    instruction, wanted = _instruction(wish_record)
    levels = (level.strip() for level in record.text("product_category").split(CATEGORY_SEPARATOR))
    return Product(
        asin=asin.upper(),
        title=record.text("name"),
        query=record.text("query").lower().strip(),
        category=tuple(level for level in levels if level),
        description=record.text("full_description"),
        bullets=_bullets(record),
        price_range=_price_range(record),
        options=_options(record),
        attributes=wish_record.texts("attributes"),
        rating=_rating(record),
        instruction=instruction,
        instruction_attributes=wanted,
    )


def _instruction(record: _Record) -> tuple[str | None, tuple[str, ...]]:
    if record.data.get("instruction") is None:
        return None, ()
    instruction = record.nonempty_text("instruction")
    wanted = record.texts("instruction_attributes")
    if not wanted:
        remedy = "name at least one attribute or remove the instruction"
        record.fail("instruction_attributes", "= [] leaves the instruction without attributes", remedy)
    return instruction, wanted


def _bullets(record: _Record) -> tuple[str, ...]:
    """Bullet points; upstream writes a lone one as a string."""
    value = record.value("small_description")
    return (value,) if isinstance(value, str) else record.texts("small_description")


def _price_range(record: _Record) -> tuple[float, float]:
    """Return the lowest and highest price; a missing or empty price counts as `MISSING_PRICE`."""
    if record.data.get("pricing") in (None, ""):
        return MISSING_PRICE, MISSING_PRICE
    pricing = record.text("pricing")
    match = _PRICE.fullmatch(pricing.strip())
    if match is None:
        remedy = 'write "$12.5" or "$12.5 to $20.0", or leave the field out for a price of $100'
        record.fail("pricing", f"= {pricing!r} is not a price", remedy)
    prices = [float(number.replace(",", "")) for number in match.groups() if number is not None]
    return min(prices), max(prices)


def _options(record: _Record) -> dict[str, tuple[str, ...]]:
    """Return the values by option name; upstream writes null for an option without any."""
    remedy = 'write {"color": [{"value": "red"}, …]}'
    value = record.value("customization_options")
    if not isinstance(value, dict):
        record.fail("customization_options", f"= {value!r} is not an object", remedy)
    options: dict[str, tuple[str, ...]] = {}
    for name, entries in value.items():
        if entries is None:
            continue
        if not isinstance(entries, list) or not entries:
            record.fail("customization_options", f"[{name!r}] = {entries!r} is not a filled list", remedy)
        for entry in entries:
            text = entry.get("value") if isinstance(entry, dict) else None
            if not isinstance(text, str) or not text.strip():
                record.fail("customization_options", f"[{name!r}] has the value {entry!r}", remedy)
        name = _nameable(name.lower())
        if name in options:
            record.fail("customization_options", f"names {name!r} twice", "merge the two lists of values")
        options[name] = tuple(_nameable(e["value"].strip().replace("/", " | ").lower()) for e in entries)
    return options


def _nameable(text: str) -> str:
    """Return text for goals, pages and clicks alike in which nothing separates actions: `|` for `||`."""
    return _SEPARATORS.sub("|", text)


def _rating(record: _Record) -> str:
    value = record.data.get("average_rating")
    if value in (None, ""):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        remedy = "write a number of stars, or leave the field out"
        record.fail("average_rating", f"= {value!r} is not a number", remedy)
    return f"{value:g}"


def _charset(products: list[Product]) -> frozenset[str]:
    characters: set[str] = set()
    for product in products:
        texts = [product.search_text, product.rating, product.asin, product.instruction or ""]
        for text in texts:
            characters.update(text, text.lower())
    return frozenset(characters)
