"""Episodes as veRL data: a dataset whose rows are seeds of an environment, without any file.

veRL takes prompts from a dataset and gives each row to ``rollout.n`` agent loops. Here a row names an environment and
a seed; the agent loop resets the environment with it, so a group shares its initial state. Selected by
``data.custom_cls`` (packaged in the environment configurations); ``data.train_files`` and ``data.val_files`` hold the
words ``train`` and ``val`` instead of paths.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from torch.utils.data import Dataset

from verl_actfocus.envs import EpisodeLimits, spec

#: Where the settings live in a veRL configuration, relative to ``data``.
SECTION = "environment"
#: Name of the agent loop, see `verl_actfocus.integration.agent_loop`.
AGENT_NAME = "actfocus_episode"
SPLITS = ("train", "val")


@dataclass(frozen=True, kw_only=True)
class EnvironmentSettings:
    """What ``data.environment`` holds.

    Raises:
        ValueError: the environment is unknown or a number is out of range.
    """

    #: Name in `verl_actfocus.envs.ENVIRONMENTS`.
    name: str
    #: Arguments of the environment's constructor for training and evaluation.
    kwargs: dict[str, Any] = field(default_factory=dict)
    #: Constructor arguments that differ in evaluation (a WebShop split).
    val_kwargs: dict[str, Any] = field(default_factory=dict)
    #: Budgets that differ from the environment's own (`EpisodeLimits`).
    limits: dict[str, Any] = field(default_factory=dict)
    #: Reward of a turn without a valid response.
    format_penalty: float = -0.1
    #: Distinct training seeds; every one is a task.
    train_size: int = 100_000
    #: Evaluation tasks; always the same ones.
    val_size: int = 32
    #: First evaluation seed. Training seeds start behind the last evaluation seed of any such range.
    val_seed: int = 0
    #: First training seed.
    train_seed: int = 1_000_000

    def __post_init__(self) -> None:
        spec(self.name)
        for name in ("train_size", "val_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.{SECTION}.{name}={getattr(self, name)} must be at least 1")
        if self.val_seed < self.train_seed + self.train_size and self.train_seed < self.val_seed + self.val_size:
            raise ValueError(
                f"data.{SECTION}: evaluation seeds {self.val_seed}–{self.val_seed + self.val_size - 1} overlap "
                f"training seeds {self.train_seed}–{self.train_seed + self.train_size - 1}; move val_seed or train_seed"
            )

    @classmethod
    def from_config(cls, data_config: DictConfig) -> EnvironmentSettings:
        """Read ``data.environment``.

        Raises:
            ValueError: the section is missing or has an unknown key.
        """
        section = data_config.get(SECTION)
        if section is None:
            raise ValueError(f"data.{SECTION} is missing; add +actfocus/env=<name> to the command line")
        values = cast("dict[str, Any]", OmegaConf.to_container(section, resolve=True))
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(f"data.{SECTION} has no setting {unknown}; it has {sorted(cls.__dataclass_fields__)}")
        return cls(**values)

    def episode_limits(self) -> EpisodeLimits:
        """Return the environment's budgets with the configured changes."""
        return EpisodeLimits(**{**asdict(spec(self.name).limits), **self.limits})


class EnvironmentDataset(Dataset):
    """Rows that name an environment and a seed, in the form of veRL's RLHF dataset.

    Args:
        data_files: ``train`` or ``val`` (or a list holding that one word).
        tokenizer: unused; part of veRL's signature.
        processor: unused; part of veRL's signature.
        config: veRL's ``data`` section.
        max_samples: use only the first so many rows; -1 uses all.

    Raises:
        ValueError: `data_files` is neither split.
    """

    def __init__(
        self,
        data_files: Any,
        tokenizer: Any = None,
        processor: Any = None,
        config: DictConfig | None = None,
        max_samples: int = -1,
    ) -> None:
        split = data_files if isinstance(data_files, str) else ",".join(data_files)
        if split not in SPLITS:
            raise ValueError(
                f"environment episodes come from seeds, not files: set data.train_files=train data.val_files=val, "
                f"got {split!r}"
            )
        if config is None:
            raise ValueError("EnvironmentDataset needs veRL's data configuration, got None")
        settings = EnvironmentSettings.from_config(config)
        training = split == "train"
        self._start = settings.train_seed if training else settings.val_seed
        size = settings.train_size if training else settings.val_size
        self._size = size if max_samples < 0 else min(size, max_samples)
        self._row = {
            "name": settings.name,
            "kwargs": settings.kwargs if training else {**settings.kwargs, **settings.val_kwargs},
            "limits": asdict(settings.episode_limits()),
            "format_penalty": settings.format_penalty,
            "validate": not training,
        }

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> dict[str, Any]:
        seed = self._start + index
        return {
            # The agent loop asks the environment for its messages; veRL counts prompts by this column.
            "raw_prompt": [{"role": "user", "content": f"{self._row['name']} {seed}"}],
            "agent_name": AGENT_NAME,
            "data_source": self._row["name"],
            "environment": {**self._row, "seed": seed},
            "index": index,
        }
