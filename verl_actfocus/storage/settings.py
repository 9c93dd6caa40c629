"""Settings as dotted names with values, and where two of them differ."""

from __future__ import annotations

from typing import Any


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Turn nested dictionaries into one with dotted names.

    Example:
        >>> flatten({"a": {"b": 1}, "c": [2]})
        {'a.b': 1, 'c': [2]}
    """
    if not isinstance(value, dict) or (not value and prefix):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, part in value.items():
        flat.update(flatten(part, f"{prefix}.{name}" if prefix else str(name)))
    return flat


def within(settings: dict[str, Any], section: str) -> dict[str, Any]:
    """Return the settings of a section, by their names in it.

    Example:
        >>> within({"a.b": 1, "a.c.d": 2, "ab": 3}, "a")
        {'b': 1, 'c.d': 2}
    """
    return {
        name.removeprefix(f"{section}."): value for name, value in settings.items() if name.startswith(f"{section}.")
    }


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Describe in words where two configurations differ, sorted by name.

    Example:
        >>> differences({"a": 1, "b": 2}, {"a": 1, "b": 3})
        ['b was 2, is 3']
    """
    missing = "absent"
    names = sorted({*before, *after})
    return [
        f"{name} was {before.get(name, missing)!r}, is {after.get(name, missing)!r}"
        for name in names
        if before.get(name, missing) != after.get(name, missing)
    ]


def in_words(changes: list[str], most: int = 5) -> str:
    """Join differences, the first few by name and the rest by number."""
    rest = [f"and {len(changes) - most} more"] if len(changes) > most else []
    return "; ".join([*changes[:most], *rest])
