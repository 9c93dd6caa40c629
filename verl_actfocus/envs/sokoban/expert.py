"""Solves Sokoban rooms with the fewest actions, by A*."""

from __future__ import annotations

from functools import lru_cache
from heapq import heappop, heappush

from verl_actfocus.envs.base import TextEnv
from verl_actfocus.envs.sokoban.env import ACTIONS, SokobanEnv
from verl_actfocus.envs.sokoban.rooms import WALL, Room, offsets


def expert_action(env: TextEnv) -> str:
    """Return the first action of a shortest solution from the present state.

    Args:
        env: A `SokobanEnv` with an episode under way.

    Returns:
        One of "Up", "Down", "Left", "Right".

    Raises:
        TypeError: `env` is not a `SokobanEnv`.
        ValueError: The room cannot be solved any more.
    """
    if not isinstance(env, SokobanEnv):
        raise TypeError(f"the Sokoban expert needs a SokobanEnv, not {type(env).__name__}")
    solution = solve(env.room)
    if solution is None:
        raise ValueError(f"this room cannot be solved any more:\n{env.render()}")
    return ACTIONS[solution[0]]


@lru_cache(maxsize=4096)
def solve(room: Room) -> tuple[int, ...] | None:
    """Return a shortest solution of a room.

    Args:
        room: Any state of a room.

    Returns:
        The moves (0 up, 1 down, 2 left, 3 right), empty for a solved room; None if there is no solution.
    """
    pushes_to_target = _pushes_to_target(room)

    def bound(boxes: frozenset[int]) -> int | None:
        """Return the pushes that are certainly still needed; None if a box can never reach a target."""
        distances = [pushes_to_target.get(box) for box in boxes]
        return None if None in distances else sum(d for d in distances if d is not None)

    first = bound(room.boxes)
    if first is None:
        return None
    # (estimate, moves so far, order of entry) sorts the queue; the order keeps rooms from being compared
    queue: list[tuple[int, int, int, Room]] = [(first, 0, 0, room)]
    reached: dict[tuple[frozenset[int], int], tuple[int, Room | None, int]] = {(room.boxes, room.player): (0, None, -1)}
    entered = 0
    while queue:
        _, cost, _, state = heappop(queue)
        if cost > reached[state.boxes, state.player][0]:
            continue
        if state.solved:
            return _trace(reached, state)
        for move in range(4):
            following = state.after(move)
            key = (following.boxes, following.player)
            if key in reached and reached[key][0] <= cost + 1:
                continue
            remaining = bound(following.boxes)
            if remaining is None:
                continue
            reached[key] = (cost + 1, state, move)
            entered += 1
            heappush(queue, (cost + 1 + remaining, cost + 1, entered, following))
    return None


def _pushes_to_target(room: Room) -> dict[int, int]:
    """Return, for each cell from which a lone box can be pushed to a target, how many pushes that takes."""
    distance = dict.fromkeys(room.targets, 0)
    frontier = list(room.targets)
    for cell in frontier:
        for offset in offsets(room.columns):
            origin, stand = cell - offset, cell - 2 * offset
            # the player stands behind the box, so both cells must be floor; outer walls stop the walk first
            if room.ground[origin] != WALL and room.ground[stand] != WALL and origin not in distance:
                distance[origin] = distance[cell] + 1
                frontier.append(origin)
    return distance


def _trace(reached: dict[tuple[frozenset[int], int], tuple[int, Room | None, int]], last: Room) -> tuple[int, ...]:
    """Return the moves that led to `last`."""
    moves: list[int] = []
    _, before, move = reached[last.boxes, last.player]
    while before is not None:
        moves.append(move)
        _, before, move = reached[before.boxes, before.player]
    return tuple(reversed(moves))
