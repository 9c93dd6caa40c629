"""A table becomes the right runs, each of them once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from verl_actfocus.experiments.runs.composed_run import compose_run
from verl_actfocus.experiments.tables.grid import Request, cells, distinct_runs

from ..declared import TABLE

MakeRequest = Callable[..., Request]


def folders(request: Request) -> list[str]:
    root = Path(request.out).resolve()
    return [str(run.folder.relative_to(root)) for run in distinct_runs(cells(request))]


def test_all_cells_get_their_first_seed_before_any_gets_its_second(make_request: MakeRequest) -> None:
    assert folders(make_request()) == [
        f"cpu/{env}-grpo/{weighting}-seed{seed}"
        for seed in (1, 2)
        for env in ("frozenlake", "sokoban")
        for weighting in ("uniform", "actfocus")
    ]


def test_models_of_several_sizes_are_conditions_of_their_own(make_request: MakeRequest) -> None:
    request = make_request(scale="gpu", seeds=1)
    assert folders(request) == [
        f"gpu/{condition}/{weighting}-seed0"
        for condition in ("frozenlake-grpo-large", "frozenlake-grpo-small", "sokoban-grpo-large")
        for weighting in ("uniform", "actfocus")
    ]
    models = {run.conditions.extra for cell in cells(request) for run in cell.runs if "small" in str(run.folder)}
    assert models == {("actor_rollout_ref.model.path=little/model",)}


def test_a_sweep_shares_the_runs_of_the_weightings_own_settings(make_request: MakeRequest) -> None:
    sweep = TABLE.replace(
        "  actfocus: {label: ActFocus}",
        "  actfocus: {label: ActFocus}\n  half: {label: half, weighting: actfocus alpha=0.5}\n"
        "  batch: {label: batch, settings: {normalize_over: batch}}",
    )
    shared, own = set(folders(make_request())), set(folders(make_request(sweep)))
    assert own - shared == {
        f"cpu/{env}-grpo{run}-seed{seed}"
        for env in ("frozenlake", "sokoban")
        for seed in (1, 2)
        for run in ("/actfocus-alpha=0.5", "-normalize_over=batch/actfocus")
    }
    assert shared < own


def test_a_column_may_name_an_estimator_and_shares_the_runs_of_the_algorithms_own(make_request: MakeRequest) -> None:
    columns = "  actfocus: {label: ActFocus, estimator: grpo}\n  gigpo: {label: GiGPO, estimator: gigpo omega=0.5}"
    shared, own = (
        set(folders(make_request())),
        set(folders(make_request(TABLE.replace("  actfocus: {label: ActFocus}", columns)))),
    )
    assert own - shared == {
        f"cpu/{env}-grpo/actfocus-gigpo-omega=0.5-seed{seed}" for env in ("frozenlake", "sokoban") for seed in (1, 2)
    }
    assert shared < own


def test_variants_learning_rates_and_seeds_of_a_table_name_its_runs(make_request: MakeRequest) -> None:
    mine = TABLE.replace("rows:", "first_seed: 11\nrows:").replace(
        "{label: ActFocus}", "{label: A, learning_rate: 3e-4}"
    )
    rows = "  - env: sokoban\n    variant: copied\n    model: outputs/a b\n    learning_rates: {uniform: 1e-5}\n"
    request = make_request(mine.replace("  - env: sokoban\n", rows), seeds=1)
    assert folders(request) == [
        "cpu/frozenlake-grpo/uniform-seed11",
        "cpu/frozenlake-grpo-lr=0.0003/actfocus-seed11",
        "cpu/sokoban-grpo-copied-lr=1e-05/uniform-seed11",
        "cpu/sokoban-grpo-copied-lr=0.0003/actfocus-seed11",
    ]
    assert cells(request)[2].size == "copied"
    assert cells(request)[2].runs[0].conditions.extra == (
        "actor_rollout_ref.model.path='outputs/a b/model'",
        "actor_rollout_ref.model.tokenizer_path='outputs/a b/tokenizer'",
        "actor_rollout_ref.actor.optim.lr=1e-05",
    )
    assert [cell.size for cell in cells(make_request(mine.replace("  - env: sokoban\n", rows), only=("copied",)))] == [
        "copied",
        "copied",
    ]


def test_the_profiles_own_learning_rate_makes_no_other_run(make_request: MakeRequest) -> None:
    mine = TABLE.replace("{label: ActFocus}", "{label: A, learning_rate: 1e-4}")
    assert folders(make_request(mine)) == folders(make_request())
    with pytest.raises(ValueError, match="would change what mine sets in its rows or columns"):
        cells(make_request(mine, extra=("actor_rollout_ref.actor.optim.lr=1e-3",)))


def test_one_name_for_two_models_is_refused(make_request: MakeRequest) -> None:
    rows = "  - env: sokoban\n    variant: copied\n    model: outputs/{}\n"
    here, there = (make_request(TABLE.replace("  - env: sokoban\n", rows.format(name))) for name in ("a", "b"))
    with pytest.raises(
        ValueError, match=r"sokoban-grpo-copied/uniform-seed1 would be two runs, with .*a/model.* and with .*b/model"
    ):
        distinct_runs([*cells(here), *cells(there)])
    assert distinct_runs([*cells(here), *cells(here)]) == distinct_runs(cells(here))
    # Tables with different numbers of seeds go together.
    assert len(distinct_runs([*cells(make_request(seeds=1)), *cells(make_request(seeds=3))])) == 4 * 3


def test_an_override_of_what_the_table_sets_is_refused(make_request: MakeRequest) -> None:
    mine = TABLE.replace("{label: ActFocus}", "{label: A, learning_rate: 3e-4, settings: {normalize_over: batch}}")
    for key in ("actor_rollout_ref.actor.optim.lr", "algorithm.actfocus.normalize_over"):
        with pytest.raises(ValueError, match=f"would change what mine sets in its rows or columns: {key}"):
            cells(make_request(mine, extra=(f"++{key}=x",)))
    for section, key in (
        ("actor_rollout_ref.actor.optim={lr:5e-5}", "actor_rollout_ref.actor.optim.lr"),
        ("algorithm.actfocus={normalize_over:tokens}", "algorithm.actfocus.normalize_over"),
        ("~algorithm.actfocus", "algorithm.actfocus.normalize_over"),
    ):
        with pytest.raises(ValueError, match=f"in its rows or columns: {key}; name the settings that you mean"):
            cells(make_request(mine, extra=(section,)))
    assert cells(
        make_request(scale="gpu", extra=("actor_rollout_ref.model.path=my/model",))
    )  # the scale's, not the table's


def test_a_declared_rate_stays_when_a_group_brings_another(make_request: MakeRequest) -> None:
    # The profile's own, which names no folder.
    mine = TABLE.replace("{label: ActFocus}", "{label: A, learning_rate: 1e-4}")
    for extra in ((), ("+actfocus/adapter=lora",)):
        runs = distinct_runs(cells(make_request(mine, seeds=1, extra=extra)))
        rates = {run.title: compose_run(run).settings["actor_rollout_ref.actor.optim.lr"] for run in runs}
        declared = {title: rate for title, rate in rates.items() if "actfocus-seed" in title}
        assert set(declared.values()) == {1e-4} and len(declared) == 2


def test_two_outcomes_of_the_same_episodes_share_their_runs(make_request: MakeRequest) -> None:
    one = TABLE + "  - env: webshop\n"
    both = one + "  - env: webshop\n    outcome: purchase\n    label: purchase\n"
    assert folders(make_request(both)) == folders(make_request(one))


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        (("sokoban",), {("sokoban", "large", "uniform"), ("sokoban", "large", "actfocus")}),
        (("frozenlake", "small", "actfocus"), {("frozenlake", "small", "actfocus")}),
        (
            ("frozenlake", "sokoban", "large", "uniform"),
            {("frozenlake", "large", "uniform"), ("sokoban", "large", "uniform")},
        ),
        (("grpo", "small", "uniform"), {("frozenlake", "small", "uniform")}),
    ],
)
def test_words_of_a_kind_add_up_and_kinds_restrict_each_other(
    words: tuple[str, ...], chosen: set[tuple[str, str, str]], make_request: MakeRequest
) -> None:
    found = cells(make_request(scale="gpu", only=words))
    assert {(cell.row.env, cell.size, cell.weighting) for cell in found} == chosen


def test_a_word_that_names_nothing_is_refused(make_request: MakeRequest) -> None:
    labelled = TABLE + "  - env: sokoban\n    label: some label\n"
    with pytest.raises(ValueError) as error:
        cells(make_request(labelled, only=("sokobann",)))
    assert str(error.value) == (
        "--only sokobann: mine has the environments frozenlake, sokoban; the algorithms grpo; the outcomes some label; "
        "the model sizes tiny; the weightings uniform, actfocus"
    )
    with pytest.raises(ValueError, match=r"--only sokoban small leaves nothing of mine"):
        cells(make_request(scale="gpu", only=("sokoban", "small")))


def test_the_users_overrides_reach_every_run(make_request: MakeRequest) -> None:
    runs = distinct_runs(cells(make_request(extra=("trainer.test_freq=2",))))
    assert all(run.conditions.extra == ("trainer.test_freq=2",) for run in runs)


def test_a_row_that_waits_is_declared_and_has_no_runs_yet(make_request: MakeRequest) -> None:
    request = make_request(TABLE.replace("env: sokoban", "env: sokoban\n    waits_for: a rate"))
    assert [cell.row.env for cell in cells(request)] == ["frozenlake", "frozenlake", "sokoban", "sokoban"]
    assert {run.conditions.env for run in distinct_runs(cells(request))} == {"frozenlake"}
    assert distinct_runs([cell for cell in cells(request) if cell.row.env == "sokoban"]) == []
