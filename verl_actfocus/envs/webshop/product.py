"""One product in the schema of WebShop's own files (Yao et al. 2022), read from its record and checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from verl_actfocus.envs.base import ACTION_SEPARATOR

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


def read_product(items: Path, position: int, data: Any, instructions: Path, wishes: Mapping[str, Any]) -> Product:
    """Read one product from its record and from what shoppers ask for.

    Args:
        items: File of the record, for errors.
        position: Place of the record in the file.
        data: The record.
        instructions: File of the wishes, for errors.
        wishes: Product id to what shoppers who want the product say.

    Raises:
        ValueError: A field is missing or has a wrong value; the message names file, record, field and remedy.
    """
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
