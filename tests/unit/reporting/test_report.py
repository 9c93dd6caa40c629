"""The report holds what the runs measured, stands on its own, and shows the weight of every token."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from verl_actfocus.experiment.errors import ExperimentError
from verl_actfocus.experiment.results import RunResult, read_runs
from verl_actfocus.reporting.plots import COLOURS, learning_curves
from verl_actfocus.reporting.report import write_report
from verl_actfocus.reporting.summary import summarise
from verl_actfocus.reporting.trajectories import Trajectory, WeightScale, sample, scale_of

RecordRun = Callable[..., Path]
#: Solved tasks out of 40 at the start and at the end.
UNIFORM, ACTFOCUS = (8, 14), (8, 26)


def outcomes(solved: int) -> dict[int, list[int]]:
    return {task: [int(task < solved), int(task % 7 == 0 and task < solved)] for task in range(40)}


@pytest.fixture
def comparison(tmp_path: Path, record_run: RecordRun) -> Path:
    out = tmp_path / "comparison"
    record_run(out, "uniform", 0, {0: outcomes(UNIFORM[0]), 2: outcomes(UNIFORM[1])}, seconds=75.0)
    record_run(out, "actfocus", 0, {0: outcomes(ACTFOCUS[0]), 2: outcomes(ACTFOCUS[1])}, seconds=130.0)
    return out


def write(comparison: Path) -> list[Path]:
    return write_report(summarise(read_runs(comparison)), comparison)


class Tags(HTMLParser):
    """Collects tags with their attributes, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def parse(path: Path) -> Tags:
    tags = Tags()
    tags.feed(path.read_text(encoding="utf-8"))
    return tags


def rate(solved: int) -> str:
    values = [value for task in outcomes(solved).values() for value in task]
    return f"{100 * sum(values) / len(values):.1f} %"


def test_both_reports_hold_the_success_rates_of_the_episodes(comparison: Path) -> None:
    markdown, html, _ = write(comparison)
    for text in (markdown.read_text(), parse(html).text):
        for solved in (*UNIFORM, *ACTFOCUS):
            assert rate(solved) in text
        summary = summarise(read_runs(comparison))
        assert all(method.sentence in text for method in summary.methods)
        assert summary.differences[0].sentence in text and summary.differences[0].scope in text


def test_both_reports_hold_conditions_commands_versions_hardware_and_wall_times(comparison: Path) -> None:
    markdown, html, _ = write(comparison)
    expected = [
        "frozenlake, packaged",
        "16 × 8",
        "0.0001",
        "alpha 0.1, beta 0.5, signal energy",
        "alpha 1.0, beta 0.0",
        "turns 3",
        "success_rate 1.0",
        "VERL_PLATFORM=cpu python -m verl.trainer.main_ppo data.seed=0 +actfocus=uniform",
        "actfocus compare --algorithm grpo --env frozenlake --steps 2 --seeds 1 --methods uniform actfocus",
        "Example CPU, 2 cores, 8.0 GB",
        "abc123",
        "1 min 15 s",
        "2 min 10 s",
        "whole step",
        "update_actor",
    ]
    for text in (markdown.read_text(), parse(html).text):
        assert [words for words in expected if words not in text] == []


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


def test_a_phase_that_one_method_lacks_stands_among_the_others(comparison: Path) -> None:
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
    rows = rows_of(comparison)
    # Two steps of 4.25 s in all; the runs took 75 and 130 s.
    assert rows["all steps"] == "8.5 | 8.5"
    assert rows["the rest: start-up, first evaluation, repeated steps"] == "66.5 | 121.5"
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


def test_the_page_loads_nothing_from_anywhere(comparison: Path) -> None:
    _, html, _ = write(comparison)
    text = html.read_text(encoding="utf-8")
    assert "http:" not in text and "https:" not in text and "@import" not in text and "url(" not in text
    tags = parse(html).found
    assert {"script", "link", "iframe"}.isdisjoint(tag for tag, _ in tags)
    sources = [attributes["src"] for _, attributes in tags if "src" in attributes]
    assert len(sources) == 1 and str(sources[0]).startswith("data:image/png;base64,")


def test_the_embedded_picture_is_the_one_beside_it(comparison: Path) -> None:
    _, html, picture = write(comparison)
    source = next(str(attributes["src"]) for tag, attributes in parse(html).found if tag == "img")
    assert base64.b64decode(source.partition(",")[2]) == picture.read_bytes()


def test_every_token_of_the_model_shows_weight_signal_span_and_advantage(comparison: Path) -> None:
    _, html, _ = write(comparison)
    tooltips = [str(attributes["title"]) for tag, attributes in parse(html).found if "title" in attributes]
    # Eight tokens of the model in each of the two methods' trajectories.
    assert len(tooltips) == 16
    assert "weight 1.250 · signal -11.500 · action · advantage +0.730" in tooltips
    assert tooltips.count("weight 0.100 · signal -11.500 · reasoning · advantage +0.730") == 2
    assert "reward -0.10" in parse(html).text and "reward +1.00" in parse(html).text


def test_text_of_the_environment_cannot_become_markup(comparison: Path) -> None:
    _, html, _ = write(comparison)
    assert "state <b>&" in parse(html).text
    assert all(tag != "b" for tag, _ in parse(html).found)


def test_unfinished_runs_are_named(comparison: Path, record_run: RecordRun) -> None:
    record_run(comparison, "actfocus", 1, {0: outcomes(8)}, done=False)
    markdown, html, _ = write(comparison)
    for text in (markdown.read_text(), parse(html).text):
        assert "Not finished and not counted: actfocus-seed1" in text


def test_the_command_of_the_report_continues_also_what_is_not_finished(comparison: Path, record_run: RecordRun) -> None:
    record_run(comparison, "uniform", 2, {0: outcomes(8)}, done=False)
    for text in (path.read_text() for path in write(comparison)[:2]):
        assert "--seeds 3 --methods uniform actfocus --profile cpu_frozenlake" in text


def test_a_method_of_which_nothing_is_finished_is_in_the_command(tmp_path: Path, record_run: RecordRun) -> None:
    record_run(tmp_path, "uniform", 0, {0: outcomes(8), 2: outcomes(9)})
    record_run(tmp_path, "actfocus", 0, {0: outcomes(8)}, done=False)
    assert "--methods uniform actfocus" in write(tmp_path)[0].read_text()


def test_runs_that_no_comparison_makes_have_no_compare_command(tmp_path: Path, record_run: RecordRun) -> None:
    """`actfocus reproduce` may begin with another seed than 0."""
    record_run(tmp_path, "uniform", 1, {0: outcomes(8), 2: outcomes(9)})
    for text in (path.read_text() for path in write(tmp_path)[:2]):
        assert "actfocus compare" not in text and f"actfocus report {tmp_path}" in text
        assert "the first makes this report again" in text


def test_every_kind_of_interval_in_the_table_is_named(tmp_path: Path, record_run: RecordRun) -> None:
    alike = {task: [1, 0] for task in range(40)}
    record_run(tmp_path, "uniform", 0, {0: outcomes(8), 1: alike, 2: outcomes(14)})
    record_run(tmp_path, "actfocus", 0, {0: outcomes(8), 2: alike})
    for text in (path.read_text() for path in write(tmp_path)[:2]):
        assert "bootstrap over the 40 tasks; exact binomial interval with every task as one trial" in text


def test_a_comparison_without_trajectories_still_has_a_report(comparison: Path) -> None:
    for file in comparison.glob("*/trajectories/*"):
        file.unlink()
    _, html, _ = write(comparison)
    assert "no trajectories" in parse(html).text


def test_a_lost_setting_is_named(tmp_path: Path, record_run: RecordRun) -> None:
    folder = record_run(tmp_path, "uniform", 0, {0: outcomes(4), 1: outcomes(9)})
    path = folder / "run.json"
    path.write_text(path.read_text().replace("data.train_batch_size", "gone"))
    with pytest.raises(ExperimentError, match=r"run\.json lacks the settings data\.train_batch_size"):
        write(tmp_path)


def pixels_of(png: bytes, colour: str) -> int:
    image = np.asarray(Image.open(BytesIO(png)).convert("RGB")).astype(int)
    wanted = [int(colour[n : n + 2], 16) for n in (1, 3, 5)]
    return int((np.abs(image - wanted).sum(axis=-1) < 12).sum())


def test_the_curves_of_all_methods_are_drawn(comparison: Path) -> None:
    png = learning_curves(summarise(read_runs(comparison)), "title")
    assert png.startswith(b"\x89PNG")
    assert all(pixels_of(png, colour) > 200 for colour in COLOURS[:2])
    assert pixels_of(png, COLOURS[2]) == 0


def test_darker_means_heavier_and_nothing_is_white() -> None:
    scale = WeightScale(1.5)
    brightness = [
        sum(int(scale.colour(weight)[n : n + 2], 16) for n in (1, 3, 5)) for weight in (0.0, 0.1, 1.0, 1.25, 1.5)
    ]
    assert brightness == sorted(brightness, reverse=True) and len(set(brightness)) == 5
    assert scale.colour(0.0) == "#ffffff"
    # Black text needs a contrast of at least 4.5 (WCAG 2.1) on the darkest tone.
    assert contrast_with_black(scale.colour(1.5)) > 4.5


def contrast_with_black(colour: str) -> float:
    """WCAG 2.1: (L + 0.05) / 0.05 with the relative luminance L."""
    channels = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05) / 0.05


def test_a_trajectory_splits_into_turns_with_their_rewards(comparison: Path) -> None:
    (trajectory,) = sample(RunResult.read(comparison / "actfocus-seed0"))
    blocks = list(trajectory.blocks(scale_of([trajectory])))
    assert [(block.turn, block.reward, block.text) for block in blocks] == [
        (1, -0.1, "go right</think><answer>Right</answer>"),
        (None, None, "\nstate <b>&\n"),
        (2, 1.0, "Down</answer>"),
    ]


def test_the_first_and_the_last_file_are_shown(comparison: Path) -> None:
    folder = comparison / "actfocus-seed0/trajectories"
    text = (folder / "1.jsonl").read_text()
    for step in (10, 100, 20):
        (folder / f"{step}.jsonl").write_text(text.replace('"step": 1,', f'"step": {step},') * 3)
    shown = [trajectory.step for trajectory in sample(RunResult.read(comparison / "actfocus-seed0"))]
    assert shown == [1, 100, 100]


def test_a_token_that_is_a_unicode_line_separator_does_not_end_the_trajectory(comparison: Path) -> None:
    path = comparison / "actfocus-seed0/trajectories/1.jsonl"
    record = json.loads(path.read_text())
    record["tokens"][1] = "\u2028"
    path.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    (trajectory,) = sample(RunResult.read(comparison / "actfocus-seed0"))
    assert trajectory.tokens[:3] == ["go", "\u2028", "</think>"]


def test_a_damaged_trajectory_is_named(comparison: Path) -> None:
    path = comparison / "actfocus-seed0/trajectories/1.jsonl"
    path.write_text('{"step": 1}\n')
    with pytest.raises(ExperimentError, match=r"1\.jsonl, line 1: not a trajectory"):
        sample(RunResult.read(comparison / "actfocus-seed0"))
    with pytest.raises(ExperimentError, match="lengths"):
        Trajectory("m", 0, 1, "", ["a"], [1, 1], ["none"], [1.0], None, [0.0], None, 0.0, {})
