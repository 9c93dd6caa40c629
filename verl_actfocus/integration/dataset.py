"""Episodes as veRL data: a dataset whose rows are seeds of an environment, without any file.

veRL takes prompts from a dataset and gives each row to `rollout.n` agent loops. Here a row names an environment and
a seed; the agent loop resets the environment with it, so a group shares its initial state. Selected by
`data.custom_cls` (packaged in the environment configurations); `data.train_files` and `data.val_files` hold the
words `train` and `val` instead of paths.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from omegaconf import DictConfig
from torch.utils.data import Dataset

from verl_actfocus.config.environment import EnvironmentSettings

#: Name of the agent loop, see `verl_actfocus.integration.agent_loop`.
AGENT_NAME = "actfocus_episode"
SPLITS = ("train", "val")


class EnvironmentDataset(Dataset):
    """Rows that name an environment and a seed, in the form of veRL's RLHF dataset.

    Args:
        data_files: `train` or `val` (or a list holding that one word).
        tokenizer: unused; part of veRL's signature.
        processor: unused; part of veRL's signature.
        config: veRL's `data` section.
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
            "phrasing": asdict(settings.phrasing()),
            "format_penalty": settings.format_penalty,
            "step_timeout": settings.step_timeout,
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
