"""A weighting on a command line: its name, its settings, and a folder's name that stays where it belongs."""

from __future__ import annotations

import re

import pytest

from verl_actfocus.experiments.runs.composition import compose
from verl_actfocus.experiments.runs.weightings import WeightingChoice, packaged_weightings
from verl_actfocus.weighting import WEIGHTINGS


def test_the_papers_weighting_has_one_name_and_the_group_default() -> None:
    assert packaged_weightings() == sorted(WEIGHTINGS)
    assert WeightingChoice.parse("actfocus").overrides() == ["+actfocus=default"]
    assert WeightingChoice.parse("uniform").overrides() == ["+actfocus=uniform"]


def test_settings_are_overrides_and_part_of_name_label_and_slug() -> None:
    choice = WeightingChoice.parse(" actfocus  beta=1.0 alpha=0.30 other=null")
    assert str(choice) == "actfocus alpha=0.3 beta=1 other=null"
    assert (choice.label, choice.slug) == (
        "ActFocus alpha=0.3 beta=1 other=null",
        "actfocus-alpha=0.3-beta=1-other=null",
    )
    section = "++algorithm.actfocus.weighting"
    assert choice.overrides()[1:] == [f"{section}.alpha=0.3", f"{section}.beta=1", f"{section}.other=null"]
    assert WeightingChoice.parse(str(choice)) == choice


@pytest.mark.parametrize(
    ("written", "number"),
    [
        (("0.001", "1e-3", "1E-03", ".001", "+0.001", "0.1e-2"), 0.001),
        (("1000", "1e3", "1_000", "+1000", "1000.0", "1.e3"), 1000),
        (("0", "-0", "0.0", "-0.0", "0e5"), 0),
        (("-2.5", "-25e-1", "-2.50"), -2.5),
        (("3e-05", "3e-5", "0.00003"), 3e-05),
    ],
)
def test_equal_numbers_are_one_choice_however_they_are_written(written: tuple[str, ...], number: float) -> None:
    """Another spelling would train again. What Hydra reads is taken from a configuration that it composes."""
    choices = {WeightingChoice.parse(f"actfocus eps={text}") for text in written}
    assert [choice.slug for choice in choices] == [f"actfocus-eps={number!r}"]
    texts = [*written, dict(choices.pop().settings)["eps"]]
    overrides = [f"++algorithm.actfocus.weighting.spelling{place}={text}" for place, text in enumerate(texts)]
    section = compose("+actfocus=default", *overrides).algorithm.actfocus.weighting
    assert [section[f"spelling{place}"] for place in range(len(texts))] == [number] * len(texts)


@pytest.mark.parametrize("text", ["007", "1__0", "1:30", "0x10", "'1e3'", "True", "infinity", "1,2", "[1", "~"])
def test_what_is_no_number_to_hydra_stays_as_it_is_written(text: str) -> None:
    assert WeightingChoice.parse(f"mine setting={text}").settings == (("setting", text),)


def test_a_weighting_without_a_packaged_group_goes_by_its_name() -> None:
    section = "algorithm.actfocus.weighting"
    assert WeightingChoice.parse("mine power=2").overrides() == [
        "+actfocus=custom",
        f"{section}.name=mine",
        f"++{section}.power=2",
    ]


@pytest.mark.parametrize("text", ["", "a b", "actfocus alpha", "actfocus =3", "actfocus alpha=", "../x", "a/b", "a=1"])
def test_what_is_no_weighting_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is not a weighting such as uniform or"):
        WeightingChoice.parse(text)


def test_a_setting_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="names a setting twice"):
        WeightingChoice.parse("actfocus alpha=0.3 alpha=0.3")


@pytest.mark.parametrize(
    "value",
    ["../../etc", "/tmp/x", "a\\b", "..", "ünï", "[1,2]", "x" * 500, "$HOME", "~"],
)
def test_no_value_escapes_the_folder_and_different_values_have_different_names(value: str) -> None:
    choice, other = WeightingChoice.parse(f"mine path={value}"), WeightingChoice.parse(f"mine path={value}_")
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9._=-]{0,150}", choice.slug)
    assert choice.slug != other.slug
