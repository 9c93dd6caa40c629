"""A larger model that plays like a tiny one: the same function, padded with zeros and with layers that change nothing.

A randomly initialised model of that size would write no action at all, and its episodes would be of another length.
Here the residual stream holds the tiny model's in its first dimensions and zeros in the others, added heads and
neurons write nothing, and added layers return their input. The arithmetic is that of any model of the size: zeros are
multiplied too.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM

#: Shape of the larger model with a head size of 32: 27 million parameters beside the embedding.
HIDDEN, LAYERS, NEURONS = 512, 8, 1536


def grown(
    tiny: Qwen2ForCausalLM, hidden: int = HIDDEN, layers: int = LAYERS, neurons: int = NEURONS
) -> Qwen2ForCausalLM:
    """Return a larger model with the tiny one's outputs.

    Args:
        tiny: as many key heads as heads, a tied embedding.
        hidden: width of the residual stream, a multiple of the tiny one's head size.
        layers: at least as many as it has.
        neurons: width of the feed-forward layers, at least as many as it has.

    Raises:
        ValueError: the shape is smaller, or the model has another architecture.
    """
    old = tiny.config
    head = old.hidden_size // old.num_attention_heads
    if old.num_key_value_heads != old.num_attention_heads or not old.tie_word_embeddings:
        raise ValueError("only a model with a tied embedding and as many key heads as heads can be grown")
    if hidden % head or hidden < old.hidden_size or layers < old.num_hidden_layers or neurons < old.intermediate_size:
        raise ValueError(
            f"hidden={hidden}, layers={layers}, neurons={neurons} is not a larger shape in heads of {head}"
        )
    settings = copy.deepcopy(old.to_dict())
    settings.update(hidden_size=hidden, num_hidden_layers=layers, intermediate_size=neurons)
    settings.update(num_attention_heads=hidden // head, num_key_value_heads=hidden // head)
    # RMSNorm divides by the root of a mean over more dimensions, of which the added ones are 0.
    share = old.hidden_size / hidden
    settings.update(layer_types=["full_attention"] * layers, rms_norm_eps=old.rms_norm_eps * share)
    large = Qwen2ForCausalLM(Qwen2Config(**settings)).eval()
    with torch.no_grad():
        for name, target in large.named_parameters():
            source = dict(tiny.named_parameters()).get(name)
            if "norm" in name:
                target.fill_(1.0)
                if source is not None:
                    target[: source.numel()] = source * share**0.5
                continue
            if source is None:
                # An added layer: what it would add to the residual stream is 0.
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    target.zero_()
                continue
            target.zero_()
            _corner(target, source).copy_(source)
    return large


def make_larger_model(tiny: Path, folder: Path) -> int:
    """Write a larger model into a folder, unless it is there already, and return how many parameters it has.

    Args:
        tiny: folder of a packaged tiny model, without its tokenizer.
        folder: where the larger one goes.
    """
    if not (folder / "model.safetensors").exists():
        grown(Qwen2ForCausalLM.from_pretrained(tiny)).save_pretrained(folder)
        for file in tiny.glob("generation_config.json"):
            (folder / file.name).write_bytes(file.read_bytes())
    return parameters(Qwen2ForCausalLM.from_pretrained(folder))


def parameters(model: nn.Module) -> int:
    """Count the parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def _corner(target: Tensor, source: Tensor) -> Tensor:
    return target[tuple(slice(size) for size in source.shape)]
