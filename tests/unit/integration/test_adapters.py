"""LoRA's adapters reach the rollout: names and values are those that peft saves of the model before it is sharded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from verl_actfocus import models
from verl_actfocus.integration.adapters import adapter_weights

from . import gradients

LORA = ["actor_rollout_ref.model.lora_rank=4", "actor_rollout_ref.model.lora.merge=False"]
FLAT = "actor_rollout_ref.actor.fsdp_config.use_orig_params=False"
#: The engine of a GPU among them: what it sends is collected by the same mixin.
ENGINES = {
    "fsdp": {"strategy": "fsdp", "overrides": LORA},
    "fsdp with flat parameters": {"strategy": "fsdp", "overrides": [*LORA, FLAT]},
    "fsdp as on a GPU": {"strategy": "fsdp", "overrides": LORA, "outputs_of_a_gpu": True},
    "fsdp2": {"strategy": "fsdp2", "overrides": LORA},
}


def alike(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(found[name].equal(value) for name, value in expected.items())


@pytest.mark.parametrize("world", [1, 2])
def test_every_rank_sends_all_adapters_under_the_names_of_a_file_of_them(tmp_path: Path, world: int) -> None:
    out = tmp_path / "out"
    case = {"size": 1, "batching": {}, "world": world, "variants": list(ENGINES.values())}
    gradients.run_ranks(models.folder("frozenlake") / "model", out, case, "adapters")
    for rank in range(world):
        saved = torch.load(f"{out}.{rank}")
        for name, variant in zip(ENGINES, saved, strict=True):
            # Two matrices for each of seven linear layers in four blocks.
            assert len(variant["expected"]) == 56
            for sent in variant["sent"]:
                assert alike(sent["weights"], variant["expected"]), name
                assert sent["rank"] == 4


def test_of_an_embedding_and_of_a_module_called_default_the_name_of_the_adapter_alone_is_left_out() -> None:
    from peft import LoraConfig, get_peft_model
    from peft.utils.save_and_load import get_peft_model_state_dict

    layers = {"embedding": torch.nn.Embedding(7, 3), "default": torch.nn.Linear(3, 3)}
    module = torch.nn.ModuleDict({"default": torch.nn.ModuleDict(layers)})
    adapted = get_peft_model(module, LoraConfig(target_modules=["default.embedding", "default.default"]))
    assert alike(adapter_weights(adapted), get_peft_model_state_dict(adapted, save_embedding_layers=False))
