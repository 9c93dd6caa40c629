"""Which tokenizer a model has, read as its own files describe it, and what tells it from another."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from verl_actfocus import models
from verl_actfocus.storage.errors import first_line

#: Tokenizer classes that say "what is in the file" and nothing about a model family.
_AS_IN_THE_FILE = ("PreTrainedTokenizerFast", "TokenizersBackend")


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer as its own files describe it.

    `AutoTokenizer` goes by the model where both lie in one folder, as in a checkpoint of veRL's: a tokenizer of one's
    own beside a `qwen2` configuration would become Qwen2's and split text in another way than in training.

    Args:
        name: folder or hub name.

    Raises:
        ValueError: there is no tokenizer, or a slow one, whose responses could not be tagged.
    """
    described = Path(name) / "tokenizer_config.json"
    settings: dict[str, Any] = json.loads(described.read_text(encoding="utf-8")) if described.exists() else {}
    family = PreTrainedTokenizerFast if settings.get("tokenizer_class") in _AS_IN_THE_FILE else AutoTokenizer
    try:
        tokenizer = family.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no tokenizer could be read from {name}: {first_line(error)}; name a folder with a tokenizer.json, a "
            f"model on the hub, or one that ships with the package ({', '.join(models.available())})"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(f"{name} has no fast tokenizer, which tagging needs; add a tokenizer.json to it")
    return tokenizer


def tokenizer_identity(name: str, tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """Return what tells a tokenizer from another: where it lies, and a digest of its vocabulary and chat template."""
    folder = Path(name).expanduser()
    content = json.dumps([sorted(tokenizer.get_vocab().items()), tokenizer.chat_template])
    return {
        "tokenizer": str(folder.resolve()) if folder.is_dir() else name,
        "tokenizer_sha256": hashlib.sha256(content.encode()).hexdigest(),
    }
