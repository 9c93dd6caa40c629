"""A table's file that says nonsense, or is asked for in a way that it is not for, is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from verl_actfocus.cli.main import main
from verl_actfocus.envs import ENVIRONMENTS, EnvironmentSpec, EpisodeLimits, TextEnv
from verl_actfocus.experiments.tables.files import find_table
from verl_actfocus.experiments.tables.grid import Request
from verl_actfocus.storage.errors import ExperimentError

from ..declared import TABLE

MakeRequest = Callable[..., Request]
CONTRAST = "quantity: area\ncontrasts: [{{larger: sokoban, than: frozenlake, {}}}]\nrows:"
EVALUATIONS = "evaluations:\n  {}\nrows:"


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
        ("{uniform: [null, 23.8]}", "{unifrom: [null, 23.8]}", r"\['unifrom'\] are not weightings of the table"),
        (
            "weighting: uniform}",
            "weighting: uni form}",
            r"weightings\.uniform\.weighting: 'uni form' is not a weighting",
        ),
        ("  actfocus: {label: ActFocus}", "  actfocus: {weighting: actfocus}", "label"),
        (
            "  actfocus: {label: ActFocus}",
            "  actfocus: {label: ActFocus, estimator: turn gae}",
            r"weightings\.actfocus\.estimator: 'turn gae' is not an estimator",
        ),
        (
            "  actfocus: {label: ActFocus}",
            "  actfocus: {label: ActFocus, estimator: turn_gae}",
            r"weightings\.actfocus\.estimator: turn_gae is for ppo, and row frozenlake for grpo",
        ),
        (
            "- env: sokoban",
            "- {env: sokobann}",
            "row sokobann: unknown environment 'sokobann': known are frozenlake, sok",
        ),
        (
            "- env: sokoban",
            "- {env: sokoban, outcome: sucess}",
            "row sokoban: outcome 'sucess' is not one of those of sokoban: success$",
        ),
        (
            "- env: sokoban",
            "- {env: webshop, outcome: purchases}",
            "row webshop: outcome 'purchases' is not one of those of webshop: success, purchase$",
        ),
        ("- env: sokoban", "- {env: sokoban, variant: mine}", "row mine needs both variant and model, or neither"),
        ("- env: sokoban", "- {env: sokoban, learning_rates: {me: 0.1}}", r"learning_rates: \['me'\] are not"),
        ("rows:", "quantity: area\npooled: peak\nrows:", "pooled: number 'peak' is not one of"),
        ("rows:", "pooled: final\nrows:", "pooled is of tables with quantity: area"),
        ("rows:", CONTRAST.format("weighting: uniform"), "no weighting beside the baseline"),
        (
            "rows:",
            CONTRAST.format("weighting: actfocus").replace("than: frozenlake", "than: x"),
            "0 rows are called 'x'",
        ),
        ("rows:", CONTRAST.format("weighting: actfocus, number: peak"), "'peak' is not one of"),
        ("rows:", CONTRAST.format("weighting: actfocus").replace("than: frozenlake", "than: sokoban"), "with itself"),
        ("rows:", CONTRAST.format("weighting: actfocus").replace("quantity: area", ""), "tables with quantity: area"),
        ("rows:", EVALUATIONS.format("a: {label: in training}"), "label 'in training' is another one's, too"),
        ("rows:", EVALUATIONS.format("a/b: {label: a, temperature: 0}"), r"evaluations\.a/b names a folder"),
        ("rows:", EVALUATIONS.format("training: {label: a, temperature: 0}"), "what the training's own evaluation is"),
        ("rows:", EVALUATIONS.format("a: {label: a, temperature: -1}"), r"a\.temperature -1\.0 must be at least 0"),
        ("rows:", EVALUATIONS.format("a: {label: a, first_task: -1}"), r"a\.first_task -1 must be at least 0"),
        (
            "rows:",
            "quantity: action_tokens\n" + EVALUATIONS.format("a: {label: a, temperature: 0}"),
            "evaluations are of tables of success",
        ),
        ("rows:", "seeds: 0\nrows:", "seeds 0 must be at least 1"),
        ("rows:", "steps: 0\nrows:", "steps 0 must be at least 1"),
        ("rows:", "first_seed: -1\nrows:", "first_seed -1 must be at least 0"),
        ("{label: ActFocus}", "{label: ActFocus, learning_rate: -1e-4}", "learning_rate -0.0001 must be above 0"),
        (
            "- env: sokoban",
            "- {env: sokoban, variant: a, model: b, sizes: [large]}",
            "row a has a variant, so no sizes",
        ),
        (
            "- env: sokoban",
            "- {env: sokoban, variant: a, model: b}\n  - {env: sokoban, variant: a, model: c}",
            r"the variant 'a' of sokoban names the models \['b', 'c'\]",
        ),
    ],
)
def test_a_mistake_in_a_table_is_named_with_the_file(
    line: str, instead: str, message: str, make_request: MakeRequest
) -> None:
    assert line in TABLE
    with pytest.raises(ExperimentError, match=message) as error:
        make_request(TABLE.replace(line, instead))
    assert "mine.yaml" in str(error.value)


class Maze(TextEnv):
    """As far as a table looks at an environment."""

    outcomes = ("key_found",)


#: Says it of an instance alone.
Computed = type("Computed", (Maze,), {"outcomes": property(lambda self: ("key_found",))})


def a_maze() -> Maze:
    """An entry point that is no class."""
    return Maze()


def test_a_row_may_count_what_an_environment_of_ones_own_declares(
    make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = EpisodeLimits(turns=1, actions_per_turn=1, actions=1, words=9)
    entry = EnvironmentSpec(id="Own/Maze-v0", entry_point=f"{__name__}:Maze", limits=limits, summary="a maze")
    monkeypatch.setitem(ENVIRONMENTS, "maze", entry)
    row = "- {env: maze, outcome: %s}"
    request = make_request(TABLE.replace("- env: sokoban", row % "key_found"))
    assert [row.outcome for row in request.table.rows] == ["success", "key_found"]
    with pytest.raises(ExperimentError, match="row maze: outcome 'key' is not one of those of maze: success, key_foun"):
        make_request(TABLE.replace("- env: sokoban", row % "key"))
    for place, message in (("lost:Maze", "No module named 'lost'"), (f"{__name__}:Mace", "no attribute 'Mace'")):
        monkeypatch.setitem(ENVIRONMENTS, "maze", replace(entry, entry_point=place))
        with pytest.raises(ExperimentError, match=rf"mine\.yaml: row maze: .*{message}"):
            make_request(TABLE.replace("- env: sokoban", row % "key_found"))
    # Only an environment that has been made knows these.
    for name in ("a_maze", "Computed"):
        monkeypatch.setitem(ENVIRONMENTS, "maze", replace(entry, entry_point=f"{__name__}:{name}"))
        assert make_request(TABLE.replace("- env: sokoban", row % "key_found")).table.rows[1].outcome == "key_found"


def test_a_contrast_of_a_row_with_several_models_is_refused(make_request: MakeRequest) -> None:
    """One of them would be tested, and nothing would say which."""
    table = TABLE.replace("rows:", CONTRAST.format("weighting: actfocus"))
    with pytest.raises(ExperimentError, match=r"row frozenlake has large, small at this scale; .* sizes: \[large\]"):
        make_request(table, scale="gpu")
    make_request(table, scale="cpu")


def test_settings_of_a_column_may_be_nested_and_hold_what_hydra_would_read_otherwise(make_request: MakeRequest) -> None:
    settings = "{trajectories: {every: 5, folder: 'a, b'}, normalize_over: null}"
    table = make_request(TABLE.replace("{label: ActFocus}", f"{{label: A, settings: {settings}}}")).table
    assert table.weightings["actfocus"].overrides == (
        "algorithm.actfocus.trajectories.every=5",
        "algorithm.actfocus.trajectories.folder='a, b'",
        "algorithm.actfocus.normalize_over=null",
    )


def test_a_table_for_one_scale_is_refused_on_another(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "mechanism", "--scale", "gpu", "--dry-run"]) == 2
    assert "mechanism is for --scale cpu, not gpu" in capsys.readouterr().err


def test_an_unknown_scale_is_refused_with_the_names(make_request: MakeRequest) -> None:
    with pytest.raises(ValueError, match=r"unknown scale 'tpu': .*_scales\.yaml has cpu, gpu"):
        make_request(scale="tpu")
