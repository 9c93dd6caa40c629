"""The tiny models that ship with the package, one folder per environment.

Each folder holds `model/` (weights and configuration), `tokenizer/` and a model card with what was measured;
`actfocus warmstart` writes them. What they were made for is the `MINIATURE` of the environment's folder.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent


def available() -> list[str]:
    """Return the names of the shipped models."""
    return sorted(config.parent.parent.name for config in _HERE.glob("*/model/config.json"))


def folder(name: str) -> Path:
    """Return the folder of a shipped model, with `model/` and `tokenizer/` inside.

    Args:
        name: Name of its environment.

    Raises:
        ValueError: No model of that name is shipped; the message lists the names.

    Example:
        >>> (folder("frozenlake") / "model" / "config.json").exists()
        True
    """
    if name not in available():
        raise ValueError(
            f"no model {name!r} is shipped, only {', '.join(available())}; make one with 'actfocus warmstart'"
        )
    return _HERE / name
