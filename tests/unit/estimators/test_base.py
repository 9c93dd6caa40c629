"""Estimators by name: registry, settings, and what a command line may write."""

from __future__ import annotations

import doctest
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import pytest
import torch

from verl_actfocus.estimators import (
    ESTIMATORS,
    GAE,
    GRPO,
    Estimate,
    Estimator,
    GiGPO,
    TrajectoryBatch,
    base,
    computed_estimate,
    estimator_from,
    groups,
    turns,
)
from verl_actfocus.estimators.base import register_estimator
from verl_actfocus.estimators.turns import by_turn, on_tokens, returns_to_go, turns_of
from verl_actfocus.experiments.runs.estimators import OWN, PACKAGED
from verl_actfocus.weighting.inputs import VERL_INPUTS, unknown_inputs

from .batches import Played, batch_of


def test_the_folder_of_schemes_is_what_is_registered():
    schemes = "verl_actfocus.estimators.schemes"
    stems = {file.name.removesuffix(".py") for file in files(schemes).iterdir() if file.name.endswith(".py")}
    modules = {cls.__module__ for cls in ESTIMATORS.values() if cls.__module__.startswith("verl_actfocus.")}
    assert modules == {f"{schemes}.{stem}" for stem in stems - {"__init__"}}


def test_the_command_line_knows_every_estimator_and_its_algorithm():
    algorithms = {choice.name: algorithm for algorithm, choice in OWN.items()}
    assert {name: algorithms[cls.base] for name, cls in ESTIMATORS.items()} == PACKAGED


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_is_one_name_away_with_inputs_that_a_step_delivers(name):
    made = estimator_from(f"actfocus_{name}")
    assert made == ESTIMATORS[name]() and made.verl_name == f"actfocus_{name}"
    assert unknown_inputs(made.needs, of_verl=VERL_INPUTS) == []


@pytest.mark.parametrize("name", ["grpo", "gae", "gigpo", "actfocus_", "actfocus_mine", "", None])
def test_an_unknown_name_is_refused_with_those_there_are(name):
    with pytest.raises(ValueError, match=r"does not go with \+actfocus: use one of .*'actfocus_gigpo'"):
        estimator_from(name)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"omega": "much"}, r"algorithm\.actfocus\.estimator\.omega='much' must be a finite number"),
        ({"omga": 1.0}, r"algorithm\.actfocus\.estimator has no setting \['omga'\]; GiGPO has \['gamma', 'omega'\]"),
        (3, "must be a section"),
    ],
)
def test_a_wrong_setting_is_named_with_place_and_remedy(section, message):
    with pytest.raises(ValueError, match=message):
        estimator_from("actfocus_gigpo", section)


def test_two_classes_of_one_name_and_another_base_are_refused():
    class Other(GRPO):
        name = "gigpo"

    with pytest.raises(ValueError, match="are both called 'gigpo'"):
        register_estimator(Other)

    class Foreign(GRPO):
        name, base = "foreign", "rloo"

    with pytest.raises(ValueError, match=r"Foreign\.base='rloo'.*'grpo' or 'gae'"):
        register_estimator(Foreign)
    assert "foreign" not in ESTIMATORS


@dataclass(frozen=True, kw_only=True)
class Returned(Estimator):
    """Returns what it is given."""

    name = "returned"
    base = "grpo"
    what: Any

    def estimate(self, batch: TrajectoryBatch) -> Any:
        return self.what


def estimate(*advantages: Any, returns: Any = None) -> Estimate:
    return Estimate(advantages=[*advantages], returns=[*advantages] if returns is None else returns)


ONE, THREE = torch.ones(1), torch.ones(3)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (torch.ones(2, 3), "must return an Estimate or None, got Tensor"),
        (estimate(ONE), "must return advantages as a list of 2 rows without padding, got 1 rows"),
        (estimate(ONE, THREE, returns=torch.ones(2, 3)), "must return returns as a list of 2 rows .* got Tensor"),
        (estimate(THREE, THREE), r"floating-point advantages of shape \(1,\) for row 0, got torch.float32, \(3,\)"),
        (estimate(ONE, THREE.long()), r"of shape \(3,\) for row 1, got torch.int64"),
        (estimate([1.0], THREE), r"of shape \(1,\) for row 0, got list"),
        (estimate(ONE, THREE / 0), "must return finite advantages; row 1 has inf"),
        (estimate(ONE, THREE, returns=[ONE * torch.nan, THREE]), "must return finite returns; row 0 has nan"),
    ],
)
def test_what_a_step_cannot_take_is_refused_with_estimator_and_place(what: Any, message: str) -> None:
    played = batch_of([Played("a", [1.0]), Played("a", [1.0], lengths=[3])])
    with pytest.raises(ValueError, match=f"the estimator 'returned' .*{message}|'returned' {message}"):
        computed_estimate(Returned(what=what), played)


def test_what_a_step_can_take_is_float32_afterwards() -> None:
    played = batch_of([Played("a", [1.0]), Played("a", [1.0], lengths=[3])])
    found = computed_estimate(Returned(what=estimate(ONE.double(), THREE)), played)
    assert [row.dtype for row in (*found.advantages, *found.returns)] == [torch.float32] * 4
    assert computed_estimate(Returned(what=None), played) is None


def test_verls_own_advantages_stand_but_for_level_groups():
    level = [Played("a", [10.8], advantage=-0.48) for _ in range(16)] + [Played("c", [1.0], advantage=1.0)]
    differ = [Played("b", [1.0], advantage=0.7), Played("b", [0.0], advantage=-0.7)]
    assert GRPO().estimate(batch_of(differ)) is None
    assert GAE().estimate(batch_of(level)) is None
    found = GRPO().estimate(batch_of(level + differ))
    assert [row[0].item() for row in found.advantages] == pytest.approx([0.0] * 17 + [0.7, -0.7])


def test_an_input_that_is_not_there_is_missed_by_name():
    with pytest.raises(ValueError, match=r"no input 'values', only \['anchor_states', 'turn_rewards'\]"):
        batch_of([Played("a", [1.0])]).input("values")


def test_tokens_become_turns_and_turns_tokens():
    of_token = turns_of(torch.tensor([0, 1, 1, 0, 1, 0]))
    assert of_token.tolist() == [-1, 0, 0, -1, 1, -1]
    assert by_turn(of_token, torch.tensor([9.0, 1.0, 2.0, 9.0, 4.0, 9.0])).tolist() == [3.0, 4.0]
    assert on_tokens(of_token, torch.tensor([3.0, 4.0])).tolist() == [0.0, 3.0, 3.0, 0.0, 4.0, 0.0]
    nothing = turns_of(torch.tensor([0, 0]))
    assert by_turn(nothing, torch.ones(2)).tolist() == [] and on_tokens(nothing, torch.ones(0)).tolist() == [0, 0]
    # A state is a number of 63 bits, which no float holds.
    large = 2**63 - 1
    assert by_turn(torch.tensor([0, 0]), torch.tensor([0, large])).tolist() == [large]
    assert returns_to_go([], 0.9) == []


@pytest.mark.parametrize("module", [base, groups, turns])
def test_the_examples_of_the_docstrings_are_right(module):
    outcome = doctest.testmod(module, extraglobs={"torch": torch})
    assert outcome.attempted > 0 and outcome.failed == 0


def test_a_setting_that_a_class_declares_is_checked_by_the_base():
    assert issubclass(GiGPO, Estimator) and GiGPO(omega=2).omega == 2
