"""Text environments, looked up by name.

`base` says what an environment is, `registry` lists those there are, and each has a folder: `env` plays, `expert`
solves, `demonstrations` declares what its tiny model imitates. Importing this package registers the gymnasium ids
`ActFocus/<Name>-v0` and imports no environment.

Example:
    >>> from verl_actfocus import envs
    >>> env = envs.make("sokoban")
    >>> text, info = env.reset(seed=0)
"""

from verl_actfocus.envs.base import EpisodeLimits, StepInfo, TextEnv
from verl_actfocus.envs.registry import (
    ENVIRONMENTS,
    EnvironmentSpec,
    Expert,
    expert,
    having,
    make,
    miniature,
    outcomes,
    register_environment,
    spec,
)

__all__ = [
    "ENVIRONMENTS",
    "EnvironmentSpec",
    "EpisodeLimits",
    "Expert",
    "StepInfo",
    "TextEnv",
    "expert",
    "having",
    "make",
    "miniature",
    "outcomes",
    "register_environment",
    "spec",
]
