"""The files of recipes/paper say what the paper and the protocol say, and every one of their runs composes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.evidence import chosen_rates
from verl_actfocus import models
from verl_actfocus.experiments.runs.composed_run import compose_run
from verl_actfocus.experiments.tables.files import find_table, read_scale, read_table, tables_folder
from verl_actfocus.experiments.tables.grid import Request, cells, distinct_runs
from verl_actfocus.experiments.tables.table import Table

MakeRequest = Callable[..., Request]
#: Tables of our own, `recipes/paper/PROTOCOL.md`.
CONFIRMATION = ["confirmation_actfocus", "confirmation_methods", "confirmation_normalizer"]
PROTOCOL = ["format", "learning_rates", "learning_rates_ppo", "mechanism", *CONFIRMATION]
#: Methods that have the rate of another.
RATE_OF = {"alpha-auto": "actfocus"}
NAMES = sorted(path.stem for path in tables_folder().glob("[!_]*.yaml"))


def shipped(name: str) -> Table:
    return read_table(find_table(name))


def paper(table: Table, size: str) -> dict[tuple[str, str], list[list[float | None]]]:
    """(environment and label) → the pairs of all weightings."""
    return {
        (row.env, row.label): [row.paper[size][name] for name in table.weightings] for row in table.rows if row.paper
    }


def test_every_table_and_ablation_of_the_paper_has_a_file() -> None:
    papers = ["alpha", "beta", "normalization", "other", "signal", "table1", "table2", "table5", "table6"]
    assert sorted({*papers, *PROTOCOL}) == NAMES


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
        scale = read_scale(path, "cpu")
        request = Request(table=read_table(path), scale=scale, scale_name="cpu", seeds=2, out=tmp_path)
        return {run.folder for run in distinct_runs(cells(request))}

    assert runs("table5") == runs("table2") | runs("table6")


#: Tables whose rows are all composed.
ROWS = ("table2", "table6")


# Table 5 has no runs of its own.
@pytest.mark.parametrize("name", sorted({*NAMES} - {"table5", *PROTOCOL}))
def test_every_row_and_column_of_every_table_composes_on_cpu_and_gpu(name: str, tmp_path: Path) -> None:
    path = find_table(name)
    for scale_name in ("cpu", "gpu"):
        request = Request(
            table=read_table(path),
            scale=read_scale(path, scale_name),
            scale_name=scale_name,
            seeds=1,
            out=tmp_path,
        )
        for cell in cells(request):
            # A row decides environment and model, a scale the profile, a column the settings: each is composed once,
            # beside the first of the others. Table 1's rows are Table 6's, an ablation's are of Table 2.
            first_row = cell.row is request.table.rows[0]
            first_column = cell.weighting == next(iter(request.table.weightings))
            if not (first_row and scale_name == "cpu") and not (first_column and (first_row or name in ROWS)):
                continue
            (run,) = cell.runs
            settings = compose_run(run).settings
            weighting = request.table.weightings[cell.weighting].choice
            # He et al. 2026, App. C.
            expected = {"uniform": {}, "actfocus": {"alpha": "0.1", "beta": "0.5", **dict(weighting.settings)}}
            found = {key: settings.get(f"algorithm.actfocus.weighting.{key}") for key in ("alpha", "beta")}
            assert {key: f"{value:g}" for key, value in found.items() if value is not None} == {
                key: value for key, value in expected[weighting.name].items() if key in found
            }
            assert settings["data.environment.name"] == cell.row.env
            assert settings["trainer.device"] == {"cpu": "cpu", "gpu": "cuda"}[scale_name]
            assert (
                settings["algorithm.adv_estimator"]
                == {"ppo": "actfocus_gae", "grpo": "actfocus_grpo"}[run.conditions.algorithm]
            )
            if scale_name == "gpu":
                assert settings["actor_rollout_ref.model.path"] == request.scale.models[run.conditions.env][cell.size]
                assert run.environment == {}


def test_the_protocols_learning_rates_are_those_that_their_columns_name(tmp_path: Path) -> None:
    path = find_table("learning_rates")
    table = read_table(path)
    assert len(table.weightings) == 8 * 3
    for name, weighting in table.weightings.items():
        assert weighting.learning_rate is not None
        assert name.endswith(f"{weighting.learning_rate:.0e}".replace("e-0", "e-"))
        assert (weighting.settings == {"normalize_over": "tokens"}) == name.startswith("by-tokens")
    chosen = ("frozenlake", "uniform-3e-5", *(name for name in table.weightings if name.endswith("-1e-4")))
    scale = read_scale(path, "cpu")
    request = Request(table=table, scale=scale, scale_name="cpu", seeds=2, out=tmp_path, only=chosen)
    found = {}
    for cell in cells(request):
        assert [run.seed for run in cell.runs] == [101, 102]
        composed = compose_run(cell.runs[0])
        assert composed.steps == 20
        found[cell.weighting] = [
            composed.settings[key]
            for key in (
                "actor_rollout_ref.actor.optim.lr",
                "algorithm.actfocus.normalize_over",
                "algorithm.adv_estimator",
            )
        ]
    assert len(found) == 1 + 8 and found["uniform-3e-5"] == [3e-5, "mini_batch", "actfocus_grpo"]
    assert found["by-tokens-1e-4"] == [1e-4, "tokens", "actfocus_grpo"]
    assert found["gigpo-actfocus-1e-4"] == [1e-4, "mini_batch", "actfocus_gigpo"]


@pytest.mark.parametrize("name", CONFIRMATION)
def test_the_confirmation_trains_every_method_at_the_rate_that_stage_1_chose(name: str, tmp_path: Path) -> None:
    path = find_table(name)
    table = read_table(path)
    assert [(row.env, row.algorithm) for row in table.rows[:4]] == [
        (env, "grpo") for env in ("frozenlake", "sokoban", "sudoku", "webshop")
    ]
    chosen = chosen_rates.choices()
    for row in table.rows:
        rates = {method: one.rate for method, one in chosen[row.env, row.algorithm].items() if one.rate}
        for method, rate in row.learning_rates.items():
            # α from a measurement has ActFocus's.
            assert rate == float(rates[RATE_OF.get(method, method)])
        # A row is run with rates for all of its methods, or not yet.
        assert {*row.learning_rates} == (set() if row.waits_for else {*table.weightings})
    request = Request(table=table, scale=read_scale(path, "cpu"), scale_name="cpu", seeds=5, out=tmp_path)
    first = [cell for cell in cells(request) if cell.row is table.rows[0]]
    for cell in first:
        assert [run.seed for run in cell.runs] == [11, 12, 13, 14, 15]
        if table.weightings[cell.weighting].choice.settings == (("alpha", "auto"),):
            # Not composed before α is measured; the conditions of a run are those of Uniform's with the same rate.
            assert cell.runs[0].conditions == first[0].runs[0].conditions
        else:
            composed = compose_run(cell.runs[0])
            assert composed.steps == 40
            assert composed.settings["actor_rollout_ref.actor.optim.lr"] == cell.row.learning_rates[cell.weighting]


def test_the_protocols_models_are_those_of_the_warm_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variant in ("action", "reasoning", "both"):
        shutil.copytree(models.folder("frozenlake"), f"outputs/frozenlake-{variant}")
    path = find_table("mechanism")
    table = read_table(path)
    request = Request(table=table, scale=read_scale(path, "cpu"), scale_name="cpu", seeds=5, out=tmp_path)
    assert len(distinct_runs(cells(request))) == 3 * 3 * 5
    for cell in cells(request)[::4]:  # each model once
        composed = compose_run(cell.runs[0])
        model = "actor_rollout_ref.model."
        assert composed.settings[f"{model}path"] == f"outputs/frozenlake-{cell.size}/model"
        assert composed.settings[f"{model}tokenizer_path"] == f"outputs/frozenlake-{cell.size}/tokenizer"
        assert [run.seed for run in cell.runs] == [11, 12, 13, 14, 15] and composed.steps == 40


def test_a_gpu_run_takes_its_number_of_steps_from_the_recipe(tmp_path: Path) -> None:
    path = find_table("table2")
    request = Request(table=read_table(path), scale=read_scale(path, "gpu"), scale_name="gpu", seeds=1, out=tmp_path)
    one_each = {cell.row.env: cell.runs[0] for cell in cells(request)}
    steps = {env: compose_run(run).steps for env, run in one_each.items()}
    assert steps == {"sokoban": 200, "frozenlake": 200, "sudoku": 200, "webshop": 100}
