"""Every node of a run is looked at before a worker is started there: it must have this package, in the same versions.

veRL starts its workers wherever Ray has GPUs. On a node without this package they would be stock ones, or fail one by
one in the middle of the start, minutes later and without a name. The trainer asks; `actfocus` asks before that, by
`python -m verl_actfocus.integration.nodes`, since Ray may put the trainer itself on such a node.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

import ray
from ray import cloudpickle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

#: Distributions whose versions must agree on all nodes.
COMPARED = ("verl_actfocus", "verl", "torch", "transformers")
#: veRL's; its workers get it from the configuration, the answering ones from this process.
PLATFORM_VARIABLE = "VERL_PLATFORM"
#: What the answering processes get of this one: the platform, and the user's modules, which veRL imports.
_VARIABLES = (PLATFORM_VARIABLE, "VERL_USE_EXTERNAL_MODULES", "PYTHONPATH")
#: Seconds that a node has for its answer: veRL is imported there, maybe from a slow file system.
PATIENCE = 300


def require_package(nodes: int) -> None:
    """Ask every node with accelerators what it has; a run on one node is spared the question.

    Args:
        nodes: of the run (`trainer.nnodes`).

    Raises:
        ValueError: a node cannot import this package, or has other versions than this one; every such node is named
            with what it lacks. Or there are too few nodes.
    """
    if nodes == 1:
        return
    here, found = look(COMPARED), ask()
    wrong = [sentence for name, there in found.items() if (sentence := complaint(name, there, here))]
    if wrong:
        raise ValueError(
            f"{'; '.join(wrong)}. Install the same environment on every node and start `ray start` in it there"
        )
    if len(found) < nodes:
        raise ValueError(
            f"trainer.nnodes={nodes}, but the Ray cluster has {len(found)} node(s) with accelerators "
            f"({', '.join(found)}); start the others (ray start --address=…), `ray status` lists them"
        )


def ask() -> dict[str, dict[str, Any]]:
    """Return what `look` finds on each node with accelerators, by the node's address and name."""
    # By value: a node without this package could not import the function either.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        remote: Any = ray.remote(num_cpus=0, max_retries=0)(look)
        asked = {
            f"{node['NodeManagerAddress']} ({node['NodeManagerHostname']})-{node['NodeID'][:6]}": remote.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
            ).remote(COMPARED)
            for node in ray.nodes()
            if node["Alive"] and node["Resources"].get("GPU", 0) > 0
        }
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    found: dict[str, dict[str, Any]] = {}
    for name, answer in asked.items():
        try:
            found[name] = ray.get(answer, timeout=PATIENCE)
        except ray.exceptions.RayError as error:  # a worker that cannot even start, an answer that does not come
            found[name] = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"}
    return found


def look(names: tuple[str, ...]) -> dict[str, Any]:
    """Return the versions of distributions here, and why this package cannot be loaded into veRL, if it cannot.

    Runs on nodes that may have nothing of this package: it uses the standard library, and what it is about.
    """
    import importlib
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, Any] = {"error": None}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    try:
        # First: without it veRL's own message would be about a platform or a trainer that it does not know.
        importlib.import_module("verl_actfocus")
        importlib.import_module("verl")
        importlib.import_module("verl_actfocus.integration.registration").verify()
    except Exception as error:  # any: it is what the sentence says
        found["error"] = f"{type(error).__name__}: {error}"
    return found


def complaint(name: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """Say what is wrong with a node; None if nothing is.

    Args:
        name: of the node.
        there: what `look` found on it.
        here: what it found in the trainer's process.

    Example:
        >>> complaint("10.0.0.2", {"error": None, "verl": "0.9.0"}, {"error": None, "verl": "0.9.1"})
        'node 10.0.0.2 has verl 0.9.0, the trainer 0.9.1'
    """
    if there["error"] is not None:
        return f"node {name} cannot train with this package: {there['error']}"
    other = [key for key in here if key != "error" and there[key] != here[key]]
    if not other:
        return None
    said = ", ".join(f"{key} {there[key] or 'missing'}, the trainer {here[key] or 'missing'}" for key in other)
    return f"node {name} has {said}"


def main(nodes: int) -> str | None:
    """Join the cluster of RAY_ADDRESS and ask its nodes.

    Args:
        nodes: of the run.

    Returns:
        What is wrong; None if nothing is.
    """
    variables = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    if "PYTHONPATH" in variables:  # behind it Ray puts that of each node, with which `ray start` was called there
        variables["PYTHONPATH"] += f"{os.pathsep}${{PYTHONPATH}}"
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, runtime_env={"env_vars": variables})
        require_package(nodes)
    except (ConnectionError, ValueError) as error:
        return str(error)
    finally:
        ray.shutdown()
    return None


if __name__ == "__main__":
    # With a message, the exit code is 1 and the message goes to the standard error.
    sys.exit(main(int(sys.argv[1])))
