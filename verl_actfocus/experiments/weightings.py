"""Which weighting a run trains with, as it is written on a command line: `uniform`, `'actfocus alpha=0.3'`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256

import yaml

from verl_actfocus.config.groups import packaged_groups

#: The section of a configuration that holds a weighting's name and its settings.
SECTION = "algorithm.actfocus.weighting"
#: Weightings whose configuration group has another name.
_GROUPS = {"actfocus": "default"}
#: The group for weightings without one of their own: those that a user's module registers.
_CUSTOM = "custom"
#: Weighting → how people write it; others are written as they are.
_LABELS = {"uniform": "Uniform", "actfocus": "ActFocus"}
#: Longest part of a folder's name.
_LONGEST = 100


def packaged_weightings() -> list[str]:
    """Return the names of the weightings that have a configuration group under `+actfocus`."""
    names = {group: weighting for weighting, group in _GROUPS.items()}
    return sorted(names.get(group, group) for group in packaged_groups() if group != _CUSTOM)


@dataclass(frozen=True, order=True)
class WeightingChoice:
    """The name of a weighting and those of its settings that differ from its own.

    Args:
        name: a packaged weighting or one that a user's module registers.
        settings: (setting, value as Hydra reads it), ascending; see `parse`.

    Example:
        >>> WeightingChoice.parse("actfocus alpha=0.30").slug
        'actfocus-alpha=0.3'
    """

    name: str
    settings: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> WeightingChoice:
        """Read a name, followed by settings as `<setting>=<value>`.

        Raises:
            ValueError: the text is of another form, or a setting is named twice.
        """
        return cls(*parsed_choice(text, "a weighting such as uniform or 'actfocus alpha=0.3'"))

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{key}={value}" for key, value in self.settings)])

    @property
    def label(self) -> str:
        """Name for people, such as `ActFocus alpha=0.3`."""
        return str(WeightingChoice(_LABELS.get(self.name, self.name), self.settings))

    @property
    def slug(self) -> str:
        """Name as a part of a file's name: of `A-Z a-z 0-9 . _ = -` only, different for different weightings."""
        return slug(str(self))

    def overrides(self) -> list[str]:
        """Return the Hydra overrides that choose the weighting, its group first."""
        settings = [f"++{SECTION}.{key}={value}" for key, value in self.settings]
        if self.name in packaged_weightings():
            return [f"+actfocus={_GROUPS.get(self.name, self.name)}", *settings]
        return [f"+actfocus={_CUSTOM}", f"{SECTION}.name={self.name}", *settings]


def parsed_choice(text: str, what: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Read a name, followed by settings as `<setting>=<value>`.

    Args:
        text: what was written.
        what: what it has to be, with an example, for messages.

    Returns:
        The name, and (setting, value as Hydra reads it), ascending; equal numbers are written alike.

    Raises:
        ValueError: the text is of another form, a setting is named twice, or is called `name`.
    """
    name, *words = text.split() or [""]
    pairs = [word.partition("=")[::2] for word in words]
    settings = {key: _canonical(value) for key, value in pairs}
    if not name.isidentifier() or not all(key.isidentifier() and value for key, value in pairs):
        raise ValueError(f"{text!r} is not {what}")
    if len(settings) < len(pairs):
        raise ValueError(f"{text!r} names a setting twice")
    if "name" in settings:
        raise ValueError(f"{text!r} sets a name, which stands in front: {settings['name']!r} in the place of {name!r}")
    return name, tuple(sorted(settings.items()))


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


#: The weighting that others are compared with.
BASELINE = WeightingChoice("uniform")
#: The paper's.
ACTFOCUS = WeightingChoice("actfocus")


def _canonical(value: str) -> str:
    """Equal numbers are written alike: 0.30 as 0.3, 1.0 as 1."""
    try:
        read = yaml.safe_load(value)
    except yaml.YAMLError:
        return value
    if isinstance(read, float):
        return str(int(read)) if read.is_integer() else repr(read)
    return "null" if read is None else value
