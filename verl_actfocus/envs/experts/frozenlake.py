"""Plays FrozenLake optimally on slippery ice, by value iteration on the environment's transition table."""

from __future__ import annotations

from verl_actfocus.envs.base import TextEnv
from verl_actfocus.envs.frozenlake import ACTIONS, FrozenLakeEnv

# Undiscounted, every detour that reaches the goal in the end is as good as the short way; the smallest
# of discounts makes the shorter one better and hardly changes anything else.
DISCOUNT = 0.9999
TOLERANCE = 1e-10

Transitions = dict[int, dict[int, list[tuple[float, int, float, bool]]]]


def expert_action(env: TextEnv) -> str:
    """The action with the highest value in the present state.

    Args:
        env: A `FrozenLakeEnv` with an episode under way.

    Returns:
        One of "Left", "Down", "Right", "Up".

    Raises:
        TypeError: `env` is not a `FrozenLakeEnv`.
    """
    if not isinstance(env, FrozenLakeEnv):
        raise TypeError(f"the FrozenLake expert needs a FrozenLakeEnv, not {type(env).__name__}")
    values = state_values(env.transitions)
    outcomes = env.transitions[env.position]
    return ACTIONS[max(outcomes, key=lambda move: action_value(outcomes[move], values))]


def action_value(outcomes: list[tuple[float, int, float, bool]], values: list[float]) -> float:
    """Expected discounted return of an action with these (probability, state, reward, terminated) outcomes."""
    return sum(
        probability * (reward + (0.0 if terminated else DISCOUNT * values[state]))
        for probability, state, reward, terminated in outcomes
    )


def state_values(transitions: Transitions) -> list[float]:
    """Optimal value of every state, without a limit on the number of steps.

    Args:
        transitions: gymnasium's table: state, action, (probability, next state, reward, terminated).

    Returns:
        One value per state, to within `TOLERANCE` of the fixed point's last sweep.
    """
    values = [0.0] * len(transitions)
    change = 1.0
    while change > TOLERANCE:
        change = 0.0
        for state, actions in transitions.items():
            best = max(action_value(outcomes, values) for outcomes in actions.values())
            change = max(change, abs(best - values[state]))
            values[state] = best
    return values
