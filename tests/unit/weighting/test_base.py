"""What every weighting shares: settings out of YAML, the batch, the registry, the check of what a scheme returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.resources import files
from itertools import groupby
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from verl_actfocus import TokenBatch, Weighting, register_weighting
from verl_actfocus.weighting import WEIGHTINGS, ActFocus, compute_weights, turn_indices, weighting_from

GROUPS = {name: "default" if name == "actfocus" else name for name in WEIGHTINGS}
PATH = r"algorithm\.actfocus\.weighting"
NAN = float("nan")


@pytest.fixture
def registry() -> Iterator[dict[str, type[Weighting]]]:
    before = dict(WEIGHTINGS)
    yield WEIGHTINGS
    WEIGHTINGS.clear()
    WEIGHTINGS.update(before)


def a_batch(mask: list[list[int]], **inputs: torch.Tensor) -> TokenBatch:
    ones = torch.tensor(mask)
    return TokenBatch(
        spans=ones, response_mask=ones, turns=turn_indices(ones), advantages=torch.ones(ones.shape), inputs=inputs
    )


def test_the_folder_of_schemes_is_what_is_registered() -> None:
    schemes = "verl_actfocus.weighting.schemes"
    stems = {file.name.removesuffix(".py") for file in files(schemes).iterdir() if file.name.endswith(".py")}
    modules = {cls.__module__ for cls in WEIGHTINGS.values() if cls.__module__.startswith("verl_actfocus.")}
    assert modules == {f"{schemes}.{stem}" for stem in stems - {"__init__"}}


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_holds_the_classs_defaults_and_of_the_section_nothing_but_the_weighting(name: str) -> None:
    group = OmegaConf.load(str(files("verl_actfocus.config") / f"actfocus/{GROUPS[name]}.yaml"))
    section = OmegaConf.to_container(group.algorithm.actfocus)
    assert section == {"weighting": {"name": name, **asdict(WEIGHTINGS[name]())}}
    assert weighting_from(section["weighting"]) == WEIGHTINGS[name]()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (None, rf"{PATH}=None must be a section.*'actfocus'"),
        ("uniform", rf"{PATH}='uniform' must be a section"),
        ({"alpha": 0.1}, r"must be a section with the name of a weighting"),
        ({"name": "actfocs"}, rf"{PATH}\.name='actfocs' is not a weighting.*'actfocus'.*VERL_USE_EXTERNAL_MODULES"),
        ({"name": "???"}, rf"{PATH}\.name='\?\?\?' is not a weighting"),
        ({"name": ["uniform"]}, rf"{PATH}\.name=\['uniform'\] is not a weighting"),
        ({"name": "uniform", "alpha": 1}, rf"{PATH} has no setting \['alpha'\]; Uniform has none"),
        ({"name": "actfocus", "alfa": 1, 3: 4}, rf"{PATH} has no setting \['3', 'alfa'\]; ActFocus has \['alpha'"),
        ({"name": "actfocus", "alpha": 1.1}, rf"{PATH}\.alpha=1\.1 must lie in \[0, 1\]"),
        ({"name": "actfocus", "alpha": -0.1}, rf"{PATH}\.alpha=-0\.1 must lie in"),
        ({"name": "actfocus", "alpha": NAN}, rf"{PATH}\.alpha=nan must be a finite number"),
        ({"name": "actfocus", "alpha": "0.1"}, rf"{PATH}\.alpha='0\.1' must be a finite number"),
        ({"name": "actfocus", "alpha": True}, rf"{PATH}\.alpha=True must be a finite number"),
        ({"name": "actfocus", "alpha": None}, rf"{PATH}\.alpha=None must be a finite number"),
        ({"name": "actfocus", "beta": -1}, rf"{PATH}\.beta=-1 must be at least 0"),
        ({"name": "actfocus", "beta": float("inf")}, rf"{PATH}\.beta=inf must be a finite number"),
        ({"name": "actfocus", "beta": {"x": 1}}, rf"{PATH}\.beta=.* must be a finite number"),
        ({"name": "actfocus", "eps": 0}, rf"{PATH}\.eps=0 must be positive"),
        ({"name": "actfocus", "other": -1}, rf"{PATH}\.other=-1 must be at least 0, or null"),
        ({"name": "actfocus", "other": "alpha"}, rf"{PATH}\.other='alpha' must be a finite number or null"),
        ({"name": "actfocus", "signal": "energie"}, rf"{PATH}\.signal='energie' is not a signal.*'energy'"),
        ({"name": "actfocus", "signal_source": "new"}, rf"{PATH}\.signal_source='new' is no source.*'reference'"),
        (
            {"name": "actfocus", "signal": "shift", "signal_source": "old"},
            rf"{PATH}\.signal_source='old' is for the signals \['energy', 'entropy'\].*signal='shift'",
        ),
        ({"name": "actfocus", "signal": 3}, rf"{PATH}\.signal=3 must be a text"),
        ({"name": "entropy_top", "share": 0}, rf"{PATH}\.share=0 must lie in \(0, 1\]"),
        ({"name": "entropy_top", "share": 1.5}, rf"{PATH}\.share=1\.5 must lie in"),
        ({"name": "entropy_top", "share": [0.2]}, rf"{PATH}\.share=.* must be a finite number"),
    ],
)
def test_a_wrong_section_is_one_sentence_with_setting_value_and_remedy(section: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        weighting_from(section)
    assert "\n" not in str(error.value)


def test_settings_are_checked_in_python_too() -> None:
    settings: dict[str, Any] = {"alpha": "0.1"}
    with pytest.raises(ValueError, match=rf"{PATH}\.alpha='0\.1' must be a finite number"):
        ActFocus(**settings)


def test_a_registered_scheme_is_chosen_by_name_with_all_kinds_of_settings(registry: dict) -> None:
    @register_weighting
    @dataclass(frozen=True, kw_only=True)
    class Mine(Weighting):
        name = "mine"
        required: int
        flag: bool = False
        pair: tuple[float, float] = (1.0, 2.0)

        def weights(self, batch: TokenBatch) -> torch.Tensor:
            return batch.response_mask.float()

    scheme = weighting_from({"name": "mine", "required": 3, "pair": [0, 1]})
    assert scheme == Mine(required=3, pair=(0, 1)) and scheme.needs == ()
    for settings, message in (
        ({}, r"\.required is missing; set it"),
        ({"required": 1.5}, r"\.required=1\.5 must be a whole number"),
        ({"required": True}, r"\.required=True must be a whole number"),
        ({"required": 1, "flag": 1}, r"\.flag=1 must be true or false"),
        ({"required": 1, "pair": [1]}, r"\.pair=\(1,\) must be a list of 2 values"),
        ({"required": 1, "pair": [1, "x"]}, r"\.pair=.* must be a list of 2 values"),
    ):
        with pytest.raises(ValueError, match=PATH + message):
            weighting_from({"name": "mine", **settings})


def test_two_schemes_of_one_name_are_refused(registry: dict) -> None:
    class Other(ActFocus):
        pass

    with pytest.raises(ValueError, match=r"Other and .*ActFocus are both called 'actfocus'; rename"):
        register_weighting(Other)
    assert registry["actfocus"] is ActFocus
    assert register_weighting(ActFocus) is ActFocus


def test_common_slips_in_a_scheme_are_refused_when_it_is_registered(registry: dict) -> None:
    class Nameless(Weighting):
        def weights(self, batch: TokenBatch) -> torch.Tensor:
            return batch.response_mask.float()

    class Hyphenated(Nameless):
        name = "my-weights"

    class NoDataclass(Nameless):
        name = "no_dataclass"
        constant: ClassVar[int] = 1
        factor: float = 2.0

    class Misspelt(Weighting):
        name = "misspelt"

        def weight(self, batch: TokenBatch) -> torch.Tensor:
            return batch.response_mask.float()

    for cls, message in (
        (Nameless, r"Nameless\.name=None must be a name of letters, digits and underscores"),
        (Hyphenated, r"Hyphenated\.name='my-weights' must be a name"),
        (
            NoDataclass,
            r"NoDataclass has the settings \['factor'\], but is no dataclass when it is registered: write @dat",
        ),
        (Misspelt, r"Misspelt is a weighting without weights: define it"),
    ):
        with pytest.raises(ValueError, match=message):
            register_weighting(cls)
    assert not {"my-weights", "no_dataclass", "misspelt"} & registry.keys()


@given(st.lists(st.lists(st.integers(0, 1), min_size=7, max_size=7), min_size=1, max_size=3))
def test_every_unbroken_run_of_the_models_tokens_is_a_turn(mask: list[list[int]]) -> None:
    expected = []
    for row in mask:
        runs = [(value, len(list(group))) for value, group in groupby(row)]
        turn, indices = -1, []
        for value, length in runs:
            turn += value
            indices += [turn if value else -1] * length
        expected.append(indices)
    assert turn_indices(torch.tensor(mask)).tolist() == expected


def test_a_sum_over_turns_stays_within_trajectory_and_turn() -> None:
    batch = a_batch([[1, 1, 0, 1, 0], [1, 0, 1, 1, 1]])
    values = torch.tensor([[1.0, 2, 100, 3, 100], [4, 100, 5, 6, 7]])
    assert batch.sum_over_turns(values).tolist() == [[3, 3, 0, 3, 0], [4, 0, 18, 18, 18]]


def test_an_input_that_was_not_asked_for_is_named_with_what_there_is() -> None:
    batch = a_batch([[1]], old_entropy=torch.ones(1, 1))
    assert batch.input("old_entropy").tolist() == [[1.0]]
    with pytest.raises(ValueError, match=r"no input 'ref_energy', only \['old_entropy'\].*`needs`"):
        batch.input("ref_energy")


def test_tensors_of_a_batch_have_one_shape() -> None:
    with pytest.raises(ValueError, match=r"ref_energy must have the shape of spans, \(1, 2\), got \(1, 3\)"):
        a_batch([[1, 1]], ref_energy=torch.ones(1, 3))


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (torch.ones(1, 3), r"'fixed' must return float32 weights of shape \(2, 2\), got torch.float32, \(1, 3\)"),
        (torch.ones(2, 2, dtype=torch.float64), "float32 weights.*got torch.float64"),
        (torch.tensor([[1.0, NAN], [1.0, 0.0]]), "finite weights.*sequence 0, position 1"),
        (torch.tensor([[1.0, 1.0], [-1.0, 0.0]]), "at least 0.*sequence 1, position 0"),
        (torch.ones(2, 2), "0 outside the response mask; not so at sequence 1, position 1"),
    ],
)
def test_weights_that_the_loss_cannot_take_are_refused_with_scheme_and_place(
    returned: torch.Tensor, message: str
) -> None:
    class Fixed(Weighting):
        name = "fixed"

        def weights(self, batch: TokenBatch) -> torch.Tensor:
            return returned

    with pytest.raises(ValueError, match=message):
        compute_weights(Fixed(), a_batch([[1, 1], [1, 0]]))
