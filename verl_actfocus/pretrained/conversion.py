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
    if gguf is None:
        return Loaded(model=model, tokenizer=tokenizer, origin=origin, stored_as="safetensors")
    _take_ends(tokenizer, gguf)
    return Loaded(model=model, tokenizer=tokenizer, origin=origin, stored_as=_stored_as(gguf))


def complete(loaded: Loaded) -> None:
    """Give a model what training needs and its files may lack: a padding token of its own, generation settings.

    A padding token that is the end of a turn, as many files have it, would hide the ends of turns from everybody who
    leaves padding out by its token.

    Raises:
        ValueError: there is no token to pad with, or the end of sequence is not what the chat template closes a
            response with.
    """
    tokenizer, model = loaded.tokenizer, loaded.model
    conversation = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "response"}]
    behind = str(tokenizer.apply_chat_template(conversation, tokenize=False)).partition("response")[2]
    if not behind.lstrip().startswith(str(tokenizer.eos_token)):
        raise ValueError(
            f"{loaded.origin}: the chat template closes a response with {behind!r}, and the tokenizer's end of "
            f"sequence is {tokenizer.eos_token!r}: a turn would not end"
        )
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.model_max_length = model.config.max_position_embeddings
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


def _take_ends(tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Give a tokenizer the first and last tokens that its GGUF file names; transformers 5.10 confuses them."""
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    for name in ("bos", "eos"):
        field = fields.get(f"tokenizer.ggml.{name}_token_id")
        if field is not None:
            setattr(tokenizer, f"{name}_token", tokenizer.convert_ids_to_tokens(int(field.contents())))


def _stored_as(path: Path) -> str:
    """Say how the weights of a GGUF file are stored: the type of most of them."""
    from gguf import GGUFReader

    counts: dict[str, int] = {}
    for tensor in GGUFReader(path).tensors:
        counts[tensor.tensor_type.name] = counts.get(tensor.tensor_type.name, 0) + int(tensor.n_elements)
    total = sum(counts.values())
    kinds = sorted(counts.items(), key=lambda item: -item[1])
    return "GGUF, " + ", ".join(f"{kind} {count / total:.1%}" for kind, count in kinds)
