"""ActFocus for veRL: a policy loss that weights each token by its span and by the energy of its logits.

What this package exports here is the method (He et al. 2026, arXiv 2605.14558) in pure torch, what a weighting of
your own is built from, and the tagger that finds spans in tokens. Importing it imports neither veRL nor Ray nor
vLLM, so any trainer can use it; everything that touches veRL lives in `verl_actfocus.integration`. torch itself is
imported when one of the names below is first used, so that the environments and the command line start without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from verl_actfocus.tagging import SpanTagger
    from verl_actfocus.weighting import (
        SIGNALS,
        Span,
        TokenBatch,
        Weighting,
        compute_signal,
        register_weighting,
        token_energy,
        token_entropy,
        token_weights,
        weighted_policy_loss,
    )

__version__ = "0.1.0"

__all__ = [
    "SIGNALS",
    "Span",
    "SpanTagger",
    "TokenBatch",
    "Weighting",
    "__version__",
    "compute_signal",
    "register_weighting",
    "token_energy",
    "token_entropy",
    "token_weights",
    "weighted_policy_loss",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "tagging" if name == "SpanTagger" else "weighting"
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
