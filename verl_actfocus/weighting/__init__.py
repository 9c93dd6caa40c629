"""The mathematics of He et al. 2026 in pure torch, one file per step of the method.

``spans``
    What part of a response a token belongs to: reasoning, action, or neither.
``signals``
    One number per token that says how unsure the model is: token energy (Eq. 4) and its alternatives (Eq.
    20-22).
``weights``
    From spans and a signal to the weight of every token (Eq. 5, 16-18).
``loss``
    The clipped policy loss, normalised by the weights instead of by the token count (Eq. 6).

Tensor names end in their dimensions: B sequences, T response positions, V vocabulary entries.
"""

from verl_actfocus.weighting.loss import PolicyLoss, PolicyLossMetrics, weighted_policy_loss
from verl_actfocus.weighting.signals import SIGNALS, Signal, compute_signal, token_energy, token_entropy
from verl_actfocus.weighting.spans import Span
from verl_actfocus.weighting.weights import SignalStatistics, signal_statistics, token_weights

__all__ = [
    "SIGNALS",
    "PolicyLoss",
    "PolicyLossMetrics",
    "Signal",
    "SignalStatistics",
    "Span",
    "compute_signal",
    "signal_statistics",
    "token_energy",
    "token_entropy",
    "token_weights",
    "weighted_policy_loss",
]
