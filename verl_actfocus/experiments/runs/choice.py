"""A weighting or an estimator as it is written on a command line: a name, and the settings that differ from its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import ClassVar, Self

#: Longest part of a folder's name.
_LONGEST = 100


@dataclass(frozen=True, order=True)
class Choice:
    """A name and settings, such as `actfocus alpha=0.3`.

    Args:
        name: a packaged scheme or one that a user's module registers.
        settings: (setting, value as Hydra reads it), ascending; see `parse`.
    """

    name: str
    settings: tuple[tuple[str, str], ...] = ()

    #: What it has to be, with an example, for messages.
    what: ClassVar[str]
    #: Name → how people write it; others are written as they are.
    labels: ClassVar[Mapping[str, str]] = MappingProxyType({})

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a name, followed by settings as `<setting>=<value>`; equal numbers become alike.

        Raises:
            ValueError: the text is of another form, a setting is named twice, or is called `name`.
        """
        name, *words = text.split() or [""]
        pairs = [word.partition("=")[::2] for word in words]
        settings = {key: _canonical(value) for key, value in pairs}
        if not name.isidentifier() or not all(key.isidentifier() and value for key, value in pairs):
            raise ValueError(f"{text!r} is not {cls.what}")
        if len(settings) < len(pairs):
            raise ValueError(f"{text!r} names a setting twice")
        if "name" in settings:
            raise ValueError(
                f"{text!r} sets a name, which stands in front: {settings['name']!r} in the place of {name!r}"
            )
        return cls(name, tuple(sorted(settings.items())))

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.settings)])

    @property
    def label(self) -> str:
        """Name for people, such as `ActFocus alpha=0.3`."""
        return str(Choice(self.labels.get(self.name, self.name), self.settings))

    @property
    def slug(self) -> str:
        """Name as a part of a file's name: of `A-Z a-z 0-9 . _ = -` only, different for different choices."""
        return slug(str(self))


def slug(text: str) -> str:
    """Write a text as a folder's name: of `A-Z a-z 0-9 . _ = -` only, never `.` or `..`.

    Different texts have different names, but for a space and a hyphen in one place.

    Example:
        >>> slug("actfocus alpha=0.3"), slug("../x").startswith("_._x-")
        ('actfocus-alpha=0.3', True)
    """
    spaced = text.replace(" ", "-")
    plain = re.sub(r"^\.|[^A-Za-z0-9._=-]", "_", spaced)
    if plain == spaced and 0 < len(plain) <= _LONGEST:
        return plain
    return f"{plain[:_LONGEST]}-{sha256(text.encode()).hexdigest()[:8]}"


def _canonical(value: str) -> str:
    """Equal numbers are written alike: 0.30 and 3e-1 as 0.3, 1.0 and +1 as 1."""
    # Here, so that actfocus doctor can say that Hydra is missing.
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        read = OverridesParser.create().parse_override(f"setting={value}").value()
    except HydraException:
        # Composing the run refuses it, with a remedy.
        return value
    if type(read) is float:
        return str(int(read)) if read.is_integer() else repr(read)
    if type(read) is int:
        return str(read)
    return "null" if read is None else value
