"""How a model is named: by a folder on this machine, or by its name on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path


def names_folder(name: str) -> bool:
    """Return whether a model's name can only be a folder here: no `<owner>/<model>` of the hub, and no URL.

    `outputs/…` is where the commands of this package write, and no owner on the hub.

    Example:
        >>> names_folder("./model"), names_folder("Qwen/Qwen2.5-0.5B-Instruct"), names_folder("hdfs://host/model")
        (True, False, False)
        >>> names_folder("outputs/smollm2")
        True
    """
    if "://" in name:
        return False
    return Path(name).is_absolute() or name.startswith((".", "~", "outputs/")) or name.count("/") > 1
