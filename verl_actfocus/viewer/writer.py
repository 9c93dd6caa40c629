"""Writes the page: one file that holds its style, its script and all trajectories, and loads nothing."""

from __future__ import annotations

import base64
import json
import zlib
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from verl_actfocus.storage.disk import write_whole
from verl_actfocus.viewer.selection import Selection

#: The script's files, in an order in which what a file runs at once is there already.
_SCRIPTS = ("dom", "data", "signals", "list", "tokens", "chart", "turns", "relatives", "pane", "app")


def write_page(selection: Selection, out: Path) -> None:
    """Write a page of trajectories.

    Args:
        selection: what is on it.
        out: the HTML file; its folder is made if it is missing, and a file that is there is replaced.

    Raises:
        ExperimentError: the disk is full.
        OSError: the file cannot be written.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, page(selection).encode())


def page(selection: Selection) -> str:
    """Return the page's HTML. All that comes from trajectories and paths is in it as base64 only."""
    folder = files("verl_actfocus.viewer") / "page"
    style = (folder / "style.css").read_text(encoding="utf-8")
    script = "\n".join((folder / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)
    bodies = [_data(f"body-{number}", entry.body) for number, entry in enumerate(selection.entries)]
    index = json.dumps(_index(selection), allow_nan=False).encode()
    return Template((folder / "page.html").read_text(encoding="utf-8")).substitute(
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        data="\n".join([_data("index", zlib.compress(index)), *bodies]),
    )


def _index(selection: Selection) -> dict[str, Any]:
    """What the page needs before any trajectory is opened."""
    return {
        "sources": [source.label for source in selection.sources],
        "trajectories": [entry.summary for entry in selection.entries],
        "menu": selection.menu,
        "omissions": selection.omissions,
    }


def _data(name: str, compressed: bytes) -> str:
    """An element that browsers neither run nor show."""
    return f'<script type="text/plain" id="{name}">{base64.b64encode(compressed).decode("ascii")}</script>'


def _hash(text: str) -> str:
    """The hash by which a Content-Security-Policy admits an inline element."""
    return "sha256-" + base64.b64encode(sha256(text.encode()).digest()).decode("ascii")
