"""What the report of any veRL run shows: quantities, and the metrics of stock veRL and this package that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from verl_actfocus.experiments.report.runs import Group, LoggedRun

#: Spans in the order of a report, and their names for people.
SPANS = {"action": "action", "reasoning": "reasoning", "none": "other"}


@dataclass(frozen=True)
class Quantity:
    """Something that runs record over their steps."""

    title: str
    #: Metrics that hold it, as patterns of file names: of a run, what the first pattern that matches any names.
    patterns: tuple[str, ...]
    #: Unit for people, "" for a pure number.
    unit: str = ""
    #: The value in this unit is the metric times this.
    factor: float = 1.0

    def recorded(self, groups: Sequence[Group]) -> list[str]:
        """Return the metrics that hold it in these runs: several where runs differ, or a pattern names several."""
        found = {name for group in groups for run in group.runs for name in self._of(run)}
        return sorted(found)

    def _of(self, run: LoggedRun) -> list[str]:
        matches = (run.names(pattern) for pattern in self.patterns)
        return next(filter(None, matches), [])


def is_share(name: str) -> bool:
    """Whether an evaluation's metric is a share, which people read in per cent: success, or veRL's accuracy."""
    return name == "val/success" or "/acc/" in name


#: What an evaluation measures; stock veRL names the data source and the number of responses.
EVALUATION = Quantity(
    "evaluation",
    ("val/success", "val-core/*/acc/mean@*", "val-core/*/mean@*", "val-core/*", "val-aux/*/mean@*"),
)
SUCCESS = Quantity("success in training", ("rollout/success",), "%", 100)
REWARD = Quantity("reward", ("critic/score/mean", "critic/rewards/mean"))
# Not rollout/response_length: stock runs do not have it, and it leaves out what the environment says.
LENGTH = Quantity("response length, all turns", ("response_length/mean",), "tokens")
ENTROPY = Quantity("entropy of the policy", ("actor/entropy", "actor/entropy_loss"), "nats a token")
KL = Quantity("KL to the reference", ("actor/kl_loss", "actor/reward_kl_penalty"))
POLICY_KL = Quantity("KL of an update (old, new policy)", ("actor/ppo_kl",))
CLIP = Quantity("clipped tokens", ("actor/pg_clipfrac",), "%", 100)
UPDATE_NORM = Quantity("gradient norm of an update", ("actor/grad_norm",))
IDENTICAL = Quantity("responses identical to a sibling's", ("rollout/identical_responses",), "%", 100)

TRAINING = (SUCCESS, REWARD, POLICY_KL, KL, CLIP, UPDATE_NORM)
#: What changes first when a policy collapses onto one answer.
COLLAPSE = (ENTROPY, IDENTICAL, LENGTH)
#: Shares of a span: of the tokens, of their weight, of `Σ w·|Â|`.
SHARES = tuple(
    Quantity(f"share of {what}: {name}", (f"actfocus/{kind}_share/{span}",), "%", 100)
    for kind, what in {"token": "tokens", "weight": "weight", "gradient": "weight × |advantage|"}.items()
    for span, name in SPANS.items()
)
#: The exact gradient, `verl_actfocus.integration.gradient_report`.
GRADIENT = (
    *(Quantity(f"gradient norm: {name}", (f"actfocus/gradient_norm/{span}",)) for span, name in SPANS.items()),
    Quantity("cosine of reasoning's and action's gradient", ("actfocus/gradient_cosine",)),
    *(
        Quantity(f"gradient {what}, {kind}", (f"actfocus/gradient_{name}/{kind}",))
        for name, what in {"variance": "variance", "noise_share": "variance over squared norm"}.items()
        for kind in ("weighted", "unweighted")
    ),
)
STOP_REASONS = Quantity("episodes that end by", ("rollout/stop/*",), "%", 100)
