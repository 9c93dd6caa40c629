"""Which trajectories of a training step are written, what of them, and when no more are."""

from __future__ import annotations

import dataclasses
import json
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from tensordict import NonTensorStack, TensorDict
from transfer_queue import KVBatchMeta
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from verl_actfocus.config.settings import TrajectorySettings
from verl_actfocus.episodes import TagSettings
from verl_actfocus.integration import fields, trajectories
from verl_actfocus.integration.response_tagger import ResponseTagger
from verl_actfocus.integration.trajectories import TrajectoryLog, computed_signals
from verl_actfocus.trajectories import Trajectory, read_trajectories
from verl_actfocus.weighting import ActFocus, Span, TokenBatch, Uniform

from ...trajectories import trajectory as an_episode

A, R, N = int(Span.ACTION), int(Span.REASONING), int(Span.NONE)
TEXT = "I go right.</think><answer>Right</answer>"
SAID = "\nWhat now?\n"


class Queue:
    """TransferQueue with rows by key; remembers how many rows were asked for at a time."""

    def __init__(self, rows: dict[str, dict[str, Any]]) -> None:
        self.rows, self.most = rows, 0

    def kv_batch_get(self, keys: list[str], partition_id: str, select_fields: list[str]) -> TensorDict:
        if len(select_fields) > 1:
            self.most = max(self.most, len(keys))
        found = [name for name in select_fields if all(name in self.rows[key] for key in keys)]
        columns = {name: [self.rows[key][name] for key in keys] for name in found}
        return TensorDict({name: column(values) for name, values in columns.items()}, batch_size=len(keys))


def column(values: list[Any]) -> Any:
    if isinstance(values[0], torch.Tensor):
        return torch.nested.as_nested_tensor(values, layout=torch.jagged)
    return NonTensorStack(*values)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(str(files("verl_actfocus") / "models/frozenlake/tokenizer"))


class Step:
    """A training step's batch: two groups of two trajectories and a row of padding, of another agent loop."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tokenizer = tokenizer
        self.tagger = ResponseTagger(tokenizer, TagSettings())
        own, said = (tokenizer.encode(text, add_special_tokens=False) for text in (TEXT, SAID))
        self.ids = [*own, *said, *own]
        self.turns = [0] * len(own) + [-1] * len(said) + [1] * len(own)
        self.prompt = tokenizer.encode("Reach the goal.\n<think>", add_special_tokens=False)
        mask = torch.tensor([int(turn >= 0) for turn in self.turns])
        spans = self.tagger.tag(torch.tensor(self.prompt), torch.tensor(self.ids), mask)
        self.rows: dict[str, dict[str, Any]] = {}
        # The order in which veRL has balanced them; "b" stands first in the data.
        for number, key in enumerate(["a_1_0", "b_0_0", "a_0_0", "b_1_0", "padx_0_0"]):
            self.rows[key] = {
                "prompts": torch.tensor(self.prompt),
                "responses": torch.tensor(self.ids),
                "rm_scores": torch.tensor([0.0] * (len(self.ids) - 1) + [0.25 * number]),
                "advantages": torch.full((len(self.ids),), 0.1 * number),
                "old_log_probs": torch.full((len(self.ids),), -0.5),
                "index": {"a": 7, "b": 3, "padx": 0}[key.split("_")[0]],
                fields.SPANS: spans,
            }
        self.queue = Queue(self.rows)
        monkeypatch.setattr(trajectories, "tq", self.queue)

    def write(self, settings: TrajectorySettings, step: int = 1, environment: str | None = None, **signals: Any) -> int:
        keys = list(self.rows)
        tags = [{"is_padding": key.startswith("pad"), "max_global_steps": step - 1} for key in keys]
        batch = KVBatchMeta(keys=keys, tags=tags, partition_id="train", extra_info={})
        width = len(self.ids) + 3
        turns = torch.full((len(keys), width), -1)
        turns[:, : len(self.ids)] = torch.tensor(self.turns)
        computed = {"weight": torch.full((len(keys), width), 0.1)} | signals
        self.log = TrajectoryLog(settings, environment)
        assert self.log.wants(step)
        return self.log.write(step, batch, self.tagger, turns, computed)


@pytest.fixture
def step(tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch) -> Step:
    return Step(tokenizer, monkeypatch)


def settings(folder: Path, **changes: Any) -> TrajectorySettings:
    return TrajectorySettings(folder=str(folder), **changes)


def read(path: Path) -> list[Trajectory]:
    return list(read_trajectories(path))


def test_whole_groups_are_written_those_first_that_stand_first_in_the_data(step: Step, tmp_path: Path) -> None:
    assert step.write(settings(tmp_path, groups=1)) == 2
    assert [(one.group, one.session) for one in read(tmp_path / "1.jsonl")] == [("b", 0), ("b", 1)]
    assert step.write(settings(tmp_path, groups=5), step=10) == 4
    assert [(one.group, one.session) for one in read(tmp_path / "10.jsonl")] == [
        ("b", 0),
        ("b", 1),
        ("a", 0),
        ("a", 1),
    ]
    assert step.queue.most == 1, "one trajectory at a time"


def test_the_choice_does_not_depend_on_what_became_of_the_episodes(step: Step, tmp_path: Path) -> None:
    step.write(settings(tmp_path / "before", groups=1))
    for row in step.rows.values():
        row["rm_scores"] = -row["rm_scores"]
        row["advantages"] = -row["advantages"]
    step.rows = dict(reversed(step.rows.items()))
    step.write(settings(tmp_path / "after", groups=1))
    before, after = (
        [(one.group, one.session) for one in read(tmp_path / name / "1.jsonl")] for name in ("before", "after")
    )
    assert before == after


def test_a_trajectory_of_another_agent_loop_has_its_tokens_and_what_verl_knows(step: Step, tmp_path: Path) -> None:
    step.write(settings(tmp_path, groups=1))
    one = read(tmp_path / "1.jsonl")[0]
    assert one.prompt_ids == step.prompt and one.prompt == "Reach the goal.\n<think>"
    assert one.ids == step.ids and "".join(one.tokens) == TEXT + SAID + TEXT
    assert one.turns == step.turns and (one.step, one.policy_version) == (1, 0)
    text = "".join(token for token, span in zip(one.tokens, one.spans, strict=True) if span == "action")
    assert text == "RightRight"
    assert one.signals.keys() == {"weight", "advantage", "old_log_prob"}, "no ref_log_prob: nobody computed it"
    for name, value in (("weight", 0.1), ("advantage", 0.1), ("old_log_prob", -0.5)):
        assert one.signals[name] == [None if turn == -1 else value for turn in step.turns]
    assert one.reward == 0.25
    assert one.episode is None and one.environment is None and one.turn_rewards is None


def test_an_episode_of_this_packages_agent_loop_goes_along_with_rewards_of_its_turns(
    step: Step, tmp_path: Path
) -> None:
    record = an_episode().episode
    assert record is not None
    ends = [len(step.turns) - 1 - step.turns[::-1].index(turn) for turn in (0, 1)]
    for row in step.rows.values():
        rewards = torch.zeros(len(step.ids))
        rewards[ends] = torch.tensor([-0.1, 1.0])
        row |= {fields.EPISODE: json.dumps(dataclasses.asdict(record)), fields.TURN_REWARDS: rewards}
    step.write(settings(tmp_path, groups=1), environment="frozenlake")
    for one in read(tmp_path / "1.jsonl"):
        assert one.episode == record and one.environment == "frozenlake"
        assert one.turn_rewards == [-0.1, 1.0]


def test_a_number_that_is_not_finite_is_not_recorded_and_said(
    step: Step, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    energy = torch.full((5, len(step.ids)), -11.5)
    energy[1, 2] = math.nan  # b_0
    step.write(settings(tmp_path, groups=1), ref_energy=energy)
    first, second = read(tmp_path / "1.jsonl")
    assert first.signals["ref_energy"][1:4] == [-11.5, None, -11.5]
    assert second.signals["ref_energy"][2] == -11.5
    assert "trajectory b_0_0: 1 values of ref_energy are not finite" in caplog.text


def test_a_step_that_is_repeated_replaces_its_file_and_what_was_left_half_way(step: Step, tmp_path: Path) -> None:
    (tmp_path / "1.jsonl.gz").write_bytes(b"of an attempt that compressed")
    (tmp_path / "1.part").write_text('{"version": 1, "gro')  # of an attempt that was ended
    step.write(settings(tmp_path))
    once = read(tmp_path / "1.jsonl")
    step.write(settings(tmp_path))
    assert read(tmp_path / "1.jsonl") == once
    assert [path.name for path in tmp_path.iterdir()] == ["1.jsonl"]


def test_a_writer_that_is_ended_leaves_the_file_of_before(
    step: Step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step.write(settings(tmp_path))
    before = read(tmp_path / "1.jsonl")

    def killed(self: Trajectory) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trajectory, "line", killed)
        with pytest.raises(KeyboardInterrupt):
            step.write(settings(tmp_path))
    assert read(tmp_path / "1.jsonl") == before


def test_files_are_compressed_on_request(step: Step, tmp_path: Path) -> None:
    step.write(settings(tmp_path / "plain"))
    step.write(settings(tmp_path / "small", compress=True))
    plain, small = tmp_path / "plain/1.jsonl", tmp_path / "small/1.jsonl.gz"
    assert read(plain) == read(small)
    assert small.stat().st_size < plain.stat().st_size / 2


def test_a_folder_stays_within_its_bound_with_whole_groups_and_says_once_that_it_is_full(
    step: Step, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step.write(settings(tmp_path / "all", groups=2))
    two = [len((one.line() + "\n").encode()) for one in read(tmp_path / "all/1.jsonl")]
    assert capsys.readouterr().out == ""
    bound = settings(tmp_path / "some", groups=2, max_megabytes=(sum(two) - 1) / 1e6)
    assert step.write(bound) == 2, "a second group would be one byte too much"
    assert (tmp_path / "some/1.jsonl").stat().st_size == sum(two[:2])
    assert "no further trajectories are written" in capsys.readouterr().out
    assert not step.log.wants(10)
    # A new attempt finds room for another group; not for two.
    assert step.write(bound, step=10) == 0
    assert [path.name for path in (tmp_path / "some").iterdir()] == ["1.jsonl"]
    # What the step itself has written before is no hindrance.
    assert step.write(bound, step=1) == 2


def test_nothing_is_wanted_without_a_folder_and_otherwise_the_first_and_every_nth_step(tmp_path: Path) -> None:
    assert not any(TrajectoryLog(TrajectorySettings(), None).wants(step) for step in range(1, 30))
    log = TrajectoryLog(settings(tmp_path, every=10), None)
    assert [step for step in range(1, 31) if log.wants(step)] == [1, 10, 20, 30]


def test_inputs_are_recorded_by_their_names_and_log_probabilities_at_temperature_1_are_not_taken_for_verls() -> None:
    one = torch.ones(1, 2)
    batch = {"spans": torch.full((1, 2), A), "response_mask": one, "turns": torch.zeros(1, 2).long(), "advantages": one}
    energy = TokenBatch(**batch, inputs={"ref_energy": -11.0 * one})
    recorded = computed_signals(ActFocus(), energy, 0.1 * one)
    assert recorded.keys() == {"weight", "signal", "ref_energy"}
    assert recorded["weight"].equal(0.1 * one) and recorded["signal"].equal(-11.0 * one)
    shift = TokenBatch(**batch, inputs={"ref_log_prob": -3.0 * one, "old_log_prob": -1.0 * one})
    recorded = computed_signals(ActFocus(signal="shift"), shift, one)
    # He et al. 2026, Eq. 22: log-probability of the policy minus that of the reference.
    assert recorded.keys() == {"weight", "signal"} and recorded["signal"].equal(2.0 * one)
    assert computed_signals(Uniform(), TokenBatch(**batch), one).keys() == {"weight"}
