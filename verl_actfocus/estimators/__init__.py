"""Advantage estimators in pure torch: how rewards become the advantages that the weights multiply.

`base`
    What an estimator is: `Estimator`, the `TrajectoryBatch` that it reads, the registry, `estimator_from` a name, and
    `computed_estimate`, which checks what it returns.
`schemes`
    The estimators, a file each. `grpo` and `gae` are veRL's own; `gigpo` is GRPO, and once more among the turns that
    began in the same state; `optimal_baseline` has veRL's optimal token baselines, over the whole response or over the
    model's tokens alone; `turn_gae` is GAE over turns.
`groups`
    Groups with nothing to compare, where GRPO's advantages are 0.
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
from verl_actfocus.estimators.schemes.gae import GAE
from verl_actfocus.estimators.schemes.gigpo import GiGPO
from verl_actfocus.estimators.schemes.grpo import GRPO
from verl_actfocus.estimators.schemes.optimal_baseline import MultiTurnOptimalTokenBaseline, OptimalTokenBaseline
from verl_actfocus.estimators.schemes.turn_gae import TurnGAE

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
