"""`actfocus_grpo` and `actfocus_gae` are veRL's own advantages; all refuse where nothing would weigh them.

The functions are what a trainer runs that does not know the names, `compute_advantage` is how veRL calls them;
`ActFocusTrainer` puts the stock name in their place.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from verl import DataProto
from verl.trainer.ppo.core_algos import compute_gae_advantage_return, compute_grpo_outcome_advantage
from verl.trainer.ppo.ray_trainer import compute_advantage

from verl_actfocus.integration.estimators import FUNCTIONS, actfocus_gae, actfocus_grpo

SHAPE = (12, 9)


def tensors(seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, SHAPE[1] + 1, (SHAPE[0], 1), generator=generator)
    mask = (torch.arange(SHAPE[1]) < lengths).long()
    rewards = torch.randn(SHAPE, generator=generator) * mask
    return {"token_level_rewards": rewards, "response_mask": mask, "values": torch.randn(SHAPE, generator=generator)}


def algorithm(**changes):
    return OmegaConf.create({"gamma": 1.0, "lam": 1.0, "actfocus": {"weighting": {"name": "uniform"}}, **changes})


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("normalise", [True, False])
def test_actfocus_grpo_is_verls_grpo(seed, normalise):
    groups = np.array([f"group {row % 3}" for row in range(SHAPE[0])], dtype=object)
    found = {}
    for name in ("grpo", "actfocus_grpo"):
        found[name] = compute_advantage(
            DataProto.from_dict(tensors=tensors(seed), non_tensors={"uid": groups}),
            name,
            norm_adv_by_std_in_grpo=normalise,
            config=algorithm(norm_adv_by_std_in_grpo=normalise),
        ).batch
    for name in ("advantages", "returns"):
        assert torch.equal(found["actfocus_grpo"][name], found["grpo"][name])
    assert found["grpo"]["advantages"].std() > 0.1


@pytest.mark.parametrize("value", [10.8, 10.7])
def test_returns_that_do_not_differ_have_advantage_zero_whatever_float32_makes_of_their_mean(value):
    rewards, mask = torch.tensor([[0.0, value]] * 17 + [[0.0, 1.0], [0.0, 0.0]]), torch.ones(19, 2)
    groups = np.array(["level"] * 16 + ["single"] + ["differ"] * 2, dtype=object)
    stock, _ = compute_grpo_outcome_advantage(rewards, mask, groups)
    assert stock[0].abs().min() > 0.4 and torch.allclose(stock[16], rewards[16, 1])
    advantages, returns = actfocus_grpo(rewards, mask, groups)
    assert advantages[:17].eq(0).all() and returns[:17].eq(0).all()
    assert advantages[17:].equal(stock[17:])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (0.9, 0.7)])
def test_actfocus_gae_is_verls_gae(seed, gamma, lam):
    batch = tensors(seed)
    expected = compute_gae_advantage_return(**batch, gamma=gamma, lam=lam)
    found = actfocus_gae(**batch, index=np.arange(SHAPE[0]), config=algorithm(gamma=gamma, lam=lam))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("section", [None, {}, {"keep_groups": 0.5}])
def test_without_a_weighting_the_names_refuse(name, section):
    config = algorithm(actfocus=section)
    message = rf"{name} without algorithm\.actfocus\.weighting .*\+actfocus=default"
    with pytest.raises(ValueError, match=message):
        FUNCTIONS[name](**tensors(0), index=np.arange(SHAPE[0]), config=config)


def test_a_trainer_that_does_not_know_the_name_passes_no_values_and_is_told_what_to_add():
    uids = np.arange(SHAPE[0]).astype(object)
    data = DataProto.from_dict(tensors=tensors(0), non_tensors={"uid": uids})
    with pytest.raises(ValueError, match=r"critic's values.*add \+actfocus=default"):
        compute_advantage(data, "actfocus_gae", config=algorithm())


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"actfocus_grpo", "actfocus_gae"}))
def test_an_estimator_that_reads_more_than_such_a_trainer_passes_says_which_trainer_does(name):
    uids = np.arange(SHAPE[0]).astype(object)
    data = DataProto.from_dict(tensors=tensors(0), non_tensors={"uid": uids})
    with pytest.raises(ValueError, match=rf"{name} reads what this trainer does not pass .*add \+actfocus=default"):
        compute_advantage(data, name, config=algorithm())
