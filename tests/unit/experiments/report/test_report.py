"""The report holds what the runs measured and how they were made, and stands on its own."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from verl_actfocus.experiments.report import provenance
from verl_actfocus.experiments.report.plots import COLOURS, learning_curves
from verl_actfocus.experiments.report.summary import summarise
from verl_actfocus.experiments.results import machine
from verl_actfocus.experiments.results.run_result import read_runs
from verl_actfocus.storage.errors import ExperimentError

from .pages import ACTFOCUS, UNIFORM, RecordRun, outcomes, parse, write


def rate(solved: int) -> str:
    values = [value for task in outcomes(solved).values() for value in task]
    return f"{100 * sum(values) / len(values):.1f} %"


def test_both_reports_hold_the_success_rates_of_the_episodes(comparison: Path) -> None:
    markdown, html, _ = write(comparison)
    for text in (markdown.read_text(), parse(html).text):
        for solved in (*UNIFORM, *ACTFOCUS):
            assert rate(solved) in text
        summary = summarise(read_runs(comparison))
        assert all(one.sentence in text for one in summary.weightings)
        assert summary.differences[0].sentence in text and summary.differences[0].scope in text


def test_both_reports_hold_conditions_commands_versions_hardware_and_wall_times(comparison: Path) -> None:
    markdown, html, _ = write(comparison)
    expected = [
        "verl_actfocus/models/frozenlake/model",
        "16 × 8",
        "0.0001",
        "name actfocus, alpha 0.1, beta 0.5, signal energy",
        "name uniform",
        "turns 3",
        "success_rate 1.0",
        "VERL_PLATFORM=cpu python -m verl.trainer.main_ppo data.seed=0 +actfocus=uniform",
        "actfocus compare --profile cpu_frozenlake --algorithm grpo --steps 2 --seeds 1 --weightings uniform actfocus",
        "Example CPU, 2 cores, 8.0 GB",
        "abc123",
        "1 min 15 s",
        "2 min 10 s",
        "whole step",
        "update_actor",
    ]
    for text in (markdown.read_text(), parse(html).text):
        assert [words for words in expected if words not in text] == []


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


def test_unfinished_runs_are_named(comparison: Path, record_run: RecordRun) -> None:
    record_run(comparison, "actfocus", 1, {0: outcomes(8)}, done=False)
    markdown, html, _ = write(comparison)
    for text in (markdown.read_text(), parse(html).text):
        assert "Not finished and not counted: actfocus-seed1" in text


def test_the_command_of_the_report_continues_also_what_is_not_finished(comparison: Path, record_run: RecordRun) -> None:
    record_run(comparison, "uniform", 2, {0: outcomes(8)}, done=False)
    for text in (path.read_text() for path in write(comparison)[:2]):
        assert "--profile cpu_frozenlake --algorithm grpo --steps 2 --seeds 3 --weightings uniform actfocus" in text


def test_the_command_of_the_report_imports_the_modules_that_the_runs_were_made_with(
    tmp_path: Path, record_run: RecordRun
) -> None:
    """Without them it would not know their weightings, estimators and environment."""
    environment = {"data.environment.(module)": "mazes", "data.environment.(code)": "0123456789ab"}
    schemes = {f"algorithm.actfocus.{part}.(module)": f"mine.{part}s" for part in ("weighting", "estimator")}
    record_run(tmp_path, "uniform", 0, {0: outcomes(8), 2: outcomes(9)}, settings=environment)
    record_run(tmp_path, "actfocus", 0, {0: outcomes(8)}, done=False, settings={**environment, **schemes})
    command = (
        "actfocus --module mazes --module mine.weightings --module mine.estimators compare --profile cpu_frozenlake"
    )
    assert all(command in path.read_text() for path in write(tmp_path)[:2])


def test_a_weighting_of_which_nothing_is_finished_is_in_the_command(tmp_path: Path, record_run: RecordRun) -> None:
    record_run(tmp_path, "uniform", 0, {0: outcomes(8), 2: outcomes(9)})
    record_run(tmp_path, "actfocus", 0, {0: outcomes(8)}, done=False)
    assert "--weightings uniform actfocus" in write(tmp_path)[0].read_text()


def test_the_gpus_of_a_machine_are_part_of_its_hardware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "gpus" not in machine.hardware()
    lister = tmp_path / "nvidia-smi"
    lister.write_text("#!/bin/sh\nprintf 'A GPU\\nA GPU\\nAnother\\n'\n")
    lister.chmod(0o755)
    found = machine.hardware()
    assert provenance._hardware(found).startswith("2 × A GPU, 1 × Another; ") and found["cores"] >= 1


def test_runs_that_no_comparison_makes_have_no_compare_command(tmp_path: Path, record_run: RecordRun) -> None:
    """`actfocus reproduce` may begin with another seed than 0."""
    record_run(tmp_path, "uniform", 1, {0: outcomes(8), 2: outcomes(9)})
    for text in (path.read_text() for path in write(tmp_path)[:2]):
        assert "actfocus compare" not in text and f"actfocus report {tmp_path}" in text
        assert "the first makes this report again" in text


def test_every_kind_of_interval_in_the_table_is_named(tmp_path: Path, record_run: RecordRun) -> None:
    for seed in (0, 1):
        record_run(tmp_path, "uniform", seed, {0: outcomes(8 + seed), 2: outcomes(14 - seed)})
    record_run(tmp_path, "actfocus", 0, {0: outcomes(8), 2: outcomes(20)})
    for text in (path.read_text() for path in write(tmp_path)[:2]):
        assert "t interval over 2 seeds; beta-binomial interval over the 40 tasks" in text


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


def test_the_curves_of_all_weightings_are_drawn(comparison: Path) -> None:
    png = learning_curves(summarise(read_runs(comparison)), "title")
    assert png.startswith(b"\x89PNG")
    assert all(pixels_of(png, colour) > 200 for colour in COLOURS[:2])
    assert pixels_of(png, COLOURS[2]) == 0


def test_a_step_without_metrics_is_a_gap_in_the_curves(tmp_path: Path, record_run: RecordRun) -> None:
    path = record_run(tmp_path, "uniform", 0, {0: outcomes(8), 9: outcomes(14)}) / "metrics-1.jsonl"

    def picture(dropped: set[int]) -> bytes:
        records = [json.loads(line) for line in original.splitlines()]
        kept = [record for record in records if record["step"] not in dropped]
        path.write_text("".join(json.dumps(record) + "\n" for record in kept))
        return learning_curves(summarise(read_runs(tmp_path)), "title")

    original = path.read_text()
    whole, gap, alone = picture(set()), picture({4, 5, 6}), picture({3, 4, 6, 7})
    # Straight lines, so that one drawn across the gap would look the same.
    assert pixels_of(gap, COLOURS[0]) < pixels_of(whole, COLOURS[0]) - 100
    # Step 5 between two gaps is a dot.
    assert pixels_of(alone, COLOURS[0]) > pixels_of(picture({3, 4, 5, 6, 7}), COLOURS[0])
