"""One training run: what is trained how, and the veRL command line that does it.

A run is a stock `python -m verl.trainer.main_ppo` command: whoever wants to repeat it without this package's command
line copies it from the report.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verl_actfocus.config.groups import packaged_groups, profile_folder
from verl_actfocus.experiments.runs.alpha import resolved
from verl_actfocus.experiments.runs.estimators import ESTIMATOR_SECTION, OWN, PACKAGED, EstimatorChoice, estimators_of
from verl_actfocus.experiments.runs.hydra_words import MODULES_VARIABLE, in_hydra, key_of, modules_overrides
from verl_actfocus.experiments.runs.weightings import SECTION, WeightingChoice

#: Algorithm → value of `algorithm.adv_estimator` for its own estimator.
ESTIMATORS = {algorithm: choice.verl_name for algorithm, choice in OWN.items()}
#: Everything in veRL's configuration that is a seed of the training run. The evaluation tasks keep theirs.
SEED_KEYS = (
    "data.seed",
    "actor_rollout_ref.rollout.seed",
    "actor_rollout_ref.actor.fsdp_config.seed",
    "actor_rollout_ref.actor.data_loader_seed",
    "critic.fsdp.seed",
    "critic.data_loader_seed",
)
#: Device of a miniature → its configuration group, after the profile's.
DEVICES = {"cpu": "+actfocus/device=cpu", "cuda": "+actfocus/device=cuda"}
#: Settings that a run proposes and a user may change: its name and where else than into a file its metrics go.
PROPOSED_KEYS = ("trainer.experiment_name", "trainer.logger")
#: Names veRL's platform; without it veRL takes the accelerator that it finds.
PLATFORM_VARIABLE = "VERL_PLATFORM"


def environments() -> list[str]:
    """Return the packaged environments with a profile for a CPU, which starts from a tiny model of their own."""
    profiles = packaged_groups("run")
    return [name for name in packaged_groups("env") if f"cpu_{name}" in profiles]


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What runs that are compared have in common.

    Raises:
        ValueError: a value is unknown or out of range, or an override is taken; the message says what to do.
    """

    #: Configuration group: of `+actfocus/run` for a miniature, of `+actfocus/recipe` for GPUs.
    profile: str
    #: `grpo` or `ppo`.
    algorithm: str
    #: Every run is a folder in this one.
    folder: Path
    #: Name of the environment that the runs must be about; empty for whatever the configuration says.
    env: str = ""
    #: Training steps, at least 1; None for the configuration's.
    steps: int | None = None
    #: Whether a recipe is tried on a CPU: two small steps with a tiny model.
    trial: bool = False
    #: Where a miniature is trained, of `DEVICES`; empty for a CPU, and for a recipe.
    device: str = ""
    #: Hydra overrides of the user's own, applied last.
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.algorithm not in ESTIMATORS:
            raise ValueError(f"unknown algorithm {self.algorithm!r}: choose one of {', '.join(ESTIMATORS)}")
        if profile_folder(self.profile) == "run" and self.trial:
            raise ValueError(f"{self.profile} is small and for a CPU as it is: a trial is made of a recipe for GPUs")
        if self.device not in ("", *DEVICES):
            raise ValueError(f"unknown device {self.device!r}: choose one of {', '.join(DEVICES)}")
        if self.device and profile_folder(self.profile) != "run":
            where = "tried on a CPU (--trial)" if self.trial else "for GPUs, or tried on a CPU with --trial"
            raise ValueError(
                f"{self.profile} is {where}, and --device {self.device} is for a miniature; leave it out, or name a "
                "miniature such as cpu_frozenlake"
            )
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"{self.steps} training steps: there must be at least 1")
        object.__setattr__(self, "folder", Path(self.folder).resolve())
        if "$" in str(self.folder):
            raise ValueError(f"the folder {self.folder} holds a '$', which Hydra takes for a reference; choose another")

    @property
    def on_cpu(self) -> bool:
        """Whether the runs are for a CPU."""
        return self.small and self.device != "cuda"

    @property
    def small(self) -> bool:
        """Whether the runs are miniatures or trials, for this machine alone."""
        return self.trial or profile_folder(self.profile) == "run"

    def runs(
        self,
        weightings: Sequence[WeightingChoice],
        seeds: Sequence[int],
        estimators: Sequence[EstimatorChoice] = (),
    ) -> list[Run]:
        """Return the runs of a comparison, every weighting with every estimator, those of one seed next to each other.

        Args:
            weightings: at least one.
            seeds: at least one.
            estimators: none for the algorithm's own.

        Raises:
            ValueError: there are no seeds, or no weightings, or one is named twice, or an estimator is not for this
                algorithm.
        """
        if not seeds or not weightings:
            raise ValueError(f"{len(weightings)} weightings and {len(seeds)} seeds: there must be at least 1 of each")
        chosen = estimators or [OWN[self.algorithm]]
        for what, choices in (("a weighting", weightings), ("an estimator", chosen)):
            if len(set(choices)) < len(choices):
                raise ValueError(f"{what} is named twice: {', '.join(map(str, choices))}")
        return [
            Run(conditions=self, weighting=weighting, other_estimator=estimator, seed=seed)
            for seed in seeds
            for estimator in chosen
            for weighting in weightings
        ]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run.

    Raises:
        ValueError: the seed is negative, the estimator is another algorithm's, or an override of the user's own is none
            or is taken.

    Example:
        >>> conditions = Conditions(profile="cpu_sokoban", algorithm="grpo", folder=Path("out"))
        >>> run = Run(conditions=conditions, weighting=WeightingChoice.parse("uniform"), seed=0)
        >>> run.folder.name, "+actfocus/run=cpu_sokoban" in run.overrides()
        ('uniform-seed0', True)
    """

    conditions: Conditions
    weighting: WeightingChoice
    #: Seed of the training data order, of sampling and of mini-batches, at least 0.
    seed: int
    #: None for the algorithm's own.
    other_estimator: EstimatorChoice | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} must be at least 0")
        algorithm = self.conditions.algorithm
        if PACKAGED.get(self.estimator.name, algorithm) != algorithm:
            raise ValueError(
                f"the estimator {self.estimator.name} is for {PACKAGED[self.estimator.name]}, not for {algorithm}; "
                f"choose one of {', '.join(estimators_of(algorithm))}, or another --algorithm"
            )
        self._check_extra()

    @property
    def estimator(self) -> EstimatorChoice:
        """What estimates the advantages."""
        return self.other_estimator or OWN[self.conditions.algorithm]

    @property
    def weights(self) -> WeightingChoice:
        """The weighting as veRL reads it: with the measured α in the place of `alpha=auto`.

        Raises:
            ExperimentError: α is not measured yet, see `verl_actfocus.experiments.runs.alpha`.
        """
        return resolved(self.weighting, self.conditions.folder)

    @property
    def method(self) -> str:
        """Weighting and, where it is not the algorithm's own, estimator, as a part of a file's name.

        Example:
            >>> conditions = Conditions(profile="cpu_sokoban", algorithm="grpo", folder=Path("out"))
            >>> uniform, gigpo = WeightingChoice.parse("uniform"), EstimatorChoice.parse("gigpo")
            >>> Run(conditions=conditions, weighting=uniform, other_estimator=gigpo, seed=0).method
            'uniform-gigpo'
        """
        own = self.estimator == OWN[self.conditions.algorithm]
        return self.weighting.slug if own else f"{self.weighting.slug}-{self.estimator.slug}"

    @property
    def folder(self) -> Path:
        """Everything that the run writes goes here."""
        return self.conditions.folder / f"{self.method}-seed{self.seed}"

    @property
    def title(self) -> str:
        """Name for people, such as `grpo-sokoban/actfocus-seed1`."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that the command needs."""
        return {PLATFORM_VARIABLE: "cpu"} if self.conditions.on_cpu else {}

    def overrides(self) -> list[str]:
        """Return the Hydra overrides, groups first and the user's own last."""
        return self._overrides({**self.assigned(), **self.proposed()})

    def common_overrides(self) -> tuple[list[str], dict[str, Any]]:
        """Return the overrides without what is this seed's or folder's alone, and that.

        Returns:
            The overrides, and setting → value of what they leave out: nothing if the user's own reach into it.
        """
        values = {**self.assigned(), **self.proposed()}
        single = {*SEED_KEYS, *self.places(), "trainer.experiment_name"}
        if any(f"{key}.".startswith(f"{key_of(override)}.") for key in single for override in self.conditions.extra):
            return self.overrides(), {}
        # Hydra's own is no part of the configuration.
        left_out = {key: value for key, value in values.items() if key in single and not key.startswith("hydra.")}
        return self._overrides({key: value for key, value in values.items() if key not in single}), left_out

    def _overrides(self, assigned: Mapping[str, Any]) -> list[str]:
        given = self.conditions
        profile = f"+actfocus/{profile_folder(given.profile)}={given.profile}"
        words = [f"{key}={in_hydra(value)}" for key, value in assigned.items()]
        # Not part of any group, so they are added.
        estimator = [f"++{key}={value}" for key, value in self.estimator.assigned().items()]
        return [*self.weights.overrides(), profile, *self._device(), *words, *estimator, *given.extra]

    def command(self) -> list[str]:
        """Return the command line as a list of arguments."""
        words = [sys.executable, "-W", "ignore", "-m", "verl.trainer.main_ppo"]
        # Before the user's own, which win.
        return [*words, *modules_overrides(), *self.overrides()]

    def shell_command(self) -> str:
        """Return the command line, with its environment variables, to paste into a shell."""
        modules = {name: os.environ[name] for name in (MODULES_VARIABLE, "PYTHONPATH") if os.environ.get(name)}
        modules = modules if MODULES_VARIABLE in modules else {}
        variables = [f"{name}={shlex.quote(value)}" for name, value in {**modules, **self.environment}.items()]
        return " ".join([*variables, "python", shlex.join(self.command()[1:])])

    def assigned(self) -> dict[str, Any]:
        """Return the settings that a run decides; the user's own may not contradict them."""
        steps = self.conditions.steps
        return {
            "algorithm.adv_estimator": self.estimator.verl_name,
            **({} if steps is None else {"trainer.total_training_steps": steps}),
            **{key: self.seed for key in SEED_KEYS},
            "trainer.resume_mode": "auto",
            "trainer.max_actor_ckpt_to_keep": 1,
            "trainer.max_critic_ckpt_to_keep": 1,
            **self.places(),
        }

    def proposed(self) -> dict[str, Any]:
        """Return the settings that a run proposes and a user may change."""
        name = f"{self.conditions.folder.name}-{self.folder.name}"
        return dict(zip(PROPOSED_KEYS, (name, ["file"]), strict=True))

    def places(self) -> dict[str, str]:
        """Return the settings that say where the run is written."""
        return {
            "trainer.default_local_dir": str(self.folder / "checkpoints"),
            "trainer.validation_data_dir": str(self.folder / "evaluations"),
            "algorithm.actfocus.trajectories.folder": str(self.folder / "trajectories"),
            "hydra.run.dir": str(self.folder / "hydra"),
        }

    def _device(self) -> list[str]:
        """The device's group; of a recipe none."""
        given = self.conditions
        if given.trial:
            return ["+actfocus/device=cpu_trial"]
        return [DEVICES[given.device or "cpu"]] if given.small else []

    def _check_extra(self) -> None:
        taken = [*self.assigned(), "actfocus", "actfocus/run", "actfocus/recipe", "actfocus/device"]
        for override in self.conditions.extra:
            key = key_of(override)
            if not key or not ("=" in override or override.startswith("~")):
                raise ValueError(f"{override!r} is not a Hydra override such as actor_rollout_ref.actor.optim.lr=1e-4")
            if key in taken:
                raise ValueError(f"{key} is set by the run itself and cannot be overridden with {override!r}")
            for section, what, example in (
                (SECTION, "weighting", "actfocus alpha=0.3"),
                (ESTIMATOR_SECTION, "estimator", "gigpo omega=0.5"),
            ):
                if key == section or key.startswith(f"{section}."):
                    raise ValueError(
                        f"{override!r} would change every {what} unseen; name the setting with the {what} that it "
                        f"is for, such as {example!r}"
                    )
