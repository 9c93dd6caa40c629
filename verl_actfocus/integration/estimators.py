"""What veRL's other trainers get under the names of this package's estimators (`verl_actfocus.estimators`): a refusal.

The names are the switch: `ActFocusTrainer` recognises them, estimates and adds the weights, and never calls these
functions. Run by any other trainer the weights would silently be missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from omegaconf import DictConfig, OmegaConf

from verl_actfocus.config.compatibility import LOSS_NAME, TRAINER_MODE
from verl_actfocus.estimators import ESTIMATORS, PREFIX


def _refusing(name: str) -> Callable[..., NoReturn]:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise ValueError(_sentence(f"algorithm.adv_estimator={name}"))

    return refuse


def require_trainer(config: DictConfig) -> None:
    """Refuse what means token weights to a trainer that knows of none.

    Args:
        config: veRL's; entries of other people's own may lack its sections.

    Raises:
        ValueError: the estimator or the loss is this package's, and the trainer is not.
    """
    v1 = OmegaConf.select(config, "trainer.use_v1", default=True)
    mode = OmegaConf.select(config, "trainer.v1.trainer_mode")
    if mode == TRAINER_MODE and v1:
        return
    named = {
        # Those of a user's module too, which veRL's registry has not.
        "algorithm.adv_estimator": {PREFIX + name for name in ESTIMATORS},
        "actor_rollout_ref.actor.policy_loss.loss_mode": (LOSS_NAME,),
        "trainer.v1.trainer_mode": (TRAINER_MODE,),
    }
    for key, ours in named.items():
        if (value := OmegaConf.select(config, key)) in ours:
            found = f"trainer.v1.trainer_mode={mode}" if v1 else "trainer.use_v1=False"
            raise ValueError(_sentence(f"{key}={value}", found))


def _sentence(setting: str, found: str = "") -> str:
    return (
        f"{setting} trains with token weights, which veRL's V1 trainer in the mode {TRAINER_MODE!r} computes and no "
        f"other does{found and f', and this run has {found}'}; add +actfocus=default to the command line, which "
        "selects the mode, and leave trainer.v1.trainer_mode and trainer.use_v1 as they are"
    )


#: Value of `algorithm.adv_estimator` → function.
FUNCTIONS: dict[str, Callable[..., NoReturn]] = {PREFIX + name: _refusing(PREFIX + name) for name in ESTIMATORS}
