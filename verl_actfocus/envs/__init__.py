"""Text environments, looked up by name.

`base` says what an environment is, `registry` lists those there are, every environment is one
module beside them, and `experts` holds a solver for each. Importing this package registers
the gymnasium ids `ActFocus/<Name>-v0` and imports no environment.

Example:
    >>> from verl_actfocus import envs
    >>> env = envs.make("sokoban")
    >>> text, info = env.reset(seed=0)
"""

from verl_actfocus.envs.base import EpisodeLimits, StepInfo, TextEnv
from verl_actfocus.envs.registry import ENVIRONMENTS, EnvironmentSpec, make, register_environment, spec

__all__ = [
    "ENVIRONMENTS",
    "EnvironmentSpec",
    "EpisodeLimits",
    "StepInfo",
    "TextEnv",
    "make",
    "register_environment",
    "spec",
]
