"""A plugin of vLLM's CPU build: weights that veRL sends after start-up take effect.

vLLM calls it in every process, before it builds a model.
"""

from __future__ import annotations


def let_weights_change() -> None:
    """Compute linear layers with torch instead of oneDNN.

    oneDNN's layers hold a packed copy of the weights they were built with and drop the weights themselves
    (`dispatch_cpu_unquantized_gemm` in `vllm/model_executor/layers/utils.py`): new ones have nowhere to go.
    """
    from vllm import _custom_ops

    _custom_ops._supports_onednn = False
