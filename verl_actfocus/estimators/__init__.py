"""Advantage estimators in pure torch, one file each: how rewards become the advantages that the weights multiply.

`base`
    What an estimator is: `Estimator`, the `TrajectoryBatch` that it reads, the registry, `estimator_from` a name, and
    `computed_estimate`, which checks what it returns.
`grpo`, `gae`
    veRL's own; GRPO's are 0 in groups with nothing to compare (`groups`).
`gigpo`
    GRPO, and once more among the turns that began in the same state.
`optimal_baseline`
    veRL's optimal token baselines, over the whole response or over the model's tokens alone.
`turn_gae`
    GAE over turns.
`turns`
    From tokens to turns and back.
"""

from verl_actfocus.estimators.base import (
    ESTIMATORS,
    PREFIX,
    Estimate,
    Estimator,
    Place,
    TrajectoryBatch,
    computed_estimate,
    estimator_from,
    register_estimator,
)
from verl_actfocus.estimators.gae import GAE
from verl_actfocus.estimators.gigpo import GiGPO
from verl_actfocus.estimators.grpo import GRPO
from verl_actfocus.estimators.optimal_baseline import MultiTurnOptimalTokenBaseline, OptimalTokenBaseline
from verl_actfocus.estimators.turn_gae import TurnGAE

__all__ = [
    "ESTIMATORS",
    "GAE",
    "GRPO",
    "PREFIX",
    "Estimate",
    "Estimator",
    "GiGPO",
    "MultiTurnOptimalTokenBaseline",
    "OptimalTokenBaseline",
    "Place",
    "TrajectoryBatch",
    "TurnGAE",
    "computed_estimate",
    "estimator_from",
    "register_estimator",
]
