"""The turns of an episode in veRL's rollout trace, with a stand-in for MLflow."""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import pytest
from transformers import AutoTokenizer
from verl.utils.rollout_trace import RolloutTraceConfig, rollout_trace_attr

from verl_actfocus import models
from verl_actfocus.episodes import TagSettings
from verl_actfocus.episodes.record import TurnRecord
from verl_actfocus.integration.turn_trace import trace_turn

from .scripted import Scripted, settings_with, trained

FIRST = TurnRecord(
    text="Down.</think><answer>Down</answer>",
    parsed=["Down"],
    executed=[],
    valid=False,
    problem="the environment refused Down",
    reward=-0.1,
    effective_actions=0,
    tokens=9,
    reasoning_tokens=2,
    action_tokens=1,
    observation="P.G",
)


class FakeMLflow(ModuleType):
    """What veRL's rollout trace calls of MLflow; keeps every span with the names of those around it."""

    def __init__(self):
        super().__init__("mlflow")
        self.spans, self._open = [], []
        self.config = SimpleNamespace(enable_async_logging=lambda: None)
        self.set_tracking_uri = self.set_experiment = lambda value: None
        self.set_trace_tag = lambda *words: None

    @contextmanager
    def start_span(self, name):
        span = SimpleNamespace(name=name, around=tuple(self._open), trace_id="t", inputs=None, outputs=None)
        span.set_inputs = lambda value: setattr(span, "inputs", value)
        span.set_outputs = lambda value: setattr(span, "outputs", value)
        self.spans.append(span)
        self._open.append(name)
        try:
            yield span
        finally:
            self._open.pop()


@pytest.fixture
def mlflow(monkeypatch):
    fake = FakeMLflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    RolloutTraceConfig.reset()
    yield fake
    RolloutTraceConfig.reset()


def traced(turns, *, trace=True):
    async def play():
        with rollout_trace_attr(sample_index=0, step=3, rollout_n=1, trace=trace):
            for number, turn in enumerate(turns, start=1):
                await trace_turn(number, turn)

    asyncio.run(play())


def test_a_turn_is_a_span_with_its_number_response_actions_reward_and_validity(mlflow):
    RolloutTraceConfig.init(project_name="p", experiment_name="e", backend="mlflow")
    traced([FIRST, FIRST])
    turns = [span for span in mlflow.spans if span.name == "EpisodeTurn.played"]
    assert [span.inputs["turn"] for span in turns] == [1, 2]
    assert turns[0].inputs == {"turn": 1, "observation": "P.G", "response": FIRST.text}
    assert turns[0].outputs == {
        "parsed": ["Down"],
        "executed": [],
        "reward": -0.1,
        "valid": False,
        "problem": "the environment refused Down",
    }
    assert turns[0].around == ("rollout_trace",)


@pytest.mark.parametrize("trace", [True, False])
def test_nothing_is_traced_where_nobody_asked_or_this_sample_was_not_chosen(mlflow, trace):
    if not trace:
        RolloutTraceConfig.init(project_name="p", experiment_name="e", backend="mlflow")
    traced([FIRST], trace=trace)
    assert mlflow.spans == []


def test_an_episode_is_a_span_of_its_own_that_its_turns_lie_in(mlflow):
    RolloutTraceConfig.init(project_name="p", experiment_name="e", backend="mlflow")
    tokenizer = AutoTokenizer.from_pretrained(str(models.folder("frozenlake") / "tokenizer"))
    responses = ["I go.</think><answer>Fly</answer>"] * 9
    trained(Scripted(tokenizer, responses), settings_with(TagSettings()))
    names = [(span.name, span.around) for span in mlflow.spans]
    turns = names.count(("EpisodeTurn.played", ("EpisodeLoop.run",)))
    assert turns >= 1
    assert names == [("EpisodeLoop.run", ()), *[("EpisodeTurn.played", ("EpisodeLoop.run",))] * turns]
    assert {span.outputs["valid"] for span in mlflow.spans[1:]} == {False}
