"""The files of recipes/paper say what the paper says, and a file that says nonsense is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from verl_actfocus.experiments.specification import (
    Table,
    find_table,
    read_profile,
    read_table,
    tables_folder,
)

from verl_actfocus.experiments.errors import ExperimentError
from verl_actfocus.experiments.grid import Request, cells, distinct_runs
from verl_actfocus.experiments.settings import compose_settings

from .conftest import TABLE

MakeRequest = Callable[..., Request]
NAMES = sorted(path.stem for path in tables_folder().glob("[!_]*.yaml"))


def shipped(name: str) -> Table:
    return read_table(find_table(name))


def paper(table: Table, size: str) -> dict[tuple[str, str], list[list[float | None]]]:
    """(environment and label) → the pairs of all variants."""
    return {(row.env, row.label): [row.paper[size][name] for name in table.variants] for row in table.rows if row.paper}


def test_every_table_and_ablation_of_the_paper_has_a_file() -> None:
    assert NAMES == ["alpha", "beta", "normalization", "other", "signal", "table1", "table2", "table5", "table6"]


def test_table_2_holds_the_published_ppo_numbers() -> None:
    # Final (peak), Uniform then ActFocus, from the paper's Tables 2 and 5.
    assert paper(shipped("table2"), "large") == {
        ("sokoban", ""): [[26.2, 28.7], [37.5, 37.5]],
        ("frozenlake", ""): [[16.6, 24.6], [27.0, 27.0]],
        ("sudoku", ""): [[81.2, 84.2], [95.7, 99.6]],
        ("webshop", "purchase"): [[96.9, 98.0], [99.2, 99.6]],
        ("webshop", "strict"): [[22.7, 23.8], [36.7, 30.5]],
    }
    assert paper(shipped("table2"), "small")[("sudoku", "")] == [[16.2, 16.2], [81.4, 82.0]]


def test_table_6_holds_the_published_grpo_numbers_and_the_loss_on_frozenlake() -> None:
    large = paper(shipped("table6"), "large")
    assert large[("frozenlake", "")] == [[12.5, 26.2], [6.8, 19.1]]
    assert large[("webshop", "purchase")] == [[40.6, 100.0], [94.9, 99.6]]
    # Small models: peaks only.
    assert paper(shipped("table6"), "small")[("webshop", "strict")] == [[None, 49.2], [None, 64.5]]


def test_table_5_is_made_of_the_runs_of_tables_2_and_6(tmp_path: Path) -> None:
    def runs(name: str) -> set[Path]:
        path = find_table(name)
        profile = read_profile(path, "cpu")
        request = Request(table=read_table(path), profile=profile, profile_name="cpu", seeds=2, out=tmp_path)
        return {run.folder for run in distinct_runs(cells(request))}

    assert runs("table5") == runs("table2") | runs("table6")


# Table 5 has no runs of its own.
@pytest.mark.parametrize("name", sorted({*NAMES} - {"table5"}))
def test_every_cell_of_every_table_composes_on_cpu_and_gpu(name: str, tmp_path: Path) -> None:
    path = find_table(name)
    for profile_name in ("cpu", "gpu"):
        request = Request(
            table=read_table(path),
            profile=read_profile(path, profile_name),
            profile_name=profile_name,
            seeds=1,
            out=tmp_path,
        )
        for cell in cells(request):
            (run,) = cell.runs
            settings = compose_settings(run)
            variant = request.table.variants[cell.variant]
            expected = {"uniform": (1.0, 0.0), "actfocus": (0.1, 0.5)}[variant.method]
            alpha, beta = (settings[f"algorithm.actfocus.{key}"] for key in ("alpha", "beta"))
            assert (alpha, beta) == (
                variant.settings.get("alpha", expected[0]),
                variant.settings.get("beta", expected[1]),
            )
            assert settings["data.environment.name"] == cell.row.env
            assert settings["trainer.device"] == {"cpu": "cpu", "gpu": "cuda"}[profile_name]
            assert (
                settings["algorithm.adv_estimator"] == {"ppo": "actfocus_gae", "grpo": "actfocus_grpo"}[run.algorithm]
            )
            if profile_name == "gpu":
                assert settings["actor_rollout_ref.model.path"] == request.profile.models[run.env][cell.size]
                assert run.environment == {}


def test_a_gpu_run_takes_its_number_of_steps_from_the_recipe(tmp_path: Path) -> None:
    path = find_table("table2")
    request = Request(
        table=read_table(path), profile=read_profile(path, "gpu"), profile_name="gpu", seeds=1, out=tmp_path
    )
    steps = {cell.row.env: cell.runs[0].steps for cell in cells(request)}
    assert steps == {"sokoban": 200, "frozenlake": 200, "sudoku": 200, "webshop": 100}


def test_an_unknown_table_is_refused_with_the_names() -> None:
    with pytest.raises(ValueError, match=r"unknown table 'table3': choose one of alpha, .*table2"):
        find_table("table3")
    with pytest.raises(ValueError, match=r"there is no file nowhere\.yaml"):
        find_table("nowhere.yaml")


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        ("title: A comparison", "titel: A comparison", "titel"),
        ("algorithm: grpo", "algorithm: a2c", "algorithm 'a2c' is not one of"),
        ("[6.8, null]", "[6.8]", r"row frozenlake, paper\.large\.actfocus: \[6\.8\] is not two numbers"),
        ("{uniform: [null, 23.8]}", "{unifrom: [null, 23.8]}", r"\['unifrom'\] are not variants of the table"),
        ("method: uniform}", "method: uniformly}", r"variants\.uniform\.method 'uniformly' is not one of"),
        ("  actfocus: {label: ActFocus}", "  actfocus: {method: actfocus}", "label"),
    ],
)
def test_a_mistake_in_a_table_is_named_with_the_file(
    line: str, instead: str, message: str, make_request: MakeRequest
) -> None:
    assert line in TABLE
    with pytest.raises(ExperimentError, match=message) as error:
        make_request(TABLE.replace(line, instead))
    assert "mine.yaml" in str(error.value)


def test_an_unknown_profile_is_refused_with_the_names(make_request: MakeRequest) -> None:
    with pytest.raises(ValueError, match=r"unknown profile 'tpu': .*_profiles\.yaml has cpu, gpu"):
        make_request(profile="tpu")
