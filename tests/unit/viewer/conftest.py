"""A browser for the tests of the page, and pages for it to open."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from verl_actfocus.viewer import find_sources, select, write_page

from .samples import all_signals, make, write

#: What a test gets without a network or a first-run dialogue.
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
STEPS, TASKS, SESSIONS = (1, 10, 20), (7, 8), 4
Open = Callable[..., Page]
Scheme = Literal["light", "dark"]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One browser for all tests here; closed behind them, since its event loop is in the way of other tests'."""
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        found = next((path for path in map(shutil.which, NAMES) if path), own if Path(own).exists() else None)
        if found is None:
            pytest.skip(
                "pip cannot bring the browser that looks at the page: install Chromium or Chrome (on Debian: apt-get "
                "install chromium), or run 'playwright install chromium'"
            )
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Open a page at a width and in a scheme; an error of its script fails the test."""
    contexts = []
    errors: list[str] = []

    def open_it(
        path: Path, fragment: str = "", *, width: int = 1280, height: int = 900, scheme: Scheme = "light"
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(8000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.goto(path.as_uri() + fragment)
        page.wait_for_selector("html[data-ready]", state="attached")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture(scope="package")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two runs: three steps of two tasks with four trajectories each; Uniform has recorded fewer signals.

    Odd sessions fail; every trajectory of task 8 says "eight" in its prompt.
    """
    folder = tmp_path_factory.mktemp("two_runs")
    for run in ("Uniform", "ActFocus"):
        made = []
        for number, (step, task, session) in enumerate(
            (step, task, session) for step in STEPS for task in TASKS for session in range(SESSIONS)
        ):
            signals = all_signals(number)
            if run == "Uniform":
                signals = {name: signals[name] for name in ("weight", "advantage", "rollout_log_prob")}
            prompt = "Reach the goal.\n<think>" if task == 7 else "Reach goal eight.\n<think>"
            made.append(
                make(
                    task=task,
                    session=session,
                    step=step,
                    group=f"step{step}-task{task}",
                    success=session % 2 == 0,
                    prompt=prompt,
                    signals=signals,
                )
            )
        write(folder / f"{run}.jsonl", made)
    page = folder / "page.html"
    write_page(select(find_sources([folder / "Uniform.jsonl", folder / "ActFocus.jsonl"]), 1000), page)
    return page
