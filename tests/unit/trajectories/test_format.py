"""One line of the format: what is written is read back, and what is wrong with a line is said in one sentence."""

from __future__ import annotations

import dataclasses
import json
import math
import struct

import pytest

from verl_actfocus.trajectories import SIGNALS, VERSION, Trajectory, TrajectoryFormatError
from verl_actfocus.trajectories.format import SPAN_NAMES, shortest
from verl_actfocus.weighting import Span

from ...trajectories import episode, trajectory


def test_what_was_written_is_read_back() -> None:
    for one in (trajectory(), episode(task=7, failure="the server is gone"), trajectory(episode=None, step=None)):
        assert Trajectory.from_line(one.line()) == one
        assert Trajectory.from_line(one.line().encode()) == one


def test_a_line_is_plain_json_that_names_its_version() -> None:
    values = json.loads(trajectory().line())
    assert values["version"] == VERSION == 1
    assert values.keys() == {field.name for field in dataclasses.fields(Trajectory)}
    assert values["episode"]["turns"][1]["observation"] == "P_G" and values["episode"]["final_observation"] == "__√"


@pytest.mark.parametrize("character", ["\u0085", "\u2028", "\x0c", "\r\n", '"', "\\", "√", "\U0001f9ca", "\x00"])
def test_a_text_may_hold_any_character_and_a_line_stays_one_line(character: str) -> None:
    one = trajectory(prompt=character, tokens=[character] * 5)
    assert "\n" not in one.line() and Trajectory.from_line(one.line()) == one


def test_a_trajectory_says_what_its_episode_says_or_nothing() -> None:
    one = trajectory()
    assert (one.task, one.success, one.stop_reason, one.turn_count) == (3, True, "success", 2)
    foreign = trajectory(episode=None, environment=None, turn_rewards=None)
    assert (foreign.task, foreign.success, foreign.stop_reason, foreign.turn_count) == (None, None, None, 2)


def test_the_names_of_spans_are_those_of_the_weighting() -> None:
    assert tuple(span.name.lower() for span in Span) == SPAN_NAMES
    assert {"weight", "advantage", "ref_energy"} <= SIGNALS.keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": ["a"]}, r"5 tokens, but lists of other lengths: \{'tokens': 1\}"),
        ({"signals": {"weight": [1.0] * 6}}, r"5 tokens, but lists of other lengths: \{'signals\.weight': 6\}"),
        ({"spans": ["acton"] * 5}, r"unknown spans \['acton'\]"),
        ({"turns": [1, 1, -1, 0, 0]}, r"turns are numbered from 0 in their order .*got \[1, 0\]"),
        ({"turns": [0, 0, -2, 1, 1]}, r"got \[0, -2, 1\]"),
        ({"turn_rewards": [1.0]}, "2 turns, but 1 turn rewards"),
    ],
)
def test_a_trajectory_that_contradicts_itself_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(TrajectoryFormatError, match=message):
        trajectory(**changes)


#: Field, dotted → a value that it cannot have, and what is said of it.
WRONG = [
    ("ids", ["3", 4, 5, 6, 4], r"ids\.0: .*integer, got '3'"),
    ("ids", 3, r"ids: .*got '3'"),
    ("ids", [3.5, 4, 5, 6, 4], r"ids\.0: .*integer"),
    ("session", True, r"session: .*integer, got 'True'"),
    ("group", None, r"group: .*string"),
    ("reward", "1", r"reward: .*number"),
    ("reward", math.nan, r"reward: .*finite"),
    ("turns", [0, 0, None, 1, 1], r"turns\.2: .*integer"),
    ("signals", [1], r"signals: "),
    ("signals.weight", ["x", 1, 1, 1, 1], r"signals\.weight\.0: .*number, got 'x'"),
    ("signals.weight", [math.inf, 1, 1, 1, 1], r"signals\.weight\.0: .*finite"),
    ("signals.weight", None, r"signals\.weight: "),
    ("colour", "red", r"colour: .*got 'red'"),
    ("version", True, r"version: .*integer"),
    ("episode.task", "three", r"episode\.task: .*integer, got 'three'"),
    ("episode.colour", "red", r"episode\.colour: "),
    ("episode.turns", [{}], r"episode\.turns\.0\.text: "),
    ("episode.messages", [3], r"episode\.messages\.0: "),
    ("episode.outcomes", {"success": True}, "another metric has that name"),
    ("tokens", ["a"], "lists of other lengths"),
]


@pytest.mark.parametrize(("place", "value", "message"), WRONG)
def test_a_wrong_value_is_named_with_its_place(place: str, value: object, message: str) -> None:
    values = json.loads(trajectory().line())
    *path, name = place.split(".")
    target = values
    for part in path:
        target = target[part]
    target[name] = value
    with pytest.raises(TrajectoryFormatError, match=message):
        Trajectory.from_line(json.dumps(values))


REQUIRED = [f.name for f in dataclasses.fields(Trajectory) if f.default is f.default_factory is dataclasses.MISSING]


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_field_is_named(name: str) -> None:
    values = json.loads(trajectory().line())
    del values[name]
    with pytest.raises(TrajectoryFormatError, match=f"^{name}: "):
        Trajectory.from_line(json.dumps(values))


@pytest.mark.parametrize("line", ["", "{", "[]", "3", "null", '"text"', b"\xff\xfe", '{"version": 1', "nonsense"])
def test_what_is_no_json_object_is_no_trajectory(line: str | bytes) -> None:
    with pytest.raises(TrajectoryFormatError, match="not a trajectory"):
        Trajectory.from_line(line)


def test_another_version_is_refused_and_a_line_without_one_is_none() -> None:
    values = json.loads(trajectory().line())
    with pytest.raises(TrajectoryFormatError, match="version 2 of the format, not 1; write it again"):
        Trajectory.from_line(json.dumps({**values, "version": 2, "a_field_of_version_2": 0}))
    with pytest.raises(TrajectoryFormatError, match="version '1' of the format"):
        Trajectory.from_line(json.dumps({**values, "version": "1"}))
    del values["version"]
    with pytest.raises(TrajectoryFormatError, match="there is no version"):
        Trajectory.from_line(json.dumps(values))


def test_what_json_cannot_hold_is_refused_when_it_is_written() -> None:
    with pytest.raises(TrajectoryFormatError, match=r"the signals \['weight'\] hold numbers that are not finite"):
        trajectory(signals={"weight": [math.nan] * 5, "signal": [1.0] * 5}).line()
    with pytest.raises(TrajectoryFormatError, match="cannot be written"):
        trajectory(reward=math.inf).line()
    with pytest.raises(TrajectoryFormatError, match="cannot be written"):
        trajectory(prompt="\ud800").line()  # half a character
    with pytest.raises(TrajectoryFormatError, match="cannot be written"):
        trajectory(group=object()).line()


def test_single_precision_numbers_are_written_shortly_and_stay_themselves() -> None:
    values = [0.1, -11.5, 1e-07, -0.6931472, 3.4028235e38, 0.0, 1 / 3]
    singles = [struct.unpack("f", struct.pack("f", value))[0] for value in values]
    written = shortest(singles)
    assert written[:4] == [0.1, -11.5, 1e-07, -0.6931472]
    assert [struct.pack("f", value) for value in written] == [struct.pack("f", value) for value in singles]
