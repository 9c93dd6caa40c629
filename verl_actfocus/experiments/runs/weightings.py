"""Which weighting a run trains with, as it is written on a command line: `uniform`, `'actfocus alpha=0.3'`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from verl_actfocus.config.groups import packaged_groups
from verl_actfocus.experiments.runs.choice import Choice

#: The section of a configuration that holds a weighting's name and its settings.
SECTION = "algorithm.actfocus.weighting"
#: Weightings whose configuration group has another name.
_GROUPS = {"actfocus": "default"}
#: The group for weightings without one of their own: those that a user's module registers.
_CUSTOM = "custom"


def packaged_weightings() -> list[str]:
    """Return the names of the weightings that have a configuration group under `+actfocus`."""
    names = {group: weighting for weighting, group in _GROUPS.items()}
    return sorted(names.get(group, group) for group in packaged_groups() if group != _CUSTOM)


@dataclass(frozen=True, order=True)
class WeightingChoice(Choice):
    """The name of a weighting and those of its settings that differ from its own.

    Example:
        >>> WeightingChoice.parse("actfocus alpha=0.30").slug
        'actfocus-alpha=0.3'
    """

    what: ClassVar[str] = "a weighting such as uniform or 'actfocus alpha=0.3'"
    labels: ClassVar[Mapping[str, str]] = MappingProxyType({"uniform": "Uniform", "actfocus": "ActFocus"})

    def overrides(self) -> list[str]:
        """Return the Hydra overrides that choose the weighting, its group first."""
        settings = [f"++{SECTION}.{key}={value}" for key, value in self.settings]
        if self.name in packaged_weightings():
            return [f"+actfocus={_GROUPS.get(self.name, self.name)}", *settings]
        return [f"+actfocus={_CUSTOM}", f"{SECTION}.name={self.name}", *settings]


#: The weighting that others are compared with.
BASELINE = WeightingChoice("uniform")
#: The paper's.
ACTFOCUS = WeightingChoice("actfocus")
