"""What goes on a page: everything, or whole groups spread over runs and steps, and the rest is named."""

from __future__ import annotations

import json
import os
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.viewer import find_sources, select

from .samples import make, write


def run_of(path: Path, steps: int, groups: int, sessions: int) -> Path:
    made = [
        make(step=step, group=f"{step}-{group}", task=group, session=session)
        for step in range(1, steps + 1)
        for group in range(groups)
        for session in range(sessions)
    ]
    return write(path, made)


def test_a_page_with_room_shows_everything_in_the_order_of_runs_steps_groups_and_sessions(tmp_path: Path) -> None:
    files = [run_of(tmp_path / f"{name}.jsonl", 3, 2, 2) for name in ("b", "a")]
    selection = select(find_sources(files), 24)
    names = [entry.summary["name"] for entry in selection.entries]
    assert len(names) == 24 and names == sorted(names, key=lambda name: (name[0] == "a", name))
    assert names[0] == "b/1/1-0/0" and selection.omissions == []


@pytest.mark.parametrize(("limit", "groups"), [(4, 1), (15, 3), (16, 4), (47, 11), (1, 1)])
def test_whole_groups_are_taken_up_to_the_limit_and_the_rest_is_counted(
    limit: int, groups: int, tmp_path: Path
) -> None:
    files = [run_of(tmp_path / f"{name}.jsonl", 3, 2, 4) for name in ("a", "b")]
    selection = select(find_sources(files), limit)
    sizes = Counter((entry.summary["source"], entry.summary["group"]) for entry in selection.entries)
    assert set(sizes.values()) == {4} and len(sizes) == groups
    left = 48 - 4 * groups
    assert selection.omissions == [
        f"{left} of 48 trajectories are not on this page: {12 - groups} of 12 groups, beyond the limit of {limit}; "
        "actfocus view --limit 48 takes all."
    ]


def test_runs_and_steps_have_their_turns_before_second_groups(tmp_path: Path) -> None:
    files = [run_of(tmp_path / f"{name}.jsonl", 5, 3, 1) for name in ("a", "b")]
    entries = select(find_sources(files), 10).entries
    assert [entry.summary["name"] for entry in entries] == [
        f"{run}/{step}/{step}-0/0" for run in "ab" for step in range(1, 6)
    ]


def test_a_limit_below_the_number_of_steps_keeps_the_first_and_the_last(tmp_path: Path) -> None:
    entries = select(find_sources([run_of(tmp_path / "a.jsonl", 9, 1, 1)]), 3).entries
    assert [entry.summary["step"] for entry in entries] == [1, 5, 9]


def test_groups_of_a_step_stay_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    """Training writes the same tasks first in every run; the groups' own names are random."""
    file = write(tmp_path / "a.jsonl", [make(group=group, session=n) for group in ("z", "m", "a") for n in (1, 0)])
    entries = select(find_sources([file]), 9).entries
    assert [entry.summary["name"] for entry in entries] == [f"a/1/{group}/{n}" for group in "zma" for n in (0, 1)]


def test_a_trajectory_that_is_there_twice_is_shown_twice(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [make(), make()])
    assert [entry.summary["name"] for entry in select(find_sources([file]), 9).entries] == [
        "a/1/task-7/0",
        "a/1/task-7/0/2",
    ]


def test_trajectories_of_one_task_are_known_by_seed_and_first_state_or_by_place_in_the_data_and_prompt(
    tmp_path: Path,
) -> None:
    first = make()
    assert first.episode is not None
    larger = replace(first.episode, turns=[replace(turn, observation="P _ _ _ G") for turn in first.episode.turns])
    made = [
        make(step=1),
        make(step=2, prompt="another wording"),
        make(task=8),
        make(environment="other"),
        make(episode=larger),
        make(episode=None, prompt="p", index=3),
        make(episode=None, prompt="p", index=3, step=2),
        make(episode=None, prompt="p", index=4),
        make(episode=None, prompt="q", index=3),
    ]
    file = write(tmp_path / "a.jsonl", [*made])
    keys = {}
    for entry in select(find_sources([file]), 99).entries:
        one = entry.summary
        body = json.loads(zlib.decompress(entry.body))
        keys.setdefault(one["same_task"], []).append((one["environment"], one["task"], body["prompt"], one["step"]))
    together = sorted(sorted(step for *_, step in group) for group in keys.values())
    assert together == [[1], [1], [1], [1], [1], [1, 2], [1, 2]]


def test_a_group_that_several_versions_of_the_policy_have_written_is_one(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [make(session=n, policy_version=3 + n) for n in range(2)])
    selection = select(find_sources([file]), 1)
    assert [entry.summary["session"] for entry in selection.entries] == [0, 1] and not selection.omissions
    assert [entry.summary["moment"] for entry in selection.entries] == [[1, None], [1, None]]
    # Outside training the version tells one play of a task from another.
    file = write(tmp_path / "b.jsonl", [make(step=None, policy_version=n) for n in range(2)])
    assert len(select(find_sources([file]), 1).entries) == 1


def test_a_damaged_line_is_named_with_its_file_and_number(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [make()])
    with file.open("a") as stream:
        stream.write('{"version": 1, "group": 3}\n')
    write(file, [make()])
    with pytest.raises(ExperimentError, match=r"a\.jsonl, line 2: .*; leave out that line or the whole file"):
        select(find_sources([file]), 10)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_a_last_line_that_was_cut_off_is_named(suffix: str, tmp_path: Path) -> None:
    file = write(tmp_path / f"a{suffix}", [make(), make(session=1)])
    os.truncate(file, file.stat().st_size - 60)
    selection = select(find_sources([file]), 10)
    assert len(selection.entries) == 1
    assert selection.omissions == [f"The last line of {file} was cut off while it was written, and is left out."]


def test_a_run_without_trajectories_among_others_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    write(tmp_path / "full.jsonl", [make()])
    assert select(find_sources([tmp_path]), 10).omissions == ["empty holds no trajectories."]


def test_what_was_not_recorded_stays_unknown(tmp_path: Path) -> None:
    bare = make(episode=None, step=None, policy_version=None, environment=None, turn_rewards=None, signals={})
    (entry,) = select(find_sources([write(tmp_path / "a.jsonl", [bare])]), 10).entries
    unknown = {name for name, value in entry.summary.items() if value is None}
    assert unknown == {"environment", "step", "policy_version", "task", "success", "stop_reason"}
    body = json.loads(zlib.decompress(entry.body))
    assert body["signals"] == {} and body["played"] is None and body["turn_rewards"] is None
