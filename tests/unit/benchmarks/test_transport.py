"""From records of puts, gets and all-reduces to bytes of a step at another scale."""

from __future__ import annotations

import asyncio

import pytest
import torch
from tensordict import NonTensorStack, TensorDict

from verl_actfocus.benchmarks import metering, transport
from verl_actfocus.benchmarks.transport import (
    Flow,
    Scale,
    all_reduces,
    count,
    flows,
    markdown,
    records_of_a_step,
    token_basis,
)
from verl_actfocus.storage.errors import ExperimentError

PROMPT, RESPONSE = 7, 20


def put(time, role="AgentLoopWorkerTQ", rows=1, **fields):
    return {"time": time, "role": role, "pid": 1, "kind": "put", "fields": {k: [*v, rows] for k, v in fields.items()}}


def played(time):
    return put(time, prompts=(PROMPT, 8), responses=(RESPONSE, 8), num_turns=(1, 300.0))


RECORDS = [
    *(played(float(10 * step + row)) for step in range(3) for row in range(2)),
    {**put(13.0, "TaskRunnerV1", 2, log_probs=(2 * (PROMPT + RESPONSE), 4)), "kind": "get"},
    {**put(14.0, "TaskRunnerV1", 2, log_probs=(2 * (PROMPT + RESPONSE), 4)), "kind": "get"},
    {**put(14.5, "TaskRunnerV1", 2, advantages=(2 * RESPONSE, 4)), "kind": "get"},
    put(15.0, "TaskRunnerV1", 1, advantages=(RESPONSE, 4)),
    put(99.0, "TaskRunnerV1", 1, late=(1, 4)),
    *({"time": 16.0, "role": "WorkerDict", "pid": pid, "kind": "all_reduce", "values": 1} for pid in (5, 6)),
]


def test_one_step_lasts_from_its_first_response_to_that_of_the_next():
    step = records_of_a_step(RECORDS, rows=2)
    assert [record["time"] for record in step] == [10.0, 11.0, 13.0, 14.0, 14.5, 15.0, 16.0, 16.0]


def test_records_of_too_few_steps_are_refused():
    with pytest.raises(ExperimentError, match="less than 3 steps of 3"):
        records_of_a_step(RECORDS, rows=3)


def test_passes_and_what_a_field_has_values_for_are_counted():
    found = {(flow.role, flow.kind, flow.field): flow for flow in flows(records_of_a_step(RECORDS, rows=2))}
    assert found["driver", "get", "log_probs"] == Flow("driver", "get", "log_probs", "sequence", 2.0, 4.0)
    # Half of the trajectories; the field is whole elsewhere.
    assert found["driver", "put", "advantages"] == Flow("driver", "put", "advantages", "response", 0.5, 4.0)
    assert found["agent loops", "put", "num_turns"].basis == "row"


@pytest.mark.parametrize(("count", "basis"), [(40, "response"), (54, "sequence"), (14, "prompt"), (2, None), (1, None)])
def test_values_are_whole_passes_of_the_tokens_they_belong_to(count, basis):
    assert token_basis(count, {"response": 40, "sequence": 54, "prompt": 14, "row": 2}) == basis


def test_bytes_at_a_scale_are_trajectories_times_tokens_times_size_times_passes():
    scale = Scale(trajectories=1024, tokens=16384, prompt=400)
    assert Flow("driver", "get", "log_probs", "sequence", 2.0, 4.0).at(scale) == 1024 * 16384 * 4 * 2
    assert Flow("driver", "put", "weights", "response", 1.0, 4.0).at(scale) == 1024 * 15984 * 4
    assert Flow("driver", "get", "uid", "row", 1.0, 100.0).at(scale) == 1024 * 100


def test_all_reduces_are_counted_for_each_rank():
    assert all_reduces(RECORDS) == (1.0, 1)


def test_the_tables_name_every_field_of_the_driver_and_leave_out_what_a_side_does_not_have():
    step = records_of_a_step(RECORDS, rows=2)
    both = (flows(step), all_reduces(step))
    without = ([flow for flow in both[0] if flow.field != "log_probs"], both[1])
    text = markdown({"stock-kl": without, "actfocus-kl": both}, Scale())
    assert "| `log_probs`, get | sequence | – | 2 | – | 0.134 |" in text
    assert "| driver, get | 0.065 | 0.200 |" in text


def test_a_field_is_counted_in_values_bytes_and_rows():
    rows = [torch.zeros(2, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)]
    data = TensorDict({"ids": torch.nested.as_nested_tensor(rows, layout=torch.jagged)}, batch_size=2)
    data["uid"] = NonTensorStack("a", "b")
    sizes = metering.sizes(data)
    assert sizes["ids"] == [5, 8, 2]
    assert sizes["uid"][0] == 2 and sizes["uid"][1] > 0


def test_puts_gets_and_all_reduces_are_recorded_and_still_happen(monkeypatch, tmp_path):
    monkeypatch.setenv(metering.FOLDER_VARIABLE, str(tmp_path))
    data = TensorDict({"a": torch.zeros(3)}, batch_size=3)

    async def original_put(self, given, metadata):
        return given, metadata

    async def original_get(self, metadata):
        return data

    assert asyncio.run(metering._metered_put(original_put)(None, data, "meta")) == (data, "meta")
    assert asyncio.run(metering._metered_get(original_get)(None, "meta")) is data
    assert metering._metered_all_reduce(lambda tensor, group: (tensor, group))(data["a"], group=1)[1] == 1
    (file,) = tmp_path.iterdir()
    kinds = [line.partition('"kind": "')[2].partition('"')[0] for line in file.read_text().splitlines()]
    assert kinds == ["put", "get", "all_reduce"]


def test_a_profile_that_is_none_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(ExperimentError, match="cpu_chess"):
        count(tmp_path / "out", "cpu_chess")
    assert not (tmp_path / "out").exists()


def test_runs_import_the_counters_beside_the_users_modules(tmp_path, monkeypatch):
    monkeypatch.setenv("VERL_USE_EXTERNAL_MODULES", "mine")
    seen = []

    def execute(run, display):
        seen.append(run._variables)
        raise ExperimentError("enough")

    monkeypatch.setattr(transport.BenchmarkRun, "execute", execute)
    with pytest.raises(ExperimentError, match="enough"):
        count(tmp_path, "cpu_frozenlake")
    assert seen[0]["VERL_USE_EXTERNAL_MODULES"] == "mine,verl_actfocus.benchmarks.metering"
    assert seen[0][metering.FOLDER_VARIABLE] == str(tmp_path / "stock-kl-records")
