"""What `actfocus bench step` compares: stock veRL and this package, with and without a KL term, on the same work.

Stock is veRL's own trainer, estimator and loss; rollout server and agent loop are this package's in both, so that
episodes and tokens are the same. Nothing is learned (learning rates of 0): every variant then plays the same episodes
with the same weights in every step, and what differs is what is done with them. No evaluation, no checkpoint, no
trajectory is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from verl_actfocus.benchmarks.devices import run_overrides_of
from verl_actfocus.experiments.runs.hydra_words import in_hydra
from verl_actfocus.experiments.runs.run import ESTIMATORS, SEED_KEYS
from verl_actfocus.experiments.runs.weightings import ACTFOCUS, SECTION

#: Algorithm → veRL's own estimator.
STOCK_ESTIMATORS = {"grpo": "grpo", "ppo": "gae"}
#: veRL's synchronous trainer with workers that a CPU has (`verl_actfocus.integration.sync_trainer.STOCK_CPU_MODE`).
STOCK_MODE = "sync_cpu"


@dataclass(frozen=True)
class Variant:
    """One side of a comparison."""

    name: str
    title: str
    #: Whether tokens are weighted, by this package's trainer.
    weighted: bool
    #: Whether the loss has a KL term, for which stock veRL runs the reference model too.
    kl: bool
    #: Hydra overrides that make the variant, beside those that follow from the fields above.
    extra: tuple[str, ...] = ()
    #: Variant that it is compared with; None for what others are compared with.
    baseline: str | None = None

    def overrides(self, algorithm: str) -> list[str]:
        """Return the Hydra overrides that make the variant; groups come first."""
        chosen = (
            [*ACTFOCUS.overrides(), f"algorithm.adv_estimator={ESTIMATORS[algorithm]}"]
            if self.weighted
            else [f"algorithm.adv_estimator={STOCK_ESTIMATORS[algorithm]}", f"trainer.v1.trainer_mode={STOCK_MODE}"]
        )
        return [*chosen, f"actor_rollout_ref.actor.use_kl_loss={str(self.kl).lower()}", *self.extra]


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("stock-kl", "stock veRL, KL on", weighted=False, kl=True),
        Variant("actfocus-kl", "ActFocus, KL on", weighted=True, kl=True, baseline="stock-kl"),
        Variant(
            "actfocus-kl-shared",
            "ActFocus with shared prompts, KL on",
            weighted=True,
            kl=True,
            extra=("algorithm.actfocus.share_prompts=true",),
            baseline="actfocus-kl",
        ),
        Variant("stock", "stock veRL, KL off", weighted=False, kl=False),
        Variant("actfocus", "ActFocus, KL off", weighted=True, kl=False, baseline="stock"),
        Variant(
            "actfocus-old",
            "ActFocus on the old policy's energy, KL off",
            weighted=True,
            kl=False,
            extra=(f"{SECTION}.signal_source=old",),
            baseline="stock",
        ),
    )
}
"""Name → variant, in the order of the tables and of a round."""


def run_overrides(
    variant: Variant, algorithm: str, *, profile: str, device: str, steps: int, folder: Path, extra: tuple[str, ...]
) -> list[str]:
    """Return the Hydra overrides of one run of a variant.

    Args:
        variant: what is trained.
        algorithm: `grpo` or `ppo`.
        profile: group of `+actfocus/run`.
        device: a key of `verl_actfocus.experiments.runs.run.DEVICES`.
        steps: training steps.
        folder: everything that the run writes goes here.
        extra: further overrides, the same for all variants: model, sizes, the user's own.
    """
    assigned = {
        **dict.fromkeys(SEED_KEYS, "0"),
        **dict.fromkeys(("actor_rollout_ref.actor.optim.lr", "critic.optim.lr"), "0.0"),
        "trainer.total_training_steps": str(steps),
        "trainer.val_before_train": "false",
        "trainer.test_freq": "-1",
        "trainer.save_freq": "-1",
        "trainer.resume_mode": "disable",
        "trainer.logger": "[file]",
        "trainer.default_local_dir": in_hydra(str(folder / "checkpoints")),
        "hydra.run.dir": in_hydra(str(folder / "hydra")),
    }
    chosen = variant.overrides(algorithm)
    groups = [text for text in chosen if text.startswith("+actfocus=")]
    return [
        *groups,
        f"+actfocus/run={profile}",
        *run_overrides_of(device),
        *(text for text in chosen if text not in groups),
        *(f"{key}={value}" for key, value in assigned.items()),
        *extra,
    ]
