"""Environments that do what their actions say, and responses to play them with."""

from __future__ import annotations

from typing import Any

from verl_actfocus.envs.base import EpisodeLimits, TextEnv, step_info
from verl_actfocus.episodes import Episode

LIMITS = EpisodeLimits(turns=3, actions_per_turn=2, actions=4, words=50)


class ScriptedEnv(TextEnv):
    """Takes `go <reward>`; `win`, `lose`, `expire` end it; `raise`, `nan`, `silent` break it."""

    rules = "Say go."

    def __init__(self, *, broken_reset: bool = False) -> None:
        super().__init__()
        self.broken_reset = broken_reset
        self.steps: list[str] = []

    def legal_actions(self) -> list[str]:
        return ["go 0"]

    def render(self) -> str:
        return f"state {len(self.steps)}"

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        if self.broken_reset:
            raise OSError("no map on disk")
        self.steps = []
        return self.render(), {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        verb, _, amount = action.partition(" ")
        if verb == "raise":
            raise KeyError("lost tile")
        if verb == "nan":
            return (
                self.render(),
                float("nan"),
                False,
                False,
                step_info(valid=True, effective=True, success=False),
            )
        if verb == "silent":
            return self.render(), 0.0, False, False, {}
        if verb not in ("go", "win", "lose", "expire"):
            return self.render(), -7.0, False, False, step_info(valid=False, effective=False, success=False)
        self.steps.append(action)
        info = step_info(valid=True, effective=amount != "0", success=verb == "win", note=action)
        return self.render(), float(amount or 0), verb in ("win", "lose"), verb == "expire", info


class BuyingEnv(ScriptedEnv):
    """Declares an outcome, which `lose` brings about and `win` forgets to report."""

    outcomes = ("bought",)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        if action != "win":
            info["bought"] = action == "lose"
        return observation, reward, terminated, truncated, info


def answer(*actions: str) -> str:
    return f"because</think><answer>{' || '.join(actions)}</answer>"


def begin(env: TextEnv | None = None, limits: EpisodeLimits = LIMITS) -> Episode:
    episode = Episode(env or ScriptedEnv(), limits)
    episode.reset(seed=5)
    return episode


def executed(episode: Episode) -> list[str]:
    assert isinstance(episode.env, ScriptedEnv)
    return episode.env.steps
