"""A wrong setting is refused by the command itself: before Ray is started, and without a traceback through its workers.

veRL's entrance calls `validate_config` first (`verl/trainer/main_ppo.py`), which knows nothing of this package.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from omegaconf import DictConfig, OmegaConf
from verl.utils import config as verl_config

from verl_actfocus.config.compatibility import TRAINER_MODE, check_vllm, checked_settings
from verl_actfocus.integration.checkpoints import require_own_checkpoint
from verl_actfocus.integration.estimators import require_trainer

_stock = verl_config.validate_config


@wraps(_stock)
def validate_config(config: DictConfig, *args: Any, **kwargs: Any) -> None:
    """Check what this package reads, if the run asks for it, and then what veRL checks.

    Raises:
        ValueError: a setting is out of range or cannot be honoured; the message names it and the remedy.
    """
    check_vllm(config)
    require_trainer(config)
    # Entries of other people's own may lack the section.
    if OmegaConf.select(config, "trainer.v1.trainer_mode") == TRAINER_MODE:
        settings = checked_settings(config)
        require_own_checkpoint(config)
        if settings.estimator.base == "gae":
            # veRL knows of the critic by the estimator name "gae" only, and says that it is disabled.
            kwargs["use_critic"] = True
    _stock(config, *args, **kwargs)


def install() -> None:
    """Put the check where veRL's entrance finds it; may be repeated."""
    verl_config.validate_config = validate_config
