"""Plays FrozenLake optimally on slippery ice, by value iteration on the environment's transition table.

The horizon is what is left of the episode's budget of actions. That matters: without a limit the safe
detour is best, and with few actions left it comes too late.
"""

from __future__ import annotations

from verl_actfocus.envs.base import TextEnv
from verl_actfocus.envs.frozenlake.env import ACTIONS, FrozenLakeEnv
from verl_actfocus.envs.registry import spec

BUDGET = spec("frozenlake").limits.actions
# Undiscounted, dawdling is as good as hurrying as long as the goal is reached in time; the slightest
# discount makes the shorter way better and changes hardly anything else.
DISCOUNT = 0.9999

Transitions = dict[int, dict[int, list[tuple[float, int, float, bool]]]]


def expert_action(env: TextEnv) -> str:
    """Return the action with the best chance of reaching the goal within the episode's budget.

    Args:
        env: A `FrozenLakeEnv` with an episode under way. Past the budget of the registry's entry, every
            action is chosen as the first of a new one.

    Returns:
        One of "Left", "Down", "Right", "Up".

    Raises:
        TypeError: `env` is not a `FrozenLakeEnv`.
    """
    if not isinstance(env, FrozenLakeEnv):
        raise TypeError(f"the FrozenLake expert needs a FrozenLakeEnv, not {type(env).__name__}")
    actions_left = BUDGET - env.steps if env.steps < BUDGET else BUDGET
    values = state_values(env.transitions, actions_left - 1)
    outcomes = env.transitions[env.position]
    return ACTIONS[max(outcomes, key=lambda move: action_value(outcomes[move], values))]


def action_value(outcomes: list[tuple[float, int, float, bool]], values: list[float]) -> float:
    """Return the expected discounted return of an action with these outcomes, entries of gymnasium's table."""
    return sum(
        probability * (reward + (0.0 if terminated else DISCOUNT * values[state]))
        for probability, state, reward, terminated in outcomes
    )


def state_values(transitions: Transitions, horizon: int) -> list[float]:
    """Return the optimal value of every state with a given number of actions left.

    Args:
        transitions: gymnasium's table: state, action, (probability, next state, reward, terminated).
        horizon: Actions left.

    Returns:
        One value per state: the (slightly discounted) chance of reaching the goal.
    """
    values = [0.0] * len(transitions)
    for _ in range(horizon):
        values = [
            max(action_value(outcomes, values) for outcomes in transitions[state].values())
            for state in range(len(values))
        ]
    return values
