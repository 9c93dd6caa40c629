"""Tags: what can be told apart, and what a response still has to write after the prefill."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from verl_actfocus.envs import EpisodeLimits
from verl_actfocus.episodes import Episode, TagSettings

from .conftest import ScriptedEnv


def test_tags_read_from_yaml_are_equal_to_others_and_hashable() -> None:
    read = OmegaConf.create({"action": ["<act>", "</act>"], "reasoning": ["<r>", "</r>"], "prefill": ""})
    tags = TagSettings(action=("<act>", "</act>"), reasoning=("<r>", "</r>"), prefill="")
    assert TagSettings(**read) == TagSettings(**OmegaConf.to_container(read)) == tags
    assert len({TagSettings(**read), tags}) == 1
    assert tags.tags == ("<r>", "</r>", "<act>", "</act>")
    assert TagSettings(action="rest").tags == ("<think>", "</think>")


@pytest.mark.parametrize(
    ("prefill", "left"),
    [("<think>", ""), ("", "<think>"), (" \n", "<think>"), ("<think>\nStep 1:", ""), ("\n<th", "ink>")],
)
def test_a_response_writes_what_the_prefill_leaves_of_the_first_tag(prefill: str, left: str) -> None:
    assert TagSettings(prefill=prefill).left_to_write() == left


@pytest.mark.parametrize("prefill", ["Sure: ", "<answer>", "<think<"])
def test_a_prefill_that_no_valid_response_can_continue_is_refused_before_an_episode(prefill: str) -> None:
    limits = EpisodeLimits(turns=1, actions_per_turn=1, actions=1, words=9)
    with pytest.raises(ValueError, match=r"no valid response can continue the prefill .*'<think>'.*or to ''"):
        Episode(ScriptedEnv(), limits, tags=TagSettings(prefill=prefill))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefill": None}, "prefill must be a text, or '' for none, got None"),
        ({"action": ("<think>", "</think>")}, "all tags must differ"),
        ({"action": "all"}, "or 'rest' for all text that is not reasoning, got 'all'"),
    ],
)
def test_tags_that_can_be_confused_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TagSettings(**options)
