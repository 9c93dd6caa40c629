"""From a model's files to one folder with weights, tokenizer, generation settings and card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from verl_actfocus.pretrained.sources import Pretrained

#: Ends a text, and so no turn of a ChatML model, whose turns end with `<|im_end|>`.
PADDING = "<|endoftext|>"
CARD = "README.md"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model in memory, with what its card says about where it comes from."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    #: Where the files were, with version or commit.
    origin: str
    #: How the weights were stored there.
    stored_as: str


def load(folder: Path, origin: str, gguf: Path | None = None) -> Loaded:
    """Load a model in float32.

    Args:
        folder: where its files are.
        origin: where they come from, for the card.
        gguf: the file in that folder that holds all of it; None for a folder of the hub.

    Raises:
        ValueError: the files are no model with a chat template.
    """
    options = {} if gguf is None else {"gguf_file": gguf.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"{gguf or folder} cannot be read as a model: {error}; delete {folder}, and the same command fetches it "
            "again"
        ) from error
    if not tokenizer.chat_template:
        raise ValueError(f"{gguf or folder} has no chat template: it is no instruction-tuned model")
    stored_as = _stored_as(gguf) if gguf is not None else "safetensors"
    return Loaded(model=model, tokenizer=tokenizer, origin=origin, stored_as=stored_as)


def complete(loaded: Loaded) -> None:
    """Give a model what training needs and its files may lack: a padding token of its own, generation settings.

    A padding token that is the end of a turn, as many files have it, would hide the ends of turns from everybody who
    leaves padding out by its token.
    """
    tokenizer, model = loaded.tokenizer, loaded.model
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        if PADDING not in tokenizer.get_vocab():
            raise ValueError(f"{loaded.origin} has no token {PADDING} to pad with")
        tokenizer.pad_token = PADDING
    for settings in (model.config, model.generation_config):
        settings.bos_token_id = tokenizer.bos_token_id
        settings.eos_token_id = tokenizer.eos_token_id
        settings.pad_token_id = tokenizer.pad_token_id


def save(loaded: Loaded, name: str, pretrained: Pretrained, folder: Path) -> None:
    """Write weights (safetensors, float32), tokenizer, generation settings and card."""
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    (folder / CARD).write_text(card(loaded, name, pretrained), encoding="utf-8")


def card(loaded: Loaded, name: str, pretrained: Pretrained) -> str:
    """Return the text of the model card."""
    title = pretrained.hub.rsplit("/", maxsplit=1)[-1]
    return f"""---
license: {pretrained.licence}
base_model: {pretrained.hub}
---

# {title}

{loaded.model.num_parameters():,} parameters in float32, tokenizer with its chat template.

- Model: [{pretrained.hub}](https://huggingface.co/{pretrained.hub}), licence {pretrained.licence}. It is its makers'
  work; nothing was trained here.
- Files from: {loaded.origin}.
- Weights stored there as: {loaded.stored_as}. What rounding took away is not brought back by float32.
- Changed: the padding token is `{loaded.tokenizer.pad_token}`, so that it is not the end of a turn
  (`{loaded.tokenizer.eos_token}`).

Written by `actfocus model {name} --out DIR`.
"""


def _stored_as(path: Path) -> str:
    """Say how the weights of a GGUF file are stored: the type of most of them."""
    from gguf import GGUFReader

    counts: dict[str, int] = {}
    for tensor in GGUFReader(path).tensors:
        counts[tensor.tensor_type.name] = counts.get(tensor.tensor_type.name, 0) + int(tensor.n_elements)
    total = sum(counts.values())
    kinds = sorted(counts.items(), key=lambda item: -item[1])
    return "GGUF, " + ", ".join(f"{kind} {count / total:.1%}" for kind, count in kinds)
