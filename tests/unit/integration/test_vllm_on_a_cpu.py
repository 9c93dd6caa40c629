"""`+actfocus/device=cpu_vllm`: the CPU path with vLLM as the rollout, composed anywhere, refused without vLLM."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from verl.trainer import main_ppo
from verl.trainer.ppo.utils import need_critic, need_reference_policy

from verl_actfocus import models
from verl_actfocus.config import compatibility

from . import composing

BASE = ["algorithm.adv_estimator=actfocus_grpo", "+actfocus=default", "+actfocus/run=cpu_frozenlake"]


def composed(device: str) -> DictConfig:
    return composing.compose([*BASE, f"+actfocus/device={device}"])


def validate(config: DictConfig) -> None:
    """As veRL's command does, before it starts Ray."""
    main_ppo.validate_config(
        config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config)
    )


def installed(version: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(name: str) -> str:
        if version is None:
            raise PackageNotFoundError(name)
        return version

    monkeypatch.setattr(compatibility, "version", found)


def test_the_rollout_and_what_it_is_sent_alone_differ_from_the_cpu_path() -> None:
    def values(device: str) -> dict[str, Any]:
        plain = OmegaConf.to_container(composed(device))
        assert isinstance(plain, dict)
        rollout = plain["actor_rollout_ref"].pop("rollout")
        merged = plain["actor_rollout_ref"]["model"].pop("lora")["merge"]
        variables = plain["ray_kwargs"]["ray_init"]["runtime_env"].pop("env_vars")
        return {"rollout": rollout, "variables": variables, "merged": merged, "rest": plain}

    ours, vllm = values("cpu"), values("cpu_vllm")
    assert vllm["rest"] == ours["rest"]
    # Of LoRA, should there be any: vLLM takes adapters by themselves.
    assert (ours["merged"], vllm["merged"]) == (True, False)
    assert vllm["variables"] == {**ours["variables"], "VLLM_CPU_KVCACHE_SPACE": "1"}
    differing = {key: value for key, value in vllm["rollout"].items() if ours["rollout"].get(key) != value}
    assert set(differing.pop("engine_kwargs")["vllm"]) == {"tokenizer"}
    assert differing == {"name": "vllm", "enforce_eager": True, "enable_sleep_mode": False}


def test_vllm_reads_the_tokenizer_of_the_training() -> None:
    tokenizer = composed("cpu_vllm").actor_rollout_ref.rollout.engine_kwargs.vllm.tokenizer
    assert tokenizer == str(models.folder("frozenlake") / "tokenizer")


def test_verl_takes_the_settings_for_its_rollout() -> None:
    from verl.utils.config import omega_conf_to_dataclass

    rollout = omega_conf_to_dataclass(composed("cpu_vllm").actor_rollout_ref.rollout)
    assert (rollout.name, rollout.enable_sleep_mode, rollout.enforce_eager, rollout.dtype) == (
        "vllm",
        False,
        True,
        "float32",
    )


@pytest.mark.parametrize("version", [None, "0.24.0"])
def test_without_its_cpu_build_a_run_is_refused_before_ray_starts(
    version: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(version, monkeypatch)
    found = version or "none"
    with pytest.raises(ValueError, match=rf"needs vLLM's CPU build, .* has {found}; 'bash scripts/vllm_cpu/setup\.sh'"):
        validate(composed("cpu_vllm"))
    validate(composed("cpu"))


def test_with_its_cpu_build_the_run_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    installed("0.28.0+cpu", monkeypatch)
    validate(composed("cpu_vllm"))


def test_a_stock_run_on_a_cpu_is_refused_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(None, monkeypatch)
    config = composed("cpu_vllm")
    config.trainer.v1.trainer_mode = "sync_cpu"
    with pytest.raises(ValueError, match="needs vLLM's CPU build"):
        validate(config)
