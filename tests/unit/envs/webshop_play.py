"""Steps in the shop that several test modules take."""

from __future__ import annotations

from verl_actfocus.envs.webshop.env import WebShopEnv


def at(*actions: str, seed: int = 0) -> WebShopEnv:
    """An environment after some actions, all of which have to be valid."""
    env = WebShopEnv()
    env.reset(seed=seed)
    for action in actions:
        assert env.step(action)[4]["valid"], (action, env.render())
    return env


def clickable(env: WebShopEnv) -> list[str]:
    return [action.removeprefix("click[").removesuffix("]") for action in env.legal_actions()]


def first_hit(query: str = "running shirts") -> str:
    return at(f"search[{query}]").legal_actions()[0]
