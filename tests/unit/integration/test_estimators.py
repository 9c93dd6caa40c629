"""This package's estimators and loss mean token weights, so no other trainer runs under their names."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from verl import DataProto
from verl.trainer.ppo.ray_trainer import compute_advantage

from verl_actfocus.estimators import ESTIMATORS
from verl_actfocus.estimators.schemes.gigpo import GiGPO
from verl_actfocus.integration.estimators import FUNCTIONS, require_trainer


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("section", [None, {"weighting": {"name": "actfocus"}}])
def test_a_trainer_that_asks_verls_registry_is_told_which_one_does(name: str, section: dict | None) -> None:
    """As veRL's own trainers call it, with the configuration that switches the weights on, and without."""
    rows = {key: torch.ones(4, 3) for key in ("token_level_rewards", "response_mask", "values")}
    data = DataProto.from_dict(tensors=rows, non_tensors={"uid": np.arange(4).astype(object)})
    config = OmegaConf.create({"gamma": 1.0, "lam": 1.0, "actfocus": section})
    with pytest.raises(ValueError, match=rf"{name} trains with token weights.*no other does; add \+actfocus=default"):
        compute_advantage(data, name, config=config)


def settings(**given: object) -> dict[str, object]:
    stock = {"use_v1": True, "mode": "sync", "loss": "vanilla", "estimator": "grpo"}
    one = {**stock, **given}
    return {
        "trainer": {"use_v1": one["use_v1"], "v1": {"trainer_mode": one["mode"]}},
        "algorithm": {"adv_estimator": one["estimator"], "actfocus": {"weighting": {"name": "actfocus"}}},
        "actor_rollout_ref": {"actor": {"policy_loss": {"loss_mode": one["loss"]}}},
    }


@pytest.mark.parametrize("mode", ["sync", "sync_cpu", "colocate_async", "separate_async", None])
@pytest.mark.parametrize("estimator", ["actfocus_grpo", "actfocus_gae", "actfocus_gigpo"])
def test_its_names_are_refused_in_another_mode_though_a_weighting_is_configured(
    mode: str | None, estimator: str
) -> None:
    """The loss is another one, too, as on a command line that names both: nothing else would notice."""
    config = OmegaConf.create(settings(mode=mode, estimator=estimator, loss="gspo"))
    with pytest.raises(
        ValueError, match=rf"adv_estimator={estimator} trains .* has trainer\.v1\.trainer_mode={mode}; "
    ):
        require_trainer(config)


def test_its_loss_and_its_mode_are_refused_where_nothing_computes_weights() -> None:
    with pytest.raises(ValueError, match=r"loss_mode=actfocus trains .* has trainer\.v1\.trainer_mode=sync; add"):
        require_trainer(OmegaConf.create(settings(loss="actfocus")))
    with pytest.raises(ValueError, match=r"trainer_mode=actfocus trains .* has trainer\.use_v1=False; add"):
        require_trainer(OmegaConf.create(settings(mode="actfocus", use_v1=False)))


def test_an_estimator_of_a_users_module_is_known_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ESTIMATORS, "mine", GiGPO)
    with pytest.raises(ValueError, match="adv_estimator=actfocus_mine trains with token weights"):
        require_trainer(OmegaConf.create(settings(estimator="actfocus_mine")))


@pytest.mark.parametrize("config", [settings(), settings(mode="actfocus", estimator="actfocus_grpo"), {}])
def test_stock_runs_and_this_packages_own_pass(config: dict[str, object]) -> None:
    require_trainer(OmegaConf.create(config))
