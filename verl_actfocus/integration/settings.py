"""The settings of ActFocus as a veRL user writes them, checked before anything is built.

They live under ``algorithm.actfocus`` (packaged as ``verl_actfocus/config/actfocus/*.yaml``).
`ActFocusSettings.from_config` validates them alone, `check_compatible` against the rest of a veRL configuration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from verl_actfocus.episodes import TagSettings
from verl_actfocus.integration.policy_loss import LOSS_NAME, REFUSED_AGG_MODES
from verl_actfocus.weighting import SIGNALS

#: Where the settings live in a veRL configuration.
CONFIG_PATH = "algorithm.actfocus"
#: Estimator name → the veRL estimator whose advantages it leaves untouched.
BASE_ESTIMATORS = {"actfocus_grpo": "grpo", "actfocus_gae": "gae"}
#: What ``Σ w`` of Eq. 6 runs over, which the paper leaves open.
NORMALIZATIONS = ("mini_batch", "batch", "micro_batch")
#: Value of ``trainer.v1.trainer_mode``.
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
    """What ``algorithm.actfocus`` holds.

    Raises:
        ValueError: a value is outside its range; the message names the setting, the value and the range.
    """

    #: Weight of reasoning tokens, in [0, 1].
    alpha: float = 0.1
    #: Largest addition to the weight of an action token, at least 0.
    beta: float = 0.5
    #: Signal of the action tokens: a name of `verl_actfocus.weighting.SIGNALS`.
    signal: str = "energy"
    #: Added to the variance of the signal, positive.
    eps: float = 1e-6
    #: Weight of response tokens in neither span, at least 0; None means `alpha`.
    other: float | None = None
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
        self._check("alpha", self.alpha, 0 <= self.alpha <= 1, "must lie in [0, 1]")
        self._check("beta", self.beta, self.beta >= 0, "must be at least 0")
        self._check("eps", self.eps, self.eps > 0, "must be positive")
        self._check("keep_groups", self.keep_groups, 0 < self.keep_groups <= 1, "must lie in (0, 1]")
        if self.other is not None:
            self._check("other", self.other, self.other >= 0, "must be at least 0, or null for the value of alpha")
        if self.signal not in SIGNALS:
            raise ValueError(f"{CONFIG_PATH}.signal={self.signal!r} is not a signal; choose one of {sorted(SIGNALS)}")
        if self.normalize_over not in NORMALIZATIONS:
            raise ValueError(
                f"{CONFIG_PATH}.normalize_over={self.normalize_over!r} is unknown; choose one of {list(NORMALIZATIONS)}"
            )

    @staticmethod
    def _check(name: str, value: float, holds: bool, requirement: str) -> None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and math.isfinite(value) and holds):
            raise ValueError(f"{CONFIG_PATH}.{name}={value!r} {requirement}")

    @property
    def needs_signal(self) -> bool:
        """Whether any weight depends on the signal; with ``beta=0`` none does."""
        return self.beta > 0

    @property
    def needs_reference(self) -> bool:
        """Whether the signal is computed from the frozen reference model."""
        return self.needs_signal and any(name.startswith("ref_") for name in SIGNALS[self.signal].inputs)

    @classmethod
    def from_config(cls, config: DictConfig) -> ActFocusSettings:
        """Read ``algorithm.actfocus`` of a veRL configuration.

        Raises:
            ValueError: the section is missing, has an unknown key, or a value is outside its range.
        """
        section = OmegaConf.select(config, CONFIG_PATH)
        if section is None:
            raise ValueError(f"{CONFIG_PATH} is missing; add +actfocus=default to the command line")
        values = cast("dict[str, Any]", OmegaConf.to_container(section, resolve=True))
        _reject_unknown(CONFIG_PATH, values, cls)
        tags = values.pop("tags", None) or {}
        _reject_unknown(f"{CONFIG_PATH}.tags", tags, TagSettings)
        trajectories = values.pop("trajectories", None) or {}
        _reject_unknown(f"{CONFIG_PATH}.trajectories", trajectories, TrajectorySettings)
        return cls(**values, tags=TagSettings(**tags), trajectories=TrajectorySettings(**trajectories))

    @classmethod
    def tags_from_config(cls, config: DictConfig) -> TagSettings:
        """Read the tag style alone; the default one where ``algorithm.actfocus`` is missing (a stock trainer)."""
        section = OmegaConf.select(config, CONFIG_PATH)
        return TagSettings() if section is None else cls.from_config(config).tags


def _reject_unknown(path: str, values: dict[str, Any], settings: type) -> None:
    known = {f.name for f in fields(settings)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"{path} has no setting {unknown}; it has {sorted(known)}")


def check_compatible(config: DictConfig, settings: ActFocusSettings) -> None:
    """Check a veRL configuration against what ActFocus can honour.

    Raises:
        ValueError: something cannot work; the message names the setting and the remedy.
    """
    algorithm, actor = config.algorithm, config.actor_rollout_ref.actor
    if algorithm.adv_estimator not in BASE_ESTIMATORS:
        raise ValueError(
            f"algorithm.adv_estimator={algorithm.adv_estimator} does not go with +actfocus: "
            f"use one of {sorted(BASE_ESTIMATORS)} (algorithm.actfocus.alpha=1 algorithm.actfocus.beta=0 is the "
            "uniform baseline)"
        )
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
    if settings.needs_signal and config.actor_rollout_ref.model.use_fused_kernels:
        raise ValueError(
            "actor_rollout_ref.model.use_fused_kernels=True hides the logits that the signal is computed from; set it "
            "to False, or algorithm.actfocus.beta=0"
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
    """Reject signals of the old policy at another temperature when veRL does not run the old policy."""
    correction = config.algorithm.get("rollout_correction") or {}
    if not correction.get("bypass_mode", False):
        return
    if correction.get("rollout_is") or correction.get("rollout_rs"):
        raise ValueError(
            "algorithm.rollout_correction: with bypass_mode=True veRL applies rollout_is and rollout_rs in a policy "
            "loss of its own, which the weighted loss would replace; set bypass_mode=False, or both of them to null"
        )
    uses_old = settings.needs_signal and "old_log_prob" in SIGNALS[settings.signal].inputs
    if uses_old and config.actor_rollout_ref.rollout.temperature != 1.0:
        raise ValueError(
            f"{CONFIG_PATH}.signal={settings.signal} needs old log-probabilities at temperature 1, which "
            "algorithm.rollout_correction.bypass_mode=True does not compute; set bypass_mode=False"
        )
