"""Tags other than the standard ones, and a tiny model that writes them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from verl_actfocus import models
from verl_actfocus.episodes import STANDARD_TAGS, TagSettings

#: A response has to write all four tags itself.
FOREIGN = TagSettings(action=("<act>", "</act>"), reasoning=("<reason>", "</reason>"), prefill="")
#: The same, with the prefill that the tiny models were taught to continue.
FOREIGN_PREFILLED = TagSettings(action=FOREIGN.action, reasoning=FOREIGN.reasoning, prefill="<reason>")


def foreign_model(name: str, folder: Path) -> Path:
    """Write a shipped tiny model whose four tag tokens are spelled as in `FOREIGN`.

    Args:
        name: name of the miniature.
        folder: where `model/` and `tokenizer/` go.

    Returns:
        The folder. Ids are what they were, so the model plays as it was taught to and its text has foreign tags.
    """
    shutil.copytree(models.folder(name), folder)
    file = folder / "tokenizer/tokenizer.json"
    description = json.loads(file.read_text(encoding="utf-8"))
    spelling = dict(zip(STANDARD_TAGS.tags, FOREIGN.tags, strict=True))
    for token in description["added_tokens"]:
        token["content"] = spelling.get(token["content"], token["content"])
    file.write_text(json.dumps(description, ensure_ascii=False), encoding="utf-8")
    return folder
