"""The report of a comparison links into the page of its trajectories, which lies beside it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tests.unit.experiments.report.pages import ACTFOCUS, UNIFORM, outcomes, parse
from tests.unit.viewer.samples import make, write
from verl_actfocus.cli.main import main

RecordRun = Callable[..., Path]


@pytest.fixture
def comparison(tmp_path: Path, record_run: RecordRun) -> Path:
    """Two runs with trajectories of their first and their last step, the last of a task that both have."""
    for weighting, solved in (("actfocus", ACTFOCUS), ("uniform", UNIFORM)):
        run = record_run(tmp_path, weighting, 0, {0: outcomes(solved[0]), 2: outcomes(solved[1])})
        (run / "trajectories" / "1.jsonl").unlink()
        for step in (1, 2):
            write(
                run / "trajectories" / f"{step}.jsonl",
                [make(step=step, group="g|<b>](x)", task=step, session=n) for n in range(2)],
            )
    return tmp_path


def links(page: Path) -> dict[str, dict[str, list[str]]]:
    """Text → what the fragment of its address says, of the links into the page of trajectories."""
    found = [attributes["href"] for tag, attributes in parse(page).found if tag == "a"]
    return {address: parse_qs(address.partition("#")[2]) for address in found if address and "#" in address}


def test_the_first_of_the_first_and_last_step_of_every_weighting_is_linked(
    comparison: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(comparison)]) == 0
    assert str(comparison / "trajectories.html") in capsys.readouterr().out
    opened = [one["view"][0] for one in links(comparison / "report.html").values()]
    names = [f"{run}, seed 0/{step}/g|<b>](x)/0" for run in ("Uniform", "ActFocus") for step in (1, 2)]
    assert opened[:4] == names
    for text in ("Uniform, seed 0, step 2, task 2: reward +1.00, end: success", "shows 8 trajectories"):
        assert text in parse(comparison / "report.html").text
        assert text in (comparison / "report.md").read_text()


def test_the_last_link_puts_the_baseline_beside_the_other_weighting(comparison: Path) -> None:
    main(["report", str(comparison)])
    pair = list(links(comparison / "report.html").values())[-1]
    assert pair == {"view": ["Uniform, seed 0/2/g|<b>](x)/1"], "with": ["ActFocus, seed 0/2/g|<b>](x)/1"]}


def test_names_of_groups_cannot_end_a_link_in_markdown(comparison: Path) -> None:
    main(["report", str(comparison)])
    lines = [line for line in (comparison / "report.md").read_text().splitlines() if "trajectories.html#" in line]
    assert len(lines) == 5
    assert all(line.count("](") == 1 and line.endswith(")") and "<" not in line for line in lines)


def test_a_comparison_without_trajectories_still_has_a_report(comparison: Path) -> None:
    for file in comparison.glob("*/trajectories/*"):
        file.unlink()
    assert main(["report", str(comparison)]) == 0
    assert "The runs have written no trajectories." in parse(comparison / "report.html").text
    assert "The runs have written no trajectories." in (comparison / "report.md").read_text()
    assert not (comparison / "trajectories.html").exists()


def test_a_damaged_trajectory_is_named_and_costs_its_page_alone(
    comparison: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = comparison / "actfocus-seed0/trajectories/1.jsonl"
    path.write_text('{"step": 1}\n')
    assert main(["report", str(comparison)]) == 0
    said = f"{path}, line 1: not a trajectory"
    assert said in capsys.readouterr().err
    assert f"There is no page of trajectories: {said}" in parse(comparison / "report.html").text
    assert "There is no page of trajectories: " in (comparison / "report.md").read_text()


#: Writes half of the n-th file and is killed.
KILLED = """
import os, signal, sys
from pathlib import Path
from verl_actfocus.cli.main import main

left, write = int(sys.argv[1]), Path.write_bytes

def dying(path, content):
    global left
    left -= 1
    if left < 0:
        write(path, content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return write(path, content)

Path.write_bytes = dying
sys.exit(main(["report", sys.argv[2]]))
"""


def test_a_report_that_is_killed_at_any_file_leaves_no_half_one_and_is_written_by_the_same_command(
    comparison: Path,
) -> None:
    main(["report", str(comparison)])
    whole = {file.name: file.read_bytes() for file in comparison.iterdir() if file.is_file()}
    assert {"report.md", "report.html", "trajectories.html", "learning_curves.png"} <= whole.keys()
    for name in whole:
        (comparison / name).unlink()
    for number in range(len(whole)):
        ended = subprocess.run([sys.executable, "-c", KILLED, str(number), str(comparison)], check=False)
        assert ended.returncode == -signal.SIGKILL
        for name, content in whole.items():
            file = comparison / name
            assert not file.exists() or file.read_bytes() == content
    assert main(["report", str(comparison)]) == 0
    assert {file.name: file.read_bytes() for file in comparison.iterdir() if file.is_file()} == whole
