"""Nothing that a trajectory holds is run, and the page stays quick, readable and within its window."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from verl_actfocus.episodes.record import EpisodeRecord
from verl_actfocus.trajectories import Trajectory
from verl_actfocus.viewer import Source, address, find_sources, select, write_page

from .conftest import Open
from .samples import all_signals, make, turn, write

#: Each would show itself in `window.ran` if it were run, or break the page that holds it.
ATTACKS = [
    "</script><script>window.ran = 1</script>",
    "<img src=x onerror='window.ran = 1'>",
    "<!--<script>window.ran = 1//",
    "\u2028window.ran = 1\u2029",
    '"><svg onload=window.ran=1>',
    "javascript:window.ran=1",
    "${window.ran = 1}</style><style>*{display:none}</style>",
    "$script $$ {{ 7 * 7 }}",
    "\x00\x1b[31m\ufffe",
]


def hostile(attack: str) -> Trajectory:
    """A trajectory that says the same thing wherever it can."""
    plain = make()
    record = EpisodeRecord(
        task=7,
        sample=0,
        stop_reason=attack,
        outcomes={attack: True},
        failure=attack,
        turns=[turn(attack, 0.0, attack)] * 2,
        final_observation=attack,
    )
    return make(
        environment=attack,
        group=attack,
        prompt=attack,
        tokens=[attack, *plain.tokens[1:8], attack, *plain.tokens[9:]],
        signals={attack: [1.0] * 19, "weight": [1.0] * 19},
        episode=record,
    )


def test_no_text_of_a_trajectory_is_run(tmp_path: Path, open_page: Open) -> None:
    sources = []
    for number, attack in enumerate(ATTACKS):
        sources.append(Source(tmp_path, attack, (write(tmp_path / f"{number}.jsonl", [hostile(attack)]),)))
    out = tmp_path / "page.html"
    write_page(select(sources, 100), out)
    assert "window.ran" not in out.read_text(encoding="utf-8")
    page = open_page(out)
    assert page.locator("tbody tr td:first-child a").all_text_contents() == ATTACKS
    for number, attack in enumerate(ATTACKS):
        page.locator(f'tr[data-number="{number}"] a').click()
        page.locator("#signal").select_option(value=attack)
        page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
        page.locator(".token").first.focus()
        expect(page.locator("#card")).to_be_visible()
        assert page.locator(".token").first.text_content() == attack
        assert page.locator(".frame pre").first.text_content() == attack
        assert page.locator("main img, main script, main style, main svg:not(.chart)").count() == 0
        page.locator(".back").click()
        page.wait_for_selector("table.list")
    assert page.evaluate("window.ran") is None


def test_the_policy_of_the_page_admits_its_own_script_alone(two_runs: Path, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(two_runs.as_uri())
    refused = page.evaluate(
        """async () => {
            const seen = new Promise((done) => {
                addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
            });
            const script = document.createElement("script");
            script.append("window.ran = 1");
            document.body.append(script);
            return [await seen, window.ran ?? null];
        }"""
    )
    page.close()
    assert refused == ["script-src-elem", None]


def test_nothing_is_loaded_from_anywhere(two_runs: Path, open_page: Open) -> None:
    text = re.sub(r'<script type="text/plain".*?</script>', "", two_runs.read_text(encoding="utf-8"))
    # The namespace of SVG is a name and not an address.
    assert re.findall(r"https?://[^\"' ]+", text) == ["http://www.w3.org/2000/svg"]
    page = open_page(two_runs, address("ActFocus/10/step10-task7/2"))
    assert page.evaluate("performance.getEntriesByType('resource').map(one => one.name)") == []


def test_500_trajectories_open_in_two_seconds(tmp_path: Path, open_page: Open) -> None:
    made = [
        make(task=n // 8, session=n % 8, group=str(n // 8), step=n // 100, signals=all_signals(n)) for n in range(500)
    ]
    page_file = tmp_path / "page.html"
    write_page(select(find_sources([write(tmp_path / "run.jsonl", made)]), 500), page_file)
    open_page(page_file)  # the browser is warm
    began = time.perf_counter()
    page = open_page(page_file)
    listed = time.perf_counter() - began
    assert page.locator("tbody tr[data-number]").count() == 500
    # Since the navigation began, in the browser's own clock; twice the promise, for a machine that does other work too.
    assert page.evaluate("performance.now()") < 4000 and listed < 4
    began = time.perf_counter()
    page.locator("tbody tr:nth-child(400) a").click()
    page.wait_for_selector(".pane .token")
    assert time.perf_counter() - began < 4


CONTRAST = """(selector) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const pixel = (colour) => {
        context.fillStyle = getComputedStyle(document.body).backgroundColor;
        context.fillRect(0, 0, 1, 1);
        context.fillStyle = colour;
        context.fillRect(0, 0, 1, 1);
        return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const behind = (one) => {
        for (; one; one = one.parentElement) {
            const colour = getComputedStyle(one).backgroundColor;
            if (colour !== "rgba(0, 0, 0, 0)") return colour;
        }
        return "white";
    };
    return [...document.querySelectorAll(selector)].filter((one) => one.checkVisibility())
        .map((one) => [one.className, pixel(getComputedStyle(one).color), pixel(behind(one))]);
}"""


def luminance(colour: list[int]) -> float:
    """Relative luminance, WCAG 2.2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_on_every_colour(scheme: str, two_runs: Path, open_page: Open) -> None:
    page = open_page(two_runs, address("ActFocus/10/step10-task7/2"), scheme=scheme)
    seen = 0
    for signal in ("weight", "weighted_advantage", "ratio", "rollout_log_prob", "spans"):
        page.locator("#signal").select_option(value=signal)
        page.wait_for_timeout(200)  # colours fade into each other
        for what, ink, paper in page.evaluate(
            CONTRAST, ".token, p, h2, h3, summary, figcaption, .facts, a, label span"
        ):
            light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (signal, what, ink, paper)
            seen += 1
    assert seen > 100


@pytest.mark.parametrize("width", [360, 800, 1280])
def test_the_page_is_not_wider_than_its_window(width: int, two_runs: Path, open_page: Open) -> None:
    names = [f"{run}/10/step10-task7/2" for run in ("Uniform", "ActFocus")]
    page = open_page(two_runs, width=width)
    for fragment in ("", address(names[0]), address(*names)):
        page.evaluate("fragment => { location.hash = fragment; }", fragment)
        page.wait_for_selector(".pane" if fragment else "table.list")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_everything_that_can_be_used_has_a_name(two_runs: Path, open_page: Open) -> None:
    page = open_page(two_runs)
    unnamed = """all => all.filter((one) =>
        !(one.labels?.length || one.getAttribute("aria-label") || one.textContent.trim())).length"""
    for fragment in ("", address("ActFocus/10/step10-task7/2")):
        page.evaluate("fragment => { location.hash = fragment; }", fragment)
        page.wait_for_selector(".pane" if fragment else "table.list")
        assert page.locator("button, a, input, select, summary, svg, [role=img]").evaluate_all(unnamed) == 0
