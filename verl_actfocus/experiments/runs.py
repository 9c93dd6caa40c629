"""One training run: what is trained how, and the veRL command line that does it.

A run is a stock ``python -m verl.trainer.main_ppo`` command: whoever wants to repeat it without this package's command
line copies it from the report.
"""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from verl_actfocus import models

#: Algorithm → advantage estimator.
ESTIMATORS = {"grpo": "actfocus_grpo", "ppo": "actfocus_gae"}
#: The method that others are compared with.
BASELINE = "uniform"
#: Methods whose configuration group has another name than the method.
_METHOD_GROUPS = {"actfocus": "default"}
#: Settings that make the difference between the methods.
METHOD_KEYS = tuple(f"algorithm.actfocus.{name}" for name in ("alpha", "beta", "signal", "other", "normalize_over"))
#: Everything in veRL's configuration that is a seed of the training run. The evaluation tasks keep theirs.
SEED_KEYS = (
    "data.seed",
    "actor_rollout_ref.rollout.seed",
    "actor_rollout_ref.actor.fsdp_config.seed",
    "actor_rollout_ref.actor.data_loader_seed",
    "critic.fsdp.seed",
    "critic.data_loader_seed",
)
#: Names veRL's platform; without it veRL takes the accelerator that it finds.
PLATFORM_VARIABLE = "VERL_PLATFORM"


def packaged_groups(folder: str = "") -> list[str]:
    """Return the names of the packaged configuration groups under ``+actfocus`` or one of its folders.

    Example:
        >>> "uniform" in packaged_groups()
        True
    """
    root = files("verl_actfocus.config") / "actfocus"
    entries = (root / folder if folder else root).iterdir()
    names = (entry.name.removesuffix(".yaml") for entry in entries if entry.name.endswith(".yaml"))
    return sorted(name for name in names if not name.startswith("_"))


def methods() -> list[str]:
    """Return the names of the methods: configuration groups under ``+actfocus``."""
    names = {group: method for method, group in _METHOD_GROUPS.items()}
    return sorted({names.get(group, group) for group in packaged_groups()})


def environments() -> list[str]:
    """Return the environments to compare methods on: those with a CPU run profile and a tiny model of their own."""
    names = [name.removeprefix("cpu_") for name in packaged_groups("run") if name.startswith("cpu_")]
    return [name for name in names if name in models.available()]


def require_profile(name: str) -> None:
    """Make sure that there is a run profile of this name.

    Raises:
        ValueError: there is none; the message lists the names.
    """
    _choice("run profile", name, [*packaged_groups("run"), *packaged_groups("recipe")])


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run.

    Raises:
        ValueError: a value is unknown or out of range, or an override is taken; the message says what to do.

    Example:
        >>> run = Run(algorithm="grpo", method="uniform", env="sokoban", seed=0, steps=20, folder=Path("out"))
        >>> "+actfocus/run=cpu_sokoban" in run.overrides()
        True
    """

    #: ``grpo`` or ``ppo``.
    algorithm: str
    #: Name of `methods`.
    method: str
    #: Name of an environment; with `profile` unset it must have a CPU profile.
    env: str
    #: Seed of the training data order, of sampling and of mini-batches, at least 0.
    seed: int
    #: Training steps, at least 1.
    steps: int
    #: Everything the run writes goes here.
    folder: Path
    #: Hydra overrides of the user's own, applied last.
    extra: tuple[str, ...] = ()
    #: Configuration group: of ``+actfocus/run`` for a CPU, of ``+actfocus/recipe`` for GPUs; empty for ``cpu_<env>``.
    profile: str = ""

    def __post_init__(self) -> None:
        _choice("algorithm", self.algorithm, list(ESTIMATORS))
        _choice("method", self.method, methods())
        if not self.profile:
            _choice("environment with a CPU profile", self.env, environments())
            object.__setattr__(self, "profile", f"cpu_{self.env}")
        require_profile(self.profile)
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} must be at least 0")
        if self.steps < 1:
            raise ValueError(f"{self.steps} training steps: there must be at least 1")
        object.__setattr__(self, "folder", Path(self.folder).resolve())
        if "$" in str(self.folder):
            raise ValueError(f"the folder {self.folder} holds a '$', which Hydra takes for a reference; choose another")
        self._check_extra()

    @property
    def on_cpu(self) -> bool:
        """Whether the profile is one for a CPU."""
        return self.profile in packaged_groups("run")

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that the command needs."""
        return {PLATFORM_VARIABLE: "cpu"} if self.on_cpu else {}

    @property
    def name(self) -> str:
        """Short name for people, such as ``grpo uniform seed 0``."""
        return f"{self.algorithm} {self.method} seed {self.seed}"

    def identity(self) -> dict[str, Any]:
        """Return what makes this run this run, as plain values; the folder is not part of it."""
        return {
            "algorithm": self.algorithm,
            "method": self.method,
            "env": self.env,
            "seed": self.seed,
            "steps": self.steps,
            "profile": self.profile,
            "extra": list(self.extra),
        }

    def overrides(self) -> list[str]:
        """Return the Hydra overrides, groups first and the user's own last."""
        assigned = [f"{key}={_in_hydra(value)}" for key, value in self.assigned().items()]
        return [*self._groups(), *assigned, *self.extra]

    def command(self) -> list[str]:
        """Return the command line as a list of arguments."""
        return [sys.executable, "-W", "ignore", "-m", "verl.trainer.main_ppo", *self.overrides()]

    def shell_command(self) -> str:
        """Return the command line, with its environment variables, to paste into a shell."""
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        return " ".join([*variables, "python", shlex.join(self.command()[1:])])

    def folder_keys(self) -> list[str]:
        """Return the settings that only say where the run is written."""
        return list(self._written())

    def _groups(self) -> list[str]:
        group = _METHOD_GROUPS.get(self.method, self.method)
        place = ["run", "+actfocus/device=cpu"] if self.on_cpu else ["recipe"]
        return [f"+actfocus={group}", f"+actfocus/{place[0]}={self.profile}", *place[1:]]

    def assigned(self) -> dict[str, Any]:
        """Return the settings that this class decides; the user's own may not contradict them."""
        return {
            "algorithm.adv_estimator": ESTIMATORS[self.algorithm],
            "trainer.total_training_steps": self.steps,
            **{key: self.seed for key in SEED_KEYS},
            "trainer.resume_mode": "auto",
            "trainer.max_actor_ckpt_to_keep": 1,
            "trainer.max_critic_ckpt_to_keep": 1,
            "trainer.logger": ["file"],
            **self._written(),
        }

    def _written(self) -> dict[str, str]:
        """Settings that say where the run is written."""
        return {
            "trainer.default_local_dir": str(self.folder / "checkpoints"),
            "trainer.validation_data_dir": str(self.folder / "evaluations"),
            "algorithm.actfocus.trajectories.folder": str(self.folder / "trajectories"),
            "hydra.run.dir": str(self.folder / "hydra"),
        }

    def _check_extra(self) -> None:
        taken = [*self.assigned(), "actfocus", "actfocus/run", "actfocus/recipe", "actfocus/device"]
        for override in self.extra:
            key, equals, _ = override.partition("=")
            key = key.lstrip("+~")
            if not key or not (equals or override.startswith("~")):
                raise ValueError(f"{override!r} is not a Hydra override such as actor_rollout_ref.actor.optim.lr=1e-4")
            if key in taken:
                raise ValueError(f"{key} is set by the comparison itself and cannot be overridden with {override!r}")
            if self.method == BASELINE and key in METHOD_KEYS:
                raise ValueError(
                    f"{override!r} would make the method 'uniform' something else; "
                    "give it to a comparison with --methods actfocus alone, in a folder of its own"
                )


def metrics_override(path: Path) -> str:
    """Return the Hydra override that lets veRL's ``file`` logger write to a path.

    It reaches the trainer through Ray, so also in a cluster that was started from another shell, where an environment
    variable of this process is unknown.
    """
    return f"++ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH={_in_hydra(str(path))}"


def _in_hydra(value: Any) -> str:
    """A value in Hydra's grammar, in which a space, a comma or an equals sign means something."""
    if isinstance(value, list):
        return f"[{','.join(map(_in_hydra, value))}]"
    if not isinstance(value, str) or re.fullmatch(r"[\w./-]+", value):
        return str(value)
    return "'" + value.replace("'", r"\'") + "'"


def _choice(what: str, value: str, known: list[str]) -> None:
    if value not in known:
        raise ValueError(f"unknown {what} {value!r}: choose one of {', '.join(known)}")
