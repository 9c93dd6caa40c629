"""Tutorial: an environment of your own, from nothing to a played episode.

An environment is one class with five members: `rules`, `legal_actions`, `reset`, `step`, `render`. This one
is the puzzle of the two jugs: measure a number of litres with a 3-litre jug, a 5-litre jug and a tap.

    python examples/new_environment.py

How to train on it: docs/environments.md, "An environment of your own".
"""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.utils.env_checker import check_env

from verl_actfocus import envs
from verl_actfocus.envs.base import TextEnv, check_options, match_action, step_info
from verl_actfocus.episodes import Episode

SIZES = (3, 5)
ACTIONS = ("fill 3", "fill 5", "empty 3", "empty 5", "pour 3 into 5", "pour 5 into 3")


class JugsEnv(TextEnv):
    """Measure the wanted number of litres in one of two jugs; reward 1 for that, else 0."""

    # 1. What the model is told once, as the system message. Say everything that it needs.
    @property
    def rules(self) -> str:
        return (
            "You have a 3-litre jug, a 5-litre jug and a tap. Get the wanted litres into one of the jugs.\n"
            "Pouring stops when one jug is empty or the other one full.\n"
            "Reward: 1 when a jug holds the wanted number of litres, else 0.\n"
            f"Actions: {', '.join(ACTIONS)}. Example of an action: fill 3"
        )

    # 2. What may be done now. Here every action is always allowed.
    def legal_actions(self) -> list[str]:
        return list(ACTIONS) if self._running else []

    # 3. A new task. Draw everything random from `self.np_random`, which the seed determines.
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super(TextEnv, self).reset(seed=seed)
        check_options(self, options)  # refuses options that would be ignored
        self.litres = [0, 0]
        self.wanted = int(self.np_random.choice([1, 2, 4]))
        self._running = True
        return self.render(), {}

    # 4. One action. An action that is not understood changes nothing, costs nothing and never raises.
    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self._require_running()  # refuses to go on after the end
        index = match_action(action, ACTIONS)
        if index is None:
            return self.render(), 0.0, False, False, step_info(valid=False, effective=False, success=False)
        before = list(self.litres)
        self._do(index)
        success = self.wanted in self.litres
        self._running = not success
        info = step_info(valid=True, effective=self.litres != before, success=success)
        return self.render(), float(success), success, False, info

    # 5. The state as text: this is the observation, without rewards or instructions.
    def render(self) -> str:
        small, large = self.litres
        return f"Wanted: {self.wanted} litres\n3-litre jug: {small} litres\n5-litre jug: {large} litres"

    def _do(self, index: int) -> None:
        kind, jug = divmod(index, 2)
        if kind < 2:
            self.litres[jug] = SIZES[jug] if kind == 0 else 0
        else:
            poured = min(self.litres[jug], SIZES[1 - jug] - self.litres[1 - jug])
            self.litres[jug] -= poured
            self.litres[1 - jug] += poured


# One call makes it known, to `envs.make`, to gymnasium and to every command, in every process that imports this module.
# A training run has several; `actfocus --module new_environment` makes all of them import it, and so does
# VERL_USE_EXTERNAL_MODULES, also for veRL's own command. The expert may be left out.
envs.register_environment(
    "jugs",
    envs.EnvironmentSpec(
        id="Tutorial/Jugs-v0",
        entry_point=f"{__name__}:JugsEnv",
        limits=envs.EpisodeLimits(turns=8, actions_per_turn=2, actions=12, words=60),
        summary="measure a number of litres with two jugs",
        expert=f"{__name__}:next_action",
    ),
)


def next_action(env: TextEnv) -> str:
    """Fill the large jug, pour it into the small one, empty that when it is full: passes every number."""
    assert isinstance(env, JugsEnv)
    small, large = env.litres
    if small == SIZES[0]:
        return "empty 3"
    return "fill 5" if large == 0 else "pour 5 into 3"


def main() -> None:
    """Check the environment and play an episode of it through the protocol of the rollout."""
    check_env(gymnasium.make("Tutorial/Jugs-v0").unwrapped)  # gymnasium's own test of an environment
    env = envs.make("jugs")
    episode = Episode(env, envs.spec("jugs").limits)
    for message in episode.reset(seed=1):
        print(f"-- {message['role']} --\n{message['content']}")
    while not episode.done:
        # A model's response comes here. It follows the prefill "<think>", so it begins inside the reasoning.
        response = f"I follow the recipe.</think> <answer>{next_action(env)}</answer>"
        result = episode.respond(response)
        print(f"-- response --\n{episode.tags.prefill}{response}\n== reward {result.reward:g} ==")
        if result.next_message is not None:
            print(f"-- user --\n{result.next_message['content']}")
    assert episode.stop_reason is not None
    print(f"ended: {episode.stop_reason.value}, reward {episode.total_reward:g}\n{episode.observation}")


if __name__ == "__main__":
    main()
