"""What this package registers into veRL, and the check that it is there.

`verl_actfocus.integration.plugin` calls `register` in every process.
"""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from verl.experimental.agent_loop.agent_loop import _agent_loop_registry
from verl.plugin.platform.platform_manager import PlatformRegistry
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY
from verl.utils.device import get_device_name, get_vendor
from verl.workers.engine import EngineRegistry
from verl.workers.rollout.base import _ROLLOUT_REGISTRY
from verl.workers.rollout.replica import RolloutReplica, RolloutReplicaRegistry

from verl_actfocus.config import resolvers
from verl_actfocus.config.compatibility import LOSS_NAME, TRAINER_MODE
from verl_actfocus.config.engines import CPU_SERVER
from verl_actfocus.integration import early, estimators, policy_loss
from verl_actfocus.integration.cpu.engines import CPULanguageEngine, CPUValueEngine
from verl_actfocus.integration.cpu.platform import PLATFORM_NAME
from verl_actfocus.integration.dataset import AGENT_NAME
from verl_actfocus.integration.engine import ActFocusLanguageEngine, ActFocusValueEngine, WeightingInputs

#: Vendors of devices that report `cuda` whose FSDP engines are extended; veRL's keep working on all others.
GPU_VENDORS = ["nvidia"]


class _ConfigSearchPath(SearchPathPlugin):
    """Lets Hydra find `+actfocus=…` in this package."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="verl_actfocus", path="pkg://verl_actfocus.config")


def _load_cpu_replica() -> type[RolloutReplica]:
    from verl_actfocus.integration.cpu.rollout import HFReplica

    return HFReplica


def register() -> None:
    """Register everything that does not register itself where it is defined (trainer modes, agent loop, platform)."""
    for name, function in estimators.FUNCTIONS.items():
        core_algos.register_adv_est(name)(function)
    core_algos.register_policy_loss(LOSS_NAME)(policy_loss.policy_loss)
    for model_type, engine in (("language_model", ActFocusLanguageEngine), ("value_model", ActFocusValueEngine)):
        EngineRegistry.register(model_type=model_type, backend=["fsdp", "fsdp2"], device="cuda", vendor=GPU_VENDORS)(
            engine
        )
    RolloutReplicaRegistry.register(CPU_SERVER, _load_cpu_replica)
    _ROLLOUT_REGISTRY[(CPU_SERVER, "async")] = "verl_actfocus.integration.cpu.rollout.HFServerAdapter"
    Plugins.instance().register(_ConfigSearchPath)
    resolvers.register()
    early.install()


def verify() -> None:
    """Check that everything is registered with the veRL of this process.

    Raises:
        RuntimeError: something is missing; the message lists it and the remedy.
    """
    engines = EngineRegistry._engines.get("language_model", {}).get("fsdp", {})
    critics = EngineRegistry._engines.get("value_model", {}).get("fsdp", {})
    found = {
        **{f"advantage estimator {name}": name in core_algos.ADV_ESTIMATOR_REGISTRY for name in estimators.FUNCTIONS},
        f"policy loss {LOSS_NAME}": LOSS_NAME in core_algos.POLICY_LOSS_REGISTRY,
        f"trainer mode {TRAINER_MODE}": TRAINER_MODE in TRAINER_REGISTRY,
        f"agent loop {AGENT_NAME}": AGENT_NAME in _agent_loop_registry,
        f"platform {PLATFORM_NAME}": PlatformRegistry.get(PLATFORM_NAME) is not None,
        f"rollout backend {CPU_SERVER}": (CPU_SERVER, "async") in _ROLLOUT_REGISTRY,
        "training engine (GPU)": engines.get(("cuda", "nvidia")) is ActFocusLanguageEngine,
        "training engine (CPU)": engines.get("cpu") is CPULanguageEngine,
        "engine of the critic (GPU)": critics.get(("cuda", "nvidia")) is ActFocusValueEngine,
        "engine of the critic (CPU)": critics.get("cpu") is CPUValueEngine,
    }
    missing = [name for name, registered in found.items() if not registered]
    if missing:
        raise RuntimeError(
            f"not registered with veRL: {', '.join(missing)}; reinstall the package (pip install .) so that its "
            "verl.plugins entry point is found, and leave VERL_USE_EXTERNAL_PLUGINS unset or 'auto'"
        )


def require_engine(strategy: str) -> None:
    """Make sure that the engine which veRL takes on this device delivers what weightings are computed from.

    Args:
        strategy: `actor_rollout_ref.actor.strategy`.

    Raises:
        ValueError: it does not, because the device is another vendor's, whatever torch calls it.
    """
    try:
        engine = EngineRegistry.get_engine_cls("language_model", strategy)
    except (AssertionError, ValueError):  # no engine at all for this device
        engine = object
    if not issubclass(engine, WeightingInputs):
        raise ValueError(
            f"this is a device of {get_vendor()!r}, which torch calls {get_device_name()!r}: token weights need this "
            f"package's training engines, which are for GPUs of {' and '.join(GPU_VENDORS)}; train there, or try "
            "things on a CPU with VERL_PLATFORM=cpu"
        )
