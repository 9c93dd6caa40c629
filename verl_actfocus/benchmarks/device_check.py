"""Everything of this package that computes on a device, checked and measured there in one go: `actfocus bench gpu`.

What holds on a CPU by tests, contract by contract, in bfloat16 and float32, of a model with veRL's fused kernels too; a
forward pass with energies, fused and not, and the update's entropy at the size of a real vocabulary; a few steps of
GRPO and PPO with a packaged tiny model, with stock veRL and with ActFocus. A part that fails is reported, and the
others are run.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from verl_actfocus.benchmarks import step
from verl_actfocus.benchmarks.contracts import Contract, check_contracts
from verl_actfocus.benchmarks.devices import DTYPES, Compute, computing, server
from verl_actfocus.benchmarks.energy import EnergyPass, measure_energy_pass
from verl_actfocus.benchmarks.entropy import EntropyMemory, measure_entropy_memory
from verl_actfocus.benchmarks.fused_models import check_fused_models
from verl_actfocus.storage.errors import ExperimentError

VARIANTS = ("stock-kl", "actfocus-kl")
ALGORITHMS = ("grpo", "ppo")
#: Measurements of every pass.
ROUNDS = 3
#: Largest difference of a token's probability between rollout and trainer that counts as agreement: both compute in
#: bfloat16 on a GPU, in float32 on a CPU.
AGREEMENT = {"cuda": 0.1, "cpu": 1e-4}
#: veRL's metrics that a run must have, finite, in every step.
_FINITE = ("actor/loss", "actor/grad_norm", "training/rollout_probs_diff_max", "actfocus/signal_std")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large what is measured is."""

    #: Rows of logits of a pass.
    tokens: int
    vocabulary: int
    #: Width of the hidden states.
    hidden: int
    #: Rows for the contracts, whose definitions are computed in float64.
    contract_tokens: int
    #: Training steps of a run; the first one does not count.
    steps: int


#: Device → sizes: those of a micro-batch of Qwen2.5-0.5B, or what a CPU does in seconds.
SIZES = {
    "cuda": Sizes(tokens=8192, vocabulary=151_936, hidden=896, contract_tokens=256, steps=3),
    "cpu": Sizes(tokens=256, vocabulary=4096, hidden=64, contract_tokens=128, steps=2),
}


@dataclass
class DeviceCheck:
    """What was found."""

    device: str
    contracts: list[Contract] = field(default_factory=list)
    passes: list[EnergyPass] = field(default_factory=list)
    entropy: EntropyMemory | None = None
    #: Algorithm → what `step.collect` found.
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Algorithm → what the run of ActFocus said about itself, name → value in the last step.
    runs: dict[str, dict[str, float]] = field(default_factory=dict)
    #: Part → why it failed.
    failures: dict[str, str] = field(default_factory=dict)
    #: Part → seconds it took, in the order in which they were run.
    seconds: dict[str, float] = field(default_factory=dict)
    #: Parts that are not done yet: of a check that was cut off, what it does not speak of.
    missing: list[str] = field(default_factory=list)
    #: Parts that were not asked for.
    left_out: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Whether every part came to its end and every contract holds."""
        return not self.failures and not self.missing and all(contract.holds for contract in self.contracts)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "well": self.well,
            "server": server(self.device),
            "contracts": [asdict(one) | {"holds": one.holds} for one in self.contracts],
            "passes": [one.as_json() for one in self.passes],
            "entropy": None if self.entropy is None else self.entropy.as_json(),
            "steps": self.steps,
            "runs": self.runs,
            "failures": self.failures,
            "seconds": self.seconds,
            "missing": self.missing,
            "left_out": self.left_out,
        }


def check_device(
    folder: Path,
    device: str,
    sizes: Sizes,
    say: Callable[[str], None],
    keep: Callable[[DeviceCheck], None] = lambda found: None,
    training: bool = True,
) -> DeviceCheck:
    """Check and measure everything; runs that are finished are not repeated.

    Args:
        folder: runs go into folders of it.
        device: `cpu` or `cuda`.
        sizes: of what is measured.
        say: told what begins.
        keep: given what was found so far after every part.
        training: whether training runs are part of it.
    """
    found = DeviceCheck(device)
    measured = _measured(found, device, sizes)
    trained = {f"steps of {name.upper()}": partial(_train, found, folder, name, sizes) for name in ALGORITHMS}
    if not training:
        found.left_out, trained = list(trained), {}
    found.missing = [*measured, *trained]

    def done(name: str, part: Callable[[], None]) -> None:
        say(name)
        began = time.monotonic()
        try:
            part()
        except Exception as error:  # any: the others are worth knowing on a machine that was waited for
            found.failures[name] = _reason(error)
        found.seconds[name] = round(time.monotonic() - began, 1)
        found.missing.remove(name)
        keep(found)

    with computing(device) as compute:
        for name, (measure, store) in measured.items():
            done(name, partial(_stored, compute, measure, store))
    for name, train in trained.items():
        done(name, train)
    return found


def _measured(
    found: DeviceCheck, device: str, sizes: Sizes
) -> dict[str, tuple[Callable[[], Any], Callable[[Any], None]]]:
    """Name a part that computes in one process → what computes it, and what takes the result."""
    contracts = partial(
        check_contracts, device, tokens=sizes.contract_tokens, vocabulary=sizes.vocabulary, hidden=sizes.hidden
    )
    fused = partial(
        check_fused_models, device, tokens=sizes.contract_tokens, vocabulary=sizes.vocabulary, hidden=sizes.hidden
    )
    energy = partial(measure_energy_pass, sizes.tokens, sizes.vocabulary, sizes.hidden, rounds=ROUNDS, device=device)
    entropy = partial(
        measure_entropy_memory, sizes.tokens, sizes.vocabulary, chunk_size=512, rounds=ROUNDS, device=device
    )
    return {
        **{f"contracts in {n}": (partial(contracts, dtype=d), found.contracts.extend) for n, d in DTYPES.items()},
        **{f"fused kernels in {n}": (partial(fused, dtype=d), found.contracts.extend) for n, d in DTYPES.items()},
        **{f"energy pass in {n}": (partial(energy, dtype=d), found.passes.append) for n, d in DTYPES.items()},
        "entropy of the update": (entropy, partial(setattr, found, "entropy")),
    }


def _stored(compute: Compute, measure: Callable[[], Any], store: Callable[[Any], None]) -> None:
    store(compute(partial(_explained, measure)))


def _explained(measure: Callable[[], Any]) -> Any:
    """Measure; say where it failed while that is known, for the traceback does not leave its process."""
    try:
        return measure()
    except ExperimentError:
        raise
    except Exception as error:
        raise ExperimentError(_reason(error)) from error


def _train(found: DeviceCheck, folder: Path, algorithm: str, sizes: Sizes) -> None:
    plan = plan_of(folder / algorithm, found.device, algorithm, sizes.steps)
    step.measure(plan)
    found.steps[algorithm] = step.collect(plan)
    (run,) = (one for *_, variant, one in plan.runs() if variant.weighted)
    metrics = run.metrics()
    for number, values in metrics.items():
        wrong = [name for name in _FINITE if not math.isfinite(values.get(name, math.nan))]
        if wrong:
            raise ExperimentError(f"step {number} of {algorithm}: {', '.join(wrong)} missing or not finite")
    last = metrics[max(metrics)]
    names = (*_FINITE, "actfocus/action_tokens", "perf/max_memory_allocated_gb")
    found.runs[algorithm] = {name: last[name] for name in names if name in last}
    apart = max(values["training/rollout_probs_diff_max"] for values in metrics.values())
    if apart > AGREEMENT[found.device]:
        raise ExperimentError(
            f"rollout and trainer give a token probabilities that differ by {apart:.2g}, more than "
            f"{AGREEMENT[found.device]:g}: they do not compute the same model"
        )


def plan_of(folder: Path, device: str, algorithm: str, steps: int) -> step.Plan:
    """Return the runs of an algorithm: stock veRL and ActFocus, the first step of each dropped."""
    return step.Plan(
        folder=folder,
        variants=VARIANTS,
        algorithms=(algorithm,),
        sizes=(step.TINY,),
        rounds=1,
        steps=steps,
        drop=1,
        device=device,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, ExperimentError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})"
