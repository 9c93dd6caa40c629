"""An estimator on a command line: its name, its settings, and the run that trains with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from verl_actfocus.experiments.runs.composed_run import compose_run
from verl_actfocus.experiments.runs.estimators import EstimatorChoice, method_label
from verl_actfocus.experiments.runs.run import Conditions, Run
from verl_actfocus.experiments.runs.weightings import ACTFOCUS, BASELINE
from verl_actfocus.storage.errors import ExperimentError


def a_run(tmp_path: Path, estimator: str, algorithm: str = "grpo", extra: tuple[str, ...] = ()) -> Run:
    conditions = Conditions(profile="cpu_frozenlake", algorithm=algorithm, folder=tmp_path / "c", extra=extra)
    return Run(conditions=conditions, weighting=ACTFOCUS, other_estimator=EstimatorChoice.parse(estimator), seed=3)


def test_a_choice_has_one_spelling_name_and_label() -> None:
    choice = EstimatorChoice.parse(" actfocus_gigpo  gamma=1.0 omega=0.50")
    assert str(choice) == "gigpo gamma=1 omega=0.5" and EstimatorChoice.parse(str(choice)) == choice
    assert (choice.verl_name, choice.slug) == ("actfocus_gigpo", "gigpo-gamma=1-omega=0.5")
    assert method_label(BASELINE, choice) == "Uniform, GiGPO gamma=1 omega=0.5"
    assert method_label(BASELINE, None) == "Uniform"


@pytest.mark.parametrize("text", ["", "a b", "gigpo omega", "../x"])
def test_what_is_no_estimator_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is not an estimator such as gigpo or"):
        EstimatorChoice.parse(text)


def test_the_algorithms_own_estimator_leaves_name_identity_and_settings_as_they_were(tmp_path: Path) -> None:
    own = a_run(tmp_path, "grpo")
    plain = Run(conditions=own.conditions, weighting=ACTFOCUS, seed=3)
    assert own.folder == plain.folder and own.folder.name == "actfocus-seed3"
    assert own.overrides() == plain.overrides()
    composed = compose_run(own)
    assert composed.settings == compose_run(plain).settings
    assert "estimator" not in composed.identity()
    assert not any(key.startswith("algorithm.actfocus.estimator") for key in composed.settings)


def test_another_estimator_is_part_of_all_of_them(tmp_path: Path) -> None:
    run = a_run(tmp_path, "optimal_token_baseline handle_zero_tail=false")
    assert run.folder.name == "actfocus-optimal_token_baseline-handle_zero_tail=false-seed3"
    composed = compose_run(run)
    assert composed.identity()["estimator"] == "optimal_token_baseline handle_zero_tail=false"
    assert composed.settings["algorithm.adv_estimator"] == "actfocus_optimal_token_baseline"
    assert composed.settings["algorithm.actfocus.estimator.handle_zero_tail"] is False


@pytest.mark.parametrize(
    ("estimator", "algorithm", "message"),
    [
        ("gae", "grpo", "gae is for ppo, not for grpo; choose one of grpo, gigpo"),
        ("gigpo", "ppo", "gigpo is for grpo, not for ppo; choose one of gae, turn_gae"),
    ],
)
def test_an_estimator_of_another_algorithm_is_refused(
    tmp_path: Path, estimator: str, algorithm: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        a_run(tmp_path, estimator, algorithm)


def test_the_settings_of_estimators_belong_to_their_names(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"would change every estimator unseen.*'gigpo omega=0\.5'"):
        a_run(tmp_path, "gigpo", extra=("++algorithm.actfocus.estimator.omega=2",))


def test_a_wrong_setting_is_found_before_anything_begins(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"estimator has no setting \['omga'\]; GiGPO has"):
        compose_run(a_run(tmp_path, "gigpo omga=1"))


def test_an_estimator_of_the_users_own_trains_with_the_algorithm_that_it_starts_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from verl_actfocus.estimators import ESTIMATORS, GAE

    class Mine(GAE):
        name = "mine"

    monkeypatch.setitem(ESTIMATORS, "mine", Mine)
    assert compose_run(a_run(tmp_path, "mine", "ppo")).settings["algorithm.adv_estimator"] == "actfocus_mine"
    with pytest.raises(ExperimentError, match="mine starts from veRL's gae, which is not what --algorithm grpo"):
        compose_run(a_run(tmp_path, "mine"))
