"""Composes a recipe's complete configuration and says what a training step consists of, before any GPU is asked for.

Run by ``launch.sh`` with the Hydra overrides of the training command. It finds veRL's configuration without importing
veRL, so it answers in about a second; ranges of values are checked by the trainer itself when it starts.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from verl_actfocus.config import resolvers
from verl_actfocus.config.selection import groups_kept


@dataclass(frozen=True)
class Step:
    """One training step, counted in trajectories."""

    #: Trajectories that are played.
    played: int
    #: Trajectories of the groups that are kept.
    kept: int
    #: Trajectories of one optimizer step.
    mini_batch: int
    #: GPUs of all nodes; on a CPU training processes, which veRL counts as such.
    gpus: int
    #: ``cuda`` or ``cpu``.
    device: str

    @classmethod
    def of(cls, config: DictConfig) -> Step:
        """Count what a complete configuration asks for.

        Raises:
            ValueError: a count is not a positive integer, or `keep_groups` is no number in (0, 1].
        """
        group = _count(config, "actor_rollout_ref.rollout.n")
        prompts = _count(config, "data.train_batch_size")
        share = config.algorithm.actfocus.keep_groups
        if not isinstance(share, int | float) or not 0 < share <= 1:
            raise ValueError(f"algorithm.actfocus.keep_groups={share!r} must lie in (0, 1]")
        return cls(
            played=prompts * group,
            kept=groups_kept(prompts, share) * group,
            mini_batch=_count(config, "actor_rollout_ref.actor.ppo_mini_batch_size") * group,
            gpus=_count(config, "trainer.n_gpus_per_node") * _count(config, "trainer.nnodes"),
            device=config.trainer.device,
        )

    @property
    def updates(self) -> int:
        """Optimizer steps of the actor in one pass over the kept trajectories."""
        return math.ceil(self.kept / self.mini_batch)

    def __str__(self) -> str:
        fill = self.updates * self.mini_batch - self.kept
        where = "CPU process(es)" if self.device == "cpu" else "GPU(s)"
        return (
            f"{self.played} trajectories played, {self.kept} trained on, {self.updates} optimizer step(s) of "
            f"{self.mini_batch} trajectories, {self.mini_batch // self.gpus} on each of {self.gpus} {where}"
            + (f"; veRL fills up with {fill} empty trajectories" if fill else "")
        )


def _count(config: DictConfig, key: str, least: int = 1) -> int:
    value = OmegaConf.select(config, key)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{key}={value!r} must be an integer of at least {least}")
    return value


def check_sizes(config: DictConfig) -> Step:
    """Check what veRL would find out only after the first rollout.

    Args:
        config: a complete veRL configuration with ``algorithm.actfocus``.

    Returns:
        The training step in trajectories.

    Raises:
        ValueError: sizes do not fit; the message names them and the remedy.
    """
    _count(config, "data.seed", least=0)
    step = Step.of(config)
    if step.mini_batch % step.gpus:
        raise ValueError(
            f"a mini-batch of {step.mini_batch} trajectories cannot be shared equally by {step.gpus} GPUs "
            "(GPUS × NODES); choose a number of GPUs that divides it, or change "
            "actor_rollout_ref.actor.ppo_mini_batch_size (in prompts)"
        )
    longest = config.data.max_prompt_length + config.data.max_response_length
    limit = config.actor_rollout_ref.rollout.max_model_len
    if limit is not None and longest > limit:
        raise ValueError(
            f"data.max_prompt_length + data.max_response_length = {longest} tokens exceed "
            f"actor_rollout_ref.rollout.max_model_len={limit}"
        )
    budget = config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu
    if config.actor_rollout_ref.actor.use_dynamic_bsz and budget < longest:
        raise ValueError(
            f"actor_rollout_ref.actor.ppo_max_token_len_per_gpu={budget} is less than one trajectory of {longest} "
            "tokens, which cannot be split"
        )
    return step


def compose_recipe(overrides: list[str]) -> DictConfig:
    """Compose veRL's configuration with this package's groups, resolved.

    Args:
        overrides: Hydra overrides of the training command.

    Raises:
        ModuleNotFoundError: veRL is not installed, or a module of ``VERL_USE_EXTERNAL_MODULES`` is not found.
        HydraException: a group or a key does not exist, or an override cannot be parsed.
        OmegaConfBaseException: a value refers to nothing or is of the wrong type.
    """
    verl = find_spec("verl")
    if verl is None or not verl.submodule_search_locations:
        raise ModuleNotFoundError('veRL is not installed in this Python; run: pip install -e ".[gpu]"')
    folder = Path(next(iter(verl.submodule_search_locations))) / "trainer" / "config"
    # The plugin tells veRL's command where the groups are and what they may look up; here nothing has loaded it.
    resolvers.register()
    # As veRL does: a user's environment is registered by a module that this variable names.
    for module in filter(None, os.environ.get("VERL_USE_EXTERNAL_MODULES", "").split(",")):
        import_module(module)
    search = "hydra.searchpath=[pkg://verl_actfocus.config]"
    with initialize_config_dir(str(folder), version_base=None):
        config = compose("ppo_trainer", overrides=[*overrides, search], return_hydra_config=True)
    with open_dict(config):
        # Hydra's own section refers to a running job; it is only here so that hydra.run.dir can be overridden.
        del config["hydra"]
    OmegaConf.to_container(config, resolve=True)
    return config


def main(overrides: list[str]) -> int:
    """Compose, check and describe; 2 with one sentence on the standard error for what a user can correct."""
    try:
        print(f"recipe: {check_sizes(compose_recipe(overrides))}")
    except (HydraException, OmegaConfBaseException, ModuleNotFoundError, ValueError) as error:
        print(f"recipe: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
