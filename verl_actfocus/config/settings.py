"""The settings of ActFocus as a veRL user writes them, checked before anything is built.

They live under `algorithm.actfocus`. The group of a weighting (`verl_actfocus/config/actfocus/*.yaml`) holds its
name and settings and nothing else of this section; the rest has its defaults here. Free of veRL, so that a run is
checked without importing it; what of the rest of a veRL configuration goes with them is checked in
`verl_actfocus.config.compatibility`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from verl_actfocus.episodes import TagSettings
from verl_actfocus.estimators import GRPO, PREFIX, Estimator, estimator_from
from verl_actfocus.weighting import WEIGHTINGS, Weighting, weighting_from
from verl_actfocus.weighting.inputs import Reader
from verl_actfocus.weighting.settings import settings_from

#: Where the settings live in a veRL configuration.
CONFIG_PATH = "algorithm.actfocus"
#: What `Σ w` of Eq. 6 runs over, which the paper leaves open; `tokens` takes the number of tokens in its place.
NORMALIZATIONS = ("mini_batch", "batch", "micro_batch", "tokens")


@dataclass(frozen=True, kw_only=True)
class TrajectorySettings:
    """Which trajectories of training are written to disk (`docs/trajectories.md`)."""

    #: Folder of the files; None writes nothing.
    folder: str | None = None
    #: Steps between two files; the first step is always written.
    every: int = 10
    #: Prompt groups of a file, with all their trajectories.
    groups: int = 2
    #: Most megabytes (10⁶ bytes) of all files in the folder; nothing is written that would exceed it.
    max_megabytes: float = 500.0
    #: Whether files are compressed (`.jsonl.gz`).
    compress: bool = False

    def __post_init__(self) -> None:
        place = f"{CONFIG_PATH}.trajectories"
        if self.every < 1 or self.groups < 1:
            raise ValueError(f"{place}.every={self.every} and groups={self.groups} must be at least 1")
        if self.max_megabytes <= 0:
            raise ValueError(f"{place}.max_megabytes={self.max_megabytes} must be positive; folder=null writes nothing")

    def wants(self, step: int) -> bool:
        """Whether trajectories of a training step shall be written."""
        return self.folder is not None and (step == 1 or step % self.every == 0)


@dataclass(frozen=True, kw_only=True)
class GradientReportSettings:
    """When the exact gradient of a mini-batch is reported by span, see `verl_actfocus.integration.gradient_report`."""

    #: Steps between two reports; null or 0 for none. A report costs four passes of one mini-batch.
    every: int | None = None

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 0:
            raise ValueError(
                f"{CONFIG_PATH}.gradient_report.every={self.every} must be at least 1, or null or 0 for no report"
            )

    def due(self, step: int) -> bool:
        """Whether the report of a training step is asked for."""
        return self.every is not None and self.every > 0 and step % self.every == 0


@dataclass(frozen=True, kw_only=True)
class ActFocusSettings:
    """What `algorithm.actfocus` holds, and the estimator that `algorithm.adv_estimator` names.

    Raises:
        ValueError: a value is outside its range; the message names the setting, the value and the range.
    """

    #: How tokens are weighted.
    weighting: Weighting
    #: How advantages are estimated.
    estimator: Estimator = field(default_factory=GRPO)
    #: What the sum of the weights that the loss is divided by runs over, or `tokens`: a name of `NORMALIZATIONS`.
    normalize_over: str = "mini_batch"
    #: Share of the prompt groups, those with the largest reward spread, that are trained on; in (0, 1].
    keep_groups: float = 1.0
    #: Whether the passes without a gradient compute the prompt of a group once.
    share_prompts: bool = False
    #: Tags and prefill: this package's agent loop asks for them, parses and tags by them; the trainer tags by them what
    #: another agent loop has left untagged.
    tags: TagSettings = field(default_factory=TagSettings)
    #: Trajectories to keep, token by token.
    trajectories: TrajectorySettings = field(default_factory=TrajectorySettings)
    #: Exact gradient norms by span and the gradient's variance, on request.
    gradient_report: GradientReportSettings = field(default_factory=GradientReportSettings)

    def __post_init__(self) -> None:
        if not 0 < self.keep_groups <= 1:
            raise ValueError(f"{CONFIG_PATH}.keep_groups={self.keep_groups!r} must lie in (0, 1]")
        if self.normalize_over not in NORMALIZATIONS:
            raise ValueError(
                f"{CONFIG_PATH}.normalize_over={self.normalize_over!r} is unknown; choose one of {list(NORMALIZATIONS)}"
            )

    @property
    def readers(self) -> dict[str, Reader]:
        """What reads inputs, by its name in messages."""
        return {
            f"the weighting {self.weighting.name!r}": self.weighting,
            f"the estimator {self.estimator.verl_name!r}": self.estimator,
        }

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of all inputs that a step reads."""
        return (*self.weighting.needs, *self.estimator.needs)

    @classmethod
    def from_config(cls, config: DictConfig) -> ActFocusSettings:
        """Read `algorithm.actfocus` and the estimator of a veRL configuration.

        Raises:
            ValueError: the section or its weighting is missing, a setting is unknown, or a value has the wrong type or
                is outside its range, or the estimator is none of this package's.
        """
        section = _section(config)
        if "weighting" not in section:
            raise ValueError(
                f"{CONFIG_PATH}.weighting is missing; add +actfocus=default to the command line (or another weighting: "
                f"{', '.join(sorted(WEIGHTINGS))})"
            )
        parts: dict[str, Any] = {
            "weighting": weighting_from(section["weighting"]),
            "estimator": estimator_from(config.algorithm.adv_estimator, section.get("estimator")),
        }
        sections = {"tags": TagSettings, "trajectories": TrajectorySettings, "gradient_report": GradientReportSettings}
        for name, part in sections.items():
            parts[name] = settings_from(part, f"{CONFIG_PATH}.{name}", section.get(name))
        return settings_from(cls, CONFIG_PATH, section | parts)

    @classmethod
    def needs_from_config(cls, config: DictConfig) -> tuple[str, ...]:
        """Read which inputs a step reads; none in a run of another trainer, which has another estimator."""
        own = str(OmegaConf.select(config, "algorithm.adv_estimator")).startswith(PREFIX)
        return cls.from_config(config).needs if own and "weighting" in _section(config) else ()

    @classmethod
    def tags_from_config(cls, config: DictConfig) -> TagSettings:
        """Read the tag style alone, which a run without token weights has too."""
        return settings_from(TagSettings, f"{CONFIG_PATH}.tags", _section(config).get("tags"))

    @classmethod
    def trajectories_from_config(cls, config: DictConfig) -> TrajectorySettings:
        """Read which trajectories are written alone, which a run without token weights has too."""
        return settings_from(TrajectorySettings, f"{CONFIG_PATH}.trajectories", _section(config).get("trajectories"))


def _section(config: DictConfig) -> dict[str, Any]:
    section = OmegaConf.select(config, CONFIG_PATH)
    if section is None:
        return {}
    if not isinstance(section, DictConfig):
        raise ValueError(f"{CONFIG_PATH}={section!r} must be a section; add +actfocus=default to the command line")
    return cast("dict[str, Any]", OmegaConf.to_container(section, resolve=True))
