"""Plays Sudoku with a solver: an action from here always leads towards a complete grid."""

from __future__ import annotations

from verl_actfocus.envs.base import TextEnv
from verl_actfocus.envs.sudoku.env import SudokuEnv
from verl_actfocus.envs.sudoku.grid import conflicts, solutions


def expert_action(env: TextEnv) -> str:
    """Fill the first empty cell of a solution; in a dead end, first put the player's own entries right.

    The reference solution is preferred, since its numbers pay most. If the player's entries contradict it but
    can be completed otherwise, the completion is played, which takes the fewest actions.

    Args:
        env: A `SudokuEnv` with an episode under way.

    Returns:
        An action of the form "place 3 at row 1 col 2".

    Raises:
        TypeError: `env` is not a `SudokuEnv`.
        ValueError: Wrong entries block each other, so that no single action leads towards the reference.
    """
    if not isinstance(env, SudokuEnv):
        raise TypeError(f"the Sudoku expert needs a SudokuEnv, not {type(env).__name__}")
    agrees = all(number in (0, right) for number, right in zip(env.grid, env.solution, strict=True))
    completions = [env.solution] if agrees else solutions(env.grid, env.size, 1)
    target = completions[0] if completions else env.solution
    for cell, (number, right) in enumerate(zip(env.grid, target, strict=True)):
        if number != right and not conflicts(env.grid, env.size, cell, right):
            return f"place {right} at row {cell // env.size + 1} col {cell % env.size + 1}"
    raise ValueError(f"the entries block each other, no number of the reference fits:\n{env.render()}")
