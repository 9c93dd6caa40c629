"""What is said of nodes that cannot take part in a run, and of devices that are not NVIDIA's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ray import cloudpickle

from verl_actfocus.integration import nodes, registration
from verl_actfocus.integration.nodes import COMPARED, complaint, look, require_package

HERE = {"error": None, "verl_actfocus": "0.1.0", "verl": "0.9.1", "torch": "2.11.0", "transformers": "5.9.0"}


def test_this_process_has_what_it_compares_others_with() -> None:
    found = look(COMPARED)
    assert found["error"] is None and found["verl"] == "0.9.1" and complaint("here", found, found) is None


@pytest.mark.parametrize(
    ("there", "sentence"),
    [
        (HERE, None),
        (HERE | {"verl": "0.9.0"}, "node n has verl 0.9.0, the trainer 0.9.1"),
        (HERE | {"torch": None}, "node n has torch missing, the trainer 2.11.0"),
        (
            {"error": "ModuleNotFoundError: No module named 'verl_actfocus'"},
            "node n cannot train with this package: ModuleNotFoundError: No module named 'verl_actfocus'",
        ),
    ],
)
def test_a_node_is_named_with_what_it_lacks(there: dict, sentence: str | None) -> None:
    assert complaint("n", there, HERE) == sentence


def test_every_node_that_lacks_something_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"a": look(COMPARED), "b": {"error": "E: one"}, "c": {"error": "E: two"}}
    monkeypatch.setattr(nodes, "ask", lambda: answers)
    with pytest.raises(
        ValueError, match=r"node b .*E: one; node c .*E: two\. Install the same environment on every node"
    ):
        require_package(2)


def test_too_few_nodes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "ask", lambda: {"a": look(COMPARED)})
    with pytest.raises(ValueError, match=r"trainer\.nnodes=2, but the Ray cluster has 1 node\(s\) .*\(a\)"):
        require_package(2)


def test_one_node_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "ask", lambda: pytest.fail("asked"))
    require_package(1)


def test_a_node_without_the_package_can_read_the_question() -> None:
    """Sent by value: unpickled without this package's module, it works."""
    cloudpickle.register_pickle_by_value(nodes)
    try:
        sent = cloudpickle.dumps(look)
    finally:
        cloudpickle.unregister_pickle_by_value(nodes)
    assert cloudpickle.loads(sent).__globals__ is not nodes.__dict__
    assert cloudpickle.loads(sent)(("no-such-distribution",))["no-such-distribution"] is None


@pytest.mark.parametrize("vendor", ["amd", "metax"])
def test_devices_of_others_that_call_themselves_cuda_are_refused(vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    registration.require_engine("fsdp")  # the CPU, here
    monkeypatch.setenv("VERL_ENGINE_DEVICE", "cuda")
    monkeypatch.setenv("VERL_ENGINE_VENDOR", "nvidia")
    registration.require_engine("fsdp2")
    monkeypatch.setenv("VERL_ENGINE_VENDOR", vendor)
    monkeypatch.setattr(registration, "get_vendor", lambda: vendor)
    monkeypatch.setattr(registration, "get_device_name", lambda: "cuda")
    with pytest.raises(ValueError, match=rf"'{vendor}', which torch calls 'cuda': .* GPUs of nvidia"):
        registration.require_engine("fsdp")


def test_the_trainer_looks_before_it_builds_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    from verl_actfocus.integration import trainer

    config = SimpleNamespace(
        actor_rollout_ref=SimpleNamespace(actor=SimpleNamespace(strategy="fsdp")), trainer=SimpleNamespace(nnodes=2)
    )
    monkeypatch.setattr(trainer, "checked_settings", lambda config: None)
    monkeypatch.setattr(nodes, "ask", lambda: {"a": {"error": "E: none"}})
    with pytest.raises(ValueError, match="node a cannot train"):
        trainer.ActFocusTrainer(config)
