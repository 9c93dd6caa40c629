"""What a user may name as a model, and how a checkpoint of veRL becomes a model that transformers loads.

veRL's FSDP checkpoints hold one file of weights for each rank and a folder `huggingface` with configuration and
tokenizer (`verl/utils/checkpoint/fsdp_checkpoint_manager.py`). veRL's own merger puts the weights together; it
writes them in bfloat16.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verl_actfocus import models
from verl_actfocus.config.models import names_folder
from verl_actfocus.storage.disk import full, write_json, writing
from verl_actfocus.storage.locks import locked

#: Where veRL notes the newest step of a run's checkpoints.
_NEWEST = "latest_checkpointed_iteration.txt"
#: Describes the shards of an FSDP checkpoint.
_FSDP = "fsdp_config.json"
#: Folder beside `actor` that the merged model goes to, and the note in it that says what was merged.
_MERGED = "actor_merged"
_NOTE = "merged_from.json"
#: Files of a model's folder that are not its tokenizer's.
_NOT_THE_TOKENIZERS = ("config.json", "generation_config.json")
#: Files of which a tokenizer's folder has at least one.
_TOKENIZERS = ("tokenizer_config.json", "tokenizer.json")


@dataclass(frozen=True)
class ModelSource:
    """Where a model lies."""

    #: Folder or hub name of the weights.
    model: str
    #: Folder or hub name of the tokenizer.
    tokenizer: str
    #: The `actor` folder whose shards have to be merged first; None if there is nothing to merge.
    shards: Path | None = None

    def fingerprint(self) -> dict[str, Any]:
        """Return which files hold the weights, with sizes and times: what tells one model from another."""
        folder = self.shards or Path(self.model)
        if not folder.is_dir():
            return {"model": self.model}
        patterns = ("model_world_size_*.pt",) if self.shards else ("*.safetensors", "*.bin")
        files = sorted(file for pattern in patterns for file in folder.glob(pattern))
        states = [(file.name, file.stat()) for file in files]
        return {
            "model": str(folder.resolve()),
            "weights": [[name, state.st_size, int(state.st_mtime)] for name, state in states],
        }


def find_model(name: str) -> ModelSource:
    """Find the model that a user names.

    Args:
        name: a Hugging Face model's folder, one that `actfocus warmstart` wrote, a veRL checkpoint
            (`global_step_N` or its `actor`), the folder of a run or of its checkpoints (the newest step counts),
            a model that ships with the package (`frozenlake`), or a name on the Hugging Face hub. A folder that is
            there comes first.

    Raises:
        ValueError: the folder holds no model, or one that cannot be evaluated; the message says what to name instead.
    """
    folder = Path(name).expanduser()
    if not folder.exists():
        if folder.name.startswith("global_step_") and folder.parent.is_dir():
            return _checkpoint(folder)  # says which steps there are
        if name not in models.available():
            if names_folder(name):
                raise ValueError(
                    f"{name}: there is no such folder (models that ship with the package are named "
                    f"{', '.join(models.available())}, without a path)"
                )
            return ModelSource(name, name)
        folder = models.folder(name)
    for run in (folder / "checkpoints", folder):
        if (run / _NEWEST).exists():
            return _checkpoint(run / f"global_step_{(run / _NEWEST).read_text().strip()}")
    if folder.name.startswith("global_step_") or (folder / "actor").is_dir():
        return _checkpoint(folder)
    if (folder / _FSDP).exists():
        return _actor(folder)
    for model, tokenizer in ((folder, folder), (folder / "model", folder / "tokenizer")):
        if (model / "config.json").exists():
            return ModelSource(str(model), str(tokenizer))
    raise ValueError(
        f"{name} holds no model: neither {folder / 'config.json'} nor {folder / 'model' / 'config.json'} exists, and "
        "it is no checkpoint of veRL's; name the folder of a Hugging Face model, one that 'actfocus warmstart' wrote, "
        "or a checkpoint (global_step_N)"
    )


def find_tokenizer(name: str) -> ModelSource:
    """Find the tokenizer that a user names, and the configuration of its model where there is one.

    Args:
        name: whatever `find_model` takes, or the folder of a tokenizer alone.

    Returns:
        Where both lie; of a checkpoint they need no merging.

    Raises:
        ValueError: the folder holds neither a tokenizer nor a model.

    Example:
        >>> Path(find_tokenizer("frozenlake").tokenizer).name
        'tokenizer'
    """
    folder = Path(name).expanduser()
    if any((folder / file).exists() for file in _TOKENIZERS):
        return ModelSource(str(folder), str(folder))
    return find_model(name)


def merge(source: ModelSource) -> ModelSource:
    """Merge the shards of a checkpoint, unless that was done before.

    The model goes into a folder beside `actor`, so that it can be evaluated again, served or trained on. Of several
    processes that ask for it at once, one merges and the others wait.

    Args:
        source: what `find_model` returned; without shards it is returned as it is.

    Raises:
        ValueError: veRL's merger failed, or the checkpoint holds LoRA adapters; the message says what to do.
        ExperimentError: the disk is full.
    """
    if source.shards is None:
        return source
    target = source.shards.with_name(_MERGED)
    fingerprint = source.fingerprint()
    if _read(target / _NOTE) != fingerprint:
        with locked(target.parent, f".{_MERGED}.lock", wait=True):
            if _read(target / _NOTE) != fingerprint:  # nobody has merged it in the meantime
                _merge(source.shards, target, fingerprint)
    return ModelSource(str(target), str(target))


def _merge(shards: Path, target: Path, fingerprint: dict[str, Any]) -> None:
    partial = target.with_name(f"{_MERGED}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    _run_merger(shards, partial)
    # transformers takes the tokenizer for one of the model's family and splits text in another way; the
    # checkpoint's own files are those of the training.
    with writing(partial):
        for file in (shards / "huggingface").iterdir():
            if file.name not in _NOT_THE_TOKENIZERS:
                shutil.copy(file, partial)
    write_json(partial / _NOTE, fingerprint)
    shutil.rmtree(target, ignore_errors=True)
    partial.replace(target)


def _checkpoint(folder: Path) -> ModelSource:
    actor = folder / "actor"
    if actor.is_dir():
        return _actor(actor)
    others = sorted(folder.parent.glob("global_step_*/actor"), key=lambda path: _step(path.parent))
    kept = ", ".join(path.parent.name for path in others) or "none of the steps"
    raise ValueError(
        f"{folder} holds no actor: veRL keeps the newest checkpoints only (trainer.max_actor_ckpt_to_keep); "
        f"{kept} in {folder.parent} has one"
    )


def _actor(folder: Path) -> ModelSource:
    described = folder / "huggingface"
    config = _read(described / "config.json")
    if config is None or not (folder / _FSDP).exists():
        raise ValueError(
            f"{folder} is not an FSDP checkpoint of veRL's: {_FSDP} or huggingface/config.json is missing; merge one "
            "of another backend with 'python -m verl.model_merger' and name the merged folder"
        )
    if not any("CausalLM" in name for name in config.get("architectures") or ()):
        raise ValueError(f"{folder} holds {config.get('architectures')}, not a language model; name the actor's folder")
    if (folder / "lora_train_meta.json").exists():
        raise ValueError(
            f"{folder} holds LoRA adapters, which veRL's merger leaves apart from the model; merge them with peft "
            "(merge_and_unload) and name the merged folder"
        )
    if any(described.glob("*.safetensors")):  # checkpoint.save_contents has hf_model
        return ModelSource(str(described), str(described))
    return ModelSource(str(described), str(described), shards=folder)


def _run_merger(shards: Path, target: Path) -> None:
    words = ["merge", "--backend", "fsdp", "--local_dir", str(shards.resolve()), "--target_dir", str(target.resolve())]
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "verl.model_merger", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
    )
    if finished.returncode != 0:
        lines = (finished.stderr.strip() or finished.stdout.strip() or "nothing was printed").splitlines()
        last = full(target.parent, lines, "make room there; the same command then merges again") or lines[-1]
        raise ValueError(
            f"veRL's merger could not merge {shards}: {last} (python -m verl.model_merger {' '.join(words)})"
        )


def _step(folder: Path) -> int:
    match = re.fullmatch(r"global_step_(\d+)", folder.name)
    return int(match[1]) if match else -1


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
