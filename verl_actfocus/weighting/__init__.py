"""Token weights in pure torch, and the loss that they go into.

`base`
    What a weighting is: `Weighting`, the `TokenBatch` that it reads, the registry, `weighting_from` a configuration.
`schemes`
    The weightings, a file each, with its equation and its source. `actfocus` is He et al. 2026 (Eq. 5, 16-18).
`inputs`
    What a scheme may read beyond the batch, by name, and which forward pass delivers it.
`probe`
    A trial of a scheme on a few drawn trajectories, before anything is built.
`spans`
    What part of a response a token belongs to: reasoning, action, or neither.
`signals`
    One number per token that says how unsure the model is: token energy (Eq. 4) and its alternatives (Eq.
    20-22).
`loss`
    The clipped policy loss, normalised by the weights instead of by the token count (Eq. 6).
`shares`
    Where tokens, weight and gradient lie, whatever the scheme.

Tensor names end in their dimensions: B sequences, T response positions, V vocabulary entries.
"""

from verl_actfocus.weighting.base import (
    WEIGHTINGS,
    TokenBatch,
    Weighting,
    compute_weights,
    register_weighting,
    turn_indices,
    weighting_from,
)
from verl_actfocus.weighting.loss import PolicyLoss, PolicyLossMetrics, weighted_policy_loss
from verl_actfocus.weighting.schemes.actfocus import ActFocus, SignalStatistics, signal_statistics, token_weights
from verl_actfocus.weighting.schemes.entropy_top import EntropyTop
from verl_actfocus.weighting.schemes.turn_balanced import TurnBalanced
from verl_actfocus.weighting.schemes.uniform import Uniform
from verl_actfocus.weighting.shares import share_metrics
from verl_actfocus.weighting.signals import (
    SIGNALS,
    Signal,
    compute_signal,
    token_energy,
    token_entropy,
    token_sum_pi_squared,
)
from verl_actfocus.weighting.spans import Span

__all__ = [
    "SIGNALS",
    "WEIGHTINGS",
    "ActFocus",
    "EntropyTop",
    "PolicyLoss",
    "PolicyLossMetrics",
    "Signal",
    "SignalStatistics",
    "Span",
    "TokenBatch",
    "TurnBalanced",
    "Uniform",
    "Weighting",
    "compute_signal",
    "compute_weights",
    "register_weighting",
    "share_metrics",
    "signal_statistics",
    "token_energy",
    "token_entropy",
    "token_sum_pi_squared",
    "token_weights",
    "turn_indices",
    "weighted_policy_loss",
    "weighting_from",
]
