"""The settings of ActFocus as a veRL user writes them, checked before anything is built.

They live under `algorithm.actfocus`. The group of a weighting (`verl_actfocus/config/actfocus/*.yaml`) holds its
name and settings and nothing else of this section; the rest has its defaults here.
`ActFocusSettings.from_config` validates them alone, `check_compatible` against the rest of a veRL configuration.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from verl_actfocus.config.selection import check_group_size
from verl_actfocus.episodes import TagSettings
from verl_actfocus.integration.inputs import ENGINE_INPUTS, Model, engine_inputs, unknown_inputs
from verl_actfocus.integration.policy_loss import LOSS_NAME, REFUSED_AGG_MODES
from verl_actfocus.weighting import WEIGHTINGS, Weighting, weighting_from
from verl_actfocus.weighting.settings import settings_from

#: Where the settings live in a veRL configuration.
CONFIG_PATH = "algorithm.actfocus"
#: Estimator name → the veRL estimator whose advantages it leaves untouched.
BASE_ESTIMATORS = {"actfocus_grpo": "grpo", "actfocus_gae": "gae"}
#: What `Σ w` of Eq. 6 runs over, which the paper leaves open.
NORMALIZATIONS = ("mini_batch", "batch", "micro_batch")
#: Value of `trainer.v1.trainer_mode`.
TRAINER_MODE = "actfocus"


@dataclass(frozen=True, kw_only=True)
class TrajectorySettings:
    """Which trajectories are written to disk, for reports and viewers."""

    #: Folder of the files; None writes nothing.
    folder: str | None = None
    #: Steps between two files; the first step is always written.
    every: int = 10
    #: Trajectories per file.
    count: int = 4

    def __post_init__(self) -> None:
        if self.every < 1 or self.count < 1:
            raise ValueError(f"{CONFIG_PATH}.trajectories.every={self.every} and count={self.count} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class ActFocusSettings:
    """What `algorithm.actfocus` holds.

    Raises:
        ValueError: a value is outside its range; the message names the setting, the value and the range.
    """

    #: How tokens are weighted.
    weighting: Weighting
    #: What the sum of the weights that the loss is divided by runs over: a name of `NORMALIZATIONS`.
    normalize_over: str = "mini_batch"
    #: Share of the prompt groups, those with the largest reward spread, that are trained on; in (0, 1].
    keep_groups: float = 1.0
    #: Tags and prefill: this package's agent loop asks for them, parses and tags by them; the trainer tags by them what
    #: another agent loop has left untagged.
    tags: TagSettings = field(default_factory=TagSettings)
    #: Trajectories to keep, token by token.
    trajectories: TrajectorySettings = field(default_factory=TrajectorySettings)

    def __post_init__(self) -> None:
        if not 0 < self.keep_groups <= 1:
            raise ValueError(f"{CONFIG_PATH}.keep_groups={self.keep_groups!r} must lie in (0, 1]")
        if self.normalize_over not in NORMALIZATIONS:
            raise ValueError(
                f"{CONFIG_PATH}.normalize_over={self.normalize_over!r} is unknown; choose one of {list(NORMALIZATIONS)}"
            )

    @property
    def needs_reference(self) -> bool:
        """Whether the weights are computed from the frozen reference model."""
        return bool(engine_inputs(self.weighting, Model.REFERENCE))

    @classmethod
    def from_config(cls, config: DictConfig) -> ActFocusSettings:
        """Read `algorithm.actfocus` of a veRL configuration.

        Raises:
            ValueError: the section or its weighting is missing, a setting is unknown, or a value has the wrong type or
                is outside its range.
        """
        section = _section(config)
        if "weighting" not in section:
            raise ValueError(
                f"{CONFIG_PATH}.weighting is missing; add +actfocus=default to the command line (or another weighting: "
                f"{', '.join(sorted(WEIGHTINGS))})"
            )
        parts: dict[str, Any] = {"weighting": weighting_from(section["weighting"])}
        for name, part in (("tags", TagSettings), ("trajectories", TrajectorySettings)):
            parts[name] = settings_from(part, f"{CONFIG_PATH}.{name}", section.get(name))
        return settings_from(cls, CONFIG_PATH, section | parts)

    @classmethod
    def tags_from_config(cls, config: DictConfig) -> TagSettings:
        """Read the tag style alone, which a run without token weights has too."""
        return settings_from(TagSettings, f"{CONFIG_PATH}.tags", _section(config).get("tags"))


def _section(config: DictConfig) -> dict[str, Any]:
    section = OmegaConf.select(config, CONFIG_PATH)
    if section is None:
        return {}
    if not isinstance(section, DictConfig):
        raise ValueError(f"{CONFIG_PATH}={section!r} must be a section; add +actfocus=default to the command line")
    return cast("dict[str, Any]", OmegaConf.to_container(section, resolve=True))


def check_compatible(config: DictConfig, settings: ActFocusSettings) -> None:
    """Check a veRL configuration against what ActFocus can honour.

    Raises:
        ValueError: something cannot work; the message names the setting and the remedy.
    """
    algorithm, actor = config.algorithm, config.actor_rollout_ref.actor
    if algorithm.adv_estimator not in BASE_ESTIMATORS:
        raise ValueError(
            f"algorithm.adv_estimator={algorithm.adv_estimator} does not go with +actfocus: "
            f"use one of {sorted(BASE_ESTIMATORS)} (+actfocus=uniform is the baseline)"
        )
    check_group_size(config.actor_rollout_ref.rollout.n, estimator=algorithm.adv_estimator, share=settings.keep_groups)
    if actor.policy_loss.loss_mode != LOSS_NAME:
        raise ValueError(
            f"actor_rollout_ref.actor.policy_loss.loss_mode={actor.policy_loss.loss_mode} would ignore the token "
            f"weights; remove it from the command line (+actfocus sets {LOSS_NAME})"
        )
    if actor.loss_agg_mode in REFUSED_AGG_MODES:
        raise ValueError(
            f"actor_rollout_ref.actor.loss_agg_mode={actor.loss_agg_mode} cannot be weighted: "
            f"{REFUSED_AGG_MODES[actor.loss_agg_mode]}; use token-mean (Eq. 6) or seq-mean-token-mean"
        )
    if settings.normalize_over != "mini_batch" and actor.loss_agg_mode != "token-mean":
        raise ValueError(
            f"{CONFIG_PATH}.normalize_over={settings.normalize_over} says what the mean over tokens is divided by; "
            f"actor_rollout_ref.actor.loss_agg_mode={actor.loss_agg_mode} has no such mean: use token-mean"
        )
    if actor.strategy not in ("fsdp", "fsdp2"):
        raise ValueError(f"actor.strategy={actor.strategy} is not supported; ActFocus runs on fsdp and fsdp2")
    weighting = settings.weighting
    unknown = unknown_inputs(weighting.needs)
    if unknown:
        raise ValueError(
            f"the weighting {weighting.name!r} needs {unknown}, which no part of a training step delivers; see "
            "verl_actfocus/integration/inputs.py for what there is"
        )
    if engine_inputs(weighting) and config.actor_rollout_ref.model.use_fused_kernels:
        raise ValueError(
            "actor_rollout_ref.model.use_fused_kernels=True hides the logits that the weighting "
            f"{weighting.name!r} computes {engine_inputs(weighting)} from; set it to False, or choose a weighting "
            "without such inputs (+actfocus=uniform)"
        )
    if (config.get("distillation") or {}).get("enabled", False):
        raise ValueError(
            "distillation.enabled=True: veRL's distillation loss and the token weights cannot be combined; "
            "run without one of them"
        )
    if config.data.get("environment") is not None:
        settings.tags.left_to_write()  # refuses a prefill that no valid response can continue
    if algorithm.adv_estimator == "actfocus_gae" and config.critic.enable is False:
        raise ValueError("algorithm.adv_estimator=actfocus_gae needs a critic; remove critic.enable=False")
    _check_bypass_mode(config, settings)


def _check_bypass_mode(config: DictConfig, settings: ActFocusSettings) -> None:
    """Reject inputs that only the old policy's forward pass could deliver when veRL does not run it."""
    correction = config.algorithm.get("rollout_correction") or {}
    if not correction.get("bypass_mode", False):
        return
    if correction.get("rollout_is") or correction.get("rollout_rs"):
        raise ValueError(
            "algorithm.rollout_correction: with bypass_mode=True veRL applies rollout_is and rollout_rs in a policy "
            "loss of its own, which the weighted loss would replace; set bypass_mode=False, or both of them to null"
        )
    inputs = engine_inputs(settings.weighting, Model.OLD_POLICY)
    at_one = config.actor_rollout_ref.rollout.temperature == 1.0
    missing = [name for name in inputs if not (at_one and ENGINE_INPUTS[name].bypass_field)]
    if missing:
        raise ValueError(
            f"the weighting {settings.weighting.name!r} needs {missing} of the old policy at temperature 1, which "
            "algorithm.rollout_correction.bypass_mode=True does not compute; set bypass_mode=False"
        )
