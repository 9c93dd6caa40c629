"""Photograph the packaged trajectories as `actfocus view --demo` shows them: docs/images/viewer*.png.

    python -m tools.pictures.viewer --out docs/images

Needs the extra `dev` and Chromium on PATH.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, sync_playwright

from verl_actfocus.cli.main import main as actfocus
from verl_actfocus.viewer import Selection, address, find_sources, select

DEMO = Path(__file__).parents[2] / "verl_actfocus" / "viewer" / "demo"
STEP, TASK, SESSION = 6, 1011002, 1
"""What the pictures show, in both runs."""
Scheme = Literal["light", "dark"]
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]


def name(selection: Selection, source: int) -> str:
    """Name of the trajectory that is shown of a run."""
    wanted = {"source": source, "step": STEP, "task": TASK, "session": SESSION}
    return next(one.summary["name"] for one in selection.entries if wanted.items() <= one.summary.items())


def photograph(browser: Browser, url: str, out: Path, size: tuple[int, int], scheme: Scheme, focus: str) -> None:
    """Write a picture of an address; the token that `focus` selects has the focus, none if it is empty."""
    page = browser.new_page(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
    )
    page.goto(url)
    page.wait_for_selector(".pane .token")
    if focus:
        page.locator(focus).focus()
    page.wait_for_timeout(500)  # colours fade in
    page.screenshot(path=out)
    page.close()


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    out = parser.parse_args().out
    selection = select(find_sources([DEMO / "Uniform.jsonl.gz", DEMO / "ActFocus.jsonl.gz"]), 1000)
    uniform, other = name(selection, 0), name(selection, 1)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "demo.html"
        actfocus(["view", "--demo", "--out", str(file)])
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        pair = f"{file.as_uri()}{address(uniform, other)}&signal=weighted_advantage"
        photograph(browser, pair, out / "viewer-side-by-side.png", (1280, 900), "light", "")
        one = f"{file.as_uri()}{address(other)}&signal=ref_energy"
        photograph(browser, one, out / "viewer.png", (1280, 960), "dark", ".token.action >> nth=0")
        browser.close()


if __name__ == "__main__":
    main()
