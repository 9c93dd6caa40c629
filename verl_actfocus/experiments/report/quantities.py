"""What the report of any veRL runs shows: quantities, and the metrics of stock veRL and this package that hold them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from glob import escape
from typing import TypeAlias

from verl_actfocus.experiments.report import evaluations
from verl_actfocus.experiments.report.logged_runs import Group, LoggedRun

#: Spans in the order of a report, and their names for people.
SPANS = {"action": "action", "reasoning": "reasoning", "none": "other"}
#: From a run to the metrics of it that hold a quantity.
Choose: TypeAlias = Callable[[LoggedRun], list[str]]


@dataclass(frozen=True)
class Recorded:
    """Something that runs record over their steps."""

    title: str
    #: Which metrics of a run hold it.
    choose: Choose
    #: Unit for people, "" for a pure number.
    unit: str = ""
    #: The value in this unit is the metric times this.
    factor: float = 1.0
    #: Least and largest value that the metric can have.
    bounds: tuple[float, float] = (-math.inf, math.inf)
    #: Whether it is of each of several things, which the end of the metric's name tells.
    each: bool = False

    def recorded(self, groups: Sequence[Group]) -> list[str]:
        """Return the metrics that hold it in these runs: several where runs differ, or one run has several."""
        return sorted({name for group in groups for run in group.runs for name in self.choose(run)})


def first(*patterns: str) -> Choose:
    """Choose what the first pattern of file names matches that matches any metric of a run."""

    def choose(run: LoggedRun) -> list[str]:
        return next(filter(None, map(run.names, patterns)), [])

    return choose


def share(title: str, choose: Choose, *, each: bool = False) -> Recorded:
    """Return a quantity that is a share, in per cent."""
    return Recorded(title, choose, "%", 100, (0.0, 1.0), each)


def evaluation(name: str, groups: Sequence[Group]) -> Recorded:
    """Return a metric of these runs' evaluations as a quantity."""
    if evaluations.is_share(name, [values for group in groups for values in group.series(name)]):
        return share(name, first(escape(name)))
    return Recorded(name, first(escape(name)), "score")


#: What evaluations measure.
EVALUATION = Recorded("evaluation", evaluations.shown)
SUCCESS = share("success in training", first("rollout/success"))
OUTCOMES = share("outcome in training", partial(evaluations.outcomes, prefix="rollout"), each=True)
REWARD = Recorded("reward", first("critic/score/mean", "critic/rewards/mean"))
# Not rollout/response_length: stock runs do not have it, and it leaves out what the environment says.
LENGTH = Recorded("response length, all turns", first("response_length/mean"), "tokens")
ENTROPY = Recorded("entropy of the policy", first("actor/entropy", "actor/entropy_loss"), "nats a token")
KL = Recorded("KL to the reference", first("actor/kl_loss", "actor/reward_kl_penalty"))
POLICY_KL = Recorded("KL of an update (old, new policy)", first("actor/ppo_kl"))
CLIP = share("clipped tokens", first("actor/pg_clipfrac"))
UPDATE_NORM = Recorded("gradient norm of an update", first("actor/grad_norm"))
IDENTICAL = share("responses identical to a sibling's", first("rollout/identical_responses"))

TRAINING = (SUCCESS, OUTCOMES, REWARD, POLICY_KL, KL, CLIP, UPDATE_NORM)
#: What changes first when a policy collapses onto one answer.
COLLAPSE = (ENTROPY, IDENTICAL, LENGTH)
#: Shares of a span: of the tokens, of their weight, of `Σ w·|Â|`.
SHARES = tuple(
    share(f"share of {what}: {name}", first(f"actfocus/{kind}_share/{span}"))
    for kind, what in {"token": "tokens", "weight": "weight", "gradient": "weight × |advantage|"}.items()
    for span, name in SPANS.items()
)
#: The exact gradient, `verl_actfocus.integration.gradient_report`.
GRADIENT = (
    *(Recorded(f"gradient norm: {name}", first(f"actfocus/gradient_norm/{span}")) for span, name in SPANS.items()),
    Recorded("cosine of reasoning's and action's gradient", first("actfocus/gradient_cosine"), bounds=(-1.0, 1.0)),
    *(
        Recorded(f"gradient {what}, {kind}", first(f"actfocus/gradient_{name}/{kind}"))
        for name, what in {"variance": "variance", "noise_share": "variance over squared norm"}.items()
        for kind in ("weighted", "unweighted")
    ),
)
STOP_REASONS = share("episodes that end by", first("rollout/stop/*"), each=True)
