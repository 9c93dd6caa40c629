"""The larger model of `actfocus bench step` plays like the tiny one."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen2ForCausalLM

from verl_actfocus import models
from verl_actfocus.benchmarks.larger_model import grown, make_larger_model, parameters

TINY = models.folder("frozenlake") / "model"


@pytest.fixture(scope="module")
def tiny():
    return Qwen2ForCausalLM.from_pretrained(TINY).eval()


@torch.no_grad()
def test_its_logits_are_those_of_the_tiny_one(tiny):
    ids = torch.randint(tiny.config.vocab_size, (2, 40), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(grown(tiny)(ids).logits, tiny(ids).logits, rtol=0, atol=1e-5)


def test_it_has_20_to_50_million_parameters_and_is_made_once(tmp_path):
    assert 20e6 < make_larger_model(TINY, tmp_path) < 50e6
    written = (tmp_path / "model.safetensors").stat().st_mtime_ns
    make_larger_model(TINY, tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == written
    assert (tmp_path / "generation_config.json").exists()


def test_its_added_layers_have_weights_to_multiply(tiny):
    large = grown(tiny, hidden=256, layers=6, neurons=512)
    assert large.model.layers[5].mlp.gate_proj.weight.ne(0).all()
    assert large.model.layers[5].mlp.down_proj.weight.eq(0).all()
    assert parameters(large) > 2 * parameters(tiny)


@pytest.mark.parametrize("shape", [{"hidden": 100}, {"hidden": 64}, {"layers": 2}, {"neurons": 100}])
def test_a_smaller_or_uneven_shape_is_refused(tiny, shape):
    with pytest.raises(ValueError, match="is not a larger shape in heads of 32"):
        grown(tiny, **shape)
