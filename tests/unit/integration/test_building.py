"""A critic without flash attention, and new weights that follow from the run's seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

#: Builds the critic's engine twice with a seed and once with another, draws in between, and prints what came of it.
_SCRIPT = """
import json, torch
from omegaconf import OmegaConf
from tests.unit.integration.composing import compose
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.distributed import initialize_global_process_group_ray
from verl.workers.engine import EngineRegistry
from verl_actfocus import models
from verl_actfocus.integration.building import ChosenAttention

folder = models.folder("frozenlake")
initialize_global_process_group_ray(backend="gloo")
heads, drawn = [], []
for seed in (3, 3, 4):
    config = compose([
        "algorithm.adv_estimator=actfocus_gae", "+actfocus=default", "+actfocus/device=cpu", "critic.enable=true",
        f"critic.model.path={folder}/model", f"critic.model.tokenizer_path={folder}/tokenizer",
        "critic.ppo_micro_batch_size_per_gpu=4", "critic.optim.total_training_steps=1", f"critic.fsdp.seed={seed}",
    ])
    critic = omega_conf_to_dataclass(config.critic)
    critic.model.model_type = "value_model"
    torch.manual_seed(9)
    engine = EngineRegistry.new(
        model_type="value_model", backend="fsdp", model_config=critic.model, engine_config=critic.engine,
        optimizer_config=critic.optim, checkpoint_config=critic.checkpoint,
    )
    assert isinstance(engine, ChosenAttention)
    module = engine._build_module()
    heads.append(module.score.weight.flatten().tolist())
    drawn.append(torch.rand(1).item())
    attention = module.config._attn_implementation
    torch.rand(7)
print(json.dumps({"heads": heads, "drawn": drawn, "attention": attention}))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    environment = {**os.environ, "RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29617"}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _SCRIPT], env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def test_the_critic_is_built_with_the_attention_of_its_configuration(built):
    """veRL's own would ask for flash attention, and on a machine without it for trl."""
    assert built["attention"] == "sdpa"


def test_the_critics_head_follows_from_the_seed_and_nothing_else_does(built):
    first, again, other = built["heads"]
    assert first == again != other
    # What is drawn after it is as if the head had not been drawn.
    torch.manual_seed(9)
    assert built["drawn"] == [torch.rand(1).item()] * 3
