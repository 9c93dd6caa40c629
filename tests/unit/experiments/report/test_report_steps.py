"""The report says what steps and runs took, and what was left out in them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .pages import write


def change_steps(path: Path, change: Callable[[int, dict[str, float]], None]) -> None:
    """Change the metrics of every training step of a run: step 1, 2, …"""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        if record["step"]:
            change(record["step"], record["data"])
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def rows_of(comparison: Path) -> dict[str, str]:
    markdown, html, _ = write(comparison)
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]* \| [^|]*) \|$", markdown.read_text(), re.M))
    page = html.read_text()
    for name, cells in rows.items():
        if name in ("whole step", "whole run") or "excluded" in name:
            assert f"<td>{name}</td>" + "".join(f'<td class="number">{c}</td>' for c in cells.split(" | ")) in page
    return rows


def test_a_phase_that_one_weighting_lacks_stands_among_the_others(comparison: Path) -> None:
    change_steps(comparison / "uniform-seed0/metrics-1.jsonl", lambda step, data: data.pop("timing_s/ref"))
    rows = rows_of(comparison)
    phases = [name for name in rows if name in ("gen", "update_actor", "ref", "whole step")]
    assert phases == ["gen", "update_actor", "ref", "whole step"]
    assert rows["ref"] == " | 0.50 (0.50)"


def test_times_of_a_step_are_median_and_least(comparison: Path) -> None:
    def slower(step: int, data: dict[str, float]) -> None:
        data["timing_s/gen"] = [3.0, 7.5][step - 1]

    change_steps(comparison / "uniform-seed0/metrics-1.jsonl", slower)
    rows = rows_of(comparison)
    assert rows["gen"] == "5.25 (3.00) | 2.00 (2.00)"
    assert rows["whole step"] == "4.25 (4.25) | 4.25 (4.25)"


def test_times_of_a_run_are_sums_of_the_timers(comparison: Path) -> None:
    for folder in comparison.glob("*-seed0"):
        change_steps(folder / "metrics-1.jsonl", lambda step, data: data.update({"timing_s/testing": 0.5}))
    rows = rows_of(comparison)
    # Two steps of 4.25 s in all; the runs took 75 and 130 s.
    assert (rows["all steps"], rows["evaluations after steps"]) == ("8.5 | 8.5", "1.0 | 1.0")
    assert rows["the rest: start-up, first evaluation, steps repeated or not recorded"] == "65.5 | 120.5"
    assert rows["whole run"] == "75.0 | 130.0"


def test_what_was_left_out_and_how_far_probabilities_differ_is_said(comparison: Path) -> None:
    def trouble(step: int, data: dict[str, float]) -> None:
        data["rollout/excluded_trajectories"] = float(step)
        data["training/rollout_probs_diff_max"] = [3e-6, 1.2e-5][step - 1]

    assert rows_of(comparison)["trajectories excluded from training"] == " | "
    change_steps(comparison / "actfocus-seed0/metrics-1.jsonl", trouble)
    rows = rows_of(comparison)
    assert rows["trajectories excluded from training"] == " | 3"
    assert rows["largest difference of a token's probability, rollout and forward pass"] == " | 1.2e-05"


def test_steps_without_metrics_are_counted_and_named(comparison: Path) -> None:
    assert rows_of(comparison)["training steps without metrics"] == "0 | 0"
    change_steps(
        comparison / "actfocus-seed0/metrics-1.jsonl",
        lambda step, data: data.pop("timing_s/step") if step == 1 else None,
    )
    assert rows_of(comparison)["training steps without metrics"] == "0 | 1 (seed 0: 1)"


@pytest.mark.parametrize(
    ("label", "metric", "other"),
    [
        ("well-formed turns", "val/well_formed_turn_rate", "valid turns"),
        ("valid turns", "val/valid_turn_rate", "well-formed turns"),
    ],
)
def test_the_run_that_lost_most_of_such_turns_is_named(comparison: Path, label: str, metric: str, other: str) -> None:
    """Against the highest before: a share that had risen may fall and be above the first all the same."""
    name = "{} in %: largest fall (or least rise) from the highest before"
    for folder in ("uniform-seed0", "actfocus-seed0"):
        path = comparison / folder / "metrics-1.jsonl"
        records = [json.loads(line) for line in path.read_text().splitlines()]
        for record in records:
            # The evaluations are at steps 0 and 2.
            shares = {0: 0.995, 1: 0.99, 2: 0.657 if folder.startswith("actfocus") else 0.999}
            if "val/success" in record["data"]:
                record["data"][metric] = shares[record["step"]]
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    rows = rows_of(comparison)
    assert rows[name.format(label)] == "99.5 to 99.9 (seed 0, step 2) | 99.5 to 65.7 (seed 0, step 2)"
    assert rows[name.format(other)] == " | "


def test_of_a_run_out_of_an_archive_stands_what_was_recorded(comparison: Path) -> None:
    """An archive has neither attempts nor any timer but that of the whole step."""
    for folder in comparison.glob("*-seed0"):
        (folder / "attempt-1.json").unlink()
        change_steps(folder / "metrics-1.jsonl", lambda step, data: data.pop("timing_s/testing", None))
    rows = rows_of(comparison)
    assert (rows["all steps"], rows["whole run"]) == ("8.5 | 8.5", "75.0 | 130.0")
    assert not any(name.startswith(("the rest", "evaluations after")) for name in rows)
