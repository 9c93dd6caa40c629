"""FrozenLake in text: cross slippery ice to the goal without falling into a hole.

The dynamics are gymnasium's: every map is handed to its `FrozenLakeEnv` and the moves are drawn from
the transition table that it builds. What is ours is the random start and goal and the text.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv as GymnasiumFrozenLake

from verl_actfocus.envs._tiles import draw_tiles
from verl_actfocus.envs.base import ANSI_AND_RGB, TextEnv, check_options, match_action, step_info

ACTIONS = ("Left", "Down", "Right", "Up")  # in the order of gymnasium's action numbers
PLAYER, EMPTY, HOLE, GOAL, PLAYER_IN_HOLE, PLAYER_ON_GOAL = "P_OGX√"

_ICE, _WATER, _MAN, _FLAG = (214, 234, 248), (41, 82, 122), (192, 57, 43), (39, 174, 96)
PALETTE = {
    PLAYER: (_ICE, _MAN),
    EMPTY: (_ICE, _ICE),
    HOLE: (_ICE, _WATER),
    GOAL: (_ICE, _FLAG),
    PLAYER_IN_HOLE: (_WATER, _MAN),
    PLAYER_ON_GOAL: (_FLAG, _MAN),
}

Cell = tuple[int, int]
#: (probability, next state, reward, terminated), as in gymnasium's table.
Outcome = tuple[float, int, float, bool]


class FrozenLakeEnv(TextEnv):
    """FrozenLake with a random map, start and goal (He et al. 2026, App. C).

    Reward 1 on reaching the goal, else 0. The episode terminates on the goal and in a hole; there is
    no step limit besides the episode's budget. `info["effective"]` is True when the player moved,
    in whatever direction.

    Args:
        size: Rows and columns of the map.
        frozen_probability: Probability that a tile other than start and goal is ice rather than a hole;
            maps without a path from start to goal are drawn again.
        success_rate: Probability of moving as intended; each of the two perpendicular directions has
            (1 - success_rate) / 2. The paper says "slippery" and gives no number, so the default is
            gymnasium's slippery setting of 1/3; 1.0 makes the ice safe.
        render_mode: "ansi" or "rgb_array".

    Raises:
        ValueError: `size` is below 2, or a probability is outside of (0, 1] (frozen) or [0, 1] (success).

    Example:
        >>> env = FrozenLakeEnv(success_rate=1.0)
        >>> observation, info = env.reset(seed=0)
        >>> observation, reward, terminated, truncated, info = env.step("Right")
    """

    metadata = ANSI_AND_RGB

    def __init__(
        self,
        size: int = 4,
        frozen_probability: float = 0.9,
        success_rate: float = 1 / 3,
        render_mode: str = "ansi",
    ) -> None:
        super().__init__(render_mode)
        if size < 2:
            raise ValueError(f"size {size}: a map with a start and a goal needs at least 2 rows")
        if not 0 < frozen_probability <= 1:
            raise ValueError(f"frozen_probability {frozen_probability}: must lie in (0, 1]")
        if not 0 <= success_rate <= 1:
            raise ValueError(f"success_rate {success_rate}: a probability lies in [0, 1]")
        self.size = size
        self.frozen_probability = frozen_probability
        self.success_rate = success_rate
        self.position = 0
        self.transitions: dict[int, dict[int, list[Outcome]]] = {}

    @property
    def rules(self) -> str:
        last = self.size - 1
        return (
            "You are crossing a frozen lake. Reach the goal without falling into a hole.\n"
            f"The lake is a {self.size}x{self.size} board. Positions are (row, column), counted from 0: "
            f"(0, 0) is the top left corner and ({last}, {last}) the bottom right one.\n"
            "Symbols: P you, _ ice, O hole, G goal, X you in a hole, √ you on the goal.\n"
            f"{self._slip_sentence()}\n"
            "A move off the board leaves you where you are.\n"
            "Reward: 1 for reaching the goal, 0 otherwise; the game ends on the goal and in a hole.\n"
            f"Actions: {', '.join(ACTIONS)}. Example of an action: Right"
        )

    def _slip_sentence(self) -> str:
        if self.success_rate == 1:
            return "The ice is not slippery: you always move in the direction that you choose."
        return (
            f"The ice is slippery: you move in the direction that you choose with probability "
            f"{self.success_rate:.2f}, otherwise you slide to one of the two sides of it."
        )

    def legal_actions(self) -> list[str]:
        return list(ACTIONS) if self._running else []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super(TextEnv, self).reset(seed=seed)
        check_options(self, options)
        self._draw_map()
        self.steps = 0
        self._running = True
        return self._observation(), {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self._require_running()
        move = match_action(action, ACTIONS)
        if move is None:
            return (
                self._observation(),
                0.0,
                False,
                False,
                step_info(valid=False, effective=False, success=False),
            )
        before = self.position
        reward, terminated = self._slide(move)
        self.steps += 1
        self._running = not terminated
        info = step_info(valid=True, effective=self.position != before, success=self.position == self.goal)
        return self._observation(), reward, terminated, False, info

    def render(self) -> str | np.ndarray:
        if self.render_mode == "ansi":
            return self._observation()
        return draw_tiles(self._rows(), PALETTE)

    def _slide(self, move: int) -> tuple[float, bool]:
        """Draw the outcome of a move; return the reward and whether the episode terminated."""
        outcomes = self.transitions[self.position][move]
        draw = self.np_random.random()
        chosen = 0
        while chosen < len(outcomes) - 1 and draw >= outcomes[chosen][0]:
            draw -= outcomes[chosen][0]
            chosen += 1
        _, self.position, reward, terminated = outcomes[chosen]
        return float(reward), terminated

    def _draw_map(self) -> None:
        """Draw start, goal and tiles until a path joins the two."""
        cells = self.size**2
        while True:
            start, goal = (int(cell) for cell in self.np_random.choice(cells, size=2, replace=False))
            tiles = np.where(self.np_random.random(cells) < self.frozen_probability, "F", "H")
            tiles[start], tiles[goal] = "S", "G"
            board = ["".join(row) for row in tiles.reshape(self.size, self.size)]
            if _is_reachable(board, divmod(start, self.size), divmod(goal, self.size)):
                break
        self.start, self.goal, self.position = start, goal, start
        self.holes = [int(cell) for cell in np.flatnonzero(tiles == "H")]
        table = GymnasiumFrozenLake(desc=board, is_slippery=True, success_rate=self.success_rate).P
        self.transitions = {
            cell: _shared_moves(tuple(tuple(outcomes) for outcomes in moves.values())) for cell, moves in table.items()
        }
        self._texts: dict[int, str] = {}

    def _observation(self) -> str:
        if self.position not in self._texts:
            holes = " ".join(self._coordinates(cell) for cell in self.holes) or "none"
            self._texts[self.position] = "\n".join(
                [
                    *self._rows(),
                    f"Board: {self.size}x{self.size}",
                    f"Start: {self._coordinates(self.start)}",
                    f"Goal: {self._coordinates(self.goal)}",
                    f"Player: {self._coordinates(self.position)}",
                    f"Holes: {holes}",
                ]
            )
        return self._texts[self.position]

    def _rows(self) -> list[str]:
        symbols = [EMPTY] * self.size**2
        symbols[self.goal] = GOAL
        for hole in self.holes:
            symbols[hole] = HOLE
        symbols[self.position] = {HOLE: PLAYER_IN_HOLE, GOAL: PLAYER_ON_GOAL}.get(symbols[self.position], PLAYER)
        return ["".join(symbols[i : i + self.size]) for i in range(0, len(symbols), self.size)]

    def _coordinates(self, cell: int) -> str:
        row, column = divmod(cell, self.size)
        return f"({row}, {column})"


@lru_cache(maxsize=10_000)
def _shared_moves(outcomes: tuple[tuple[Outcome, ...], ...]) -> dict[int, list[Outcome]]:
    """Share one object between the equal cells of all maps: the tables of many environments do not fit a cache."""
    return {move: list(one) for move, one in enumerate(outcomes)}


def _is_reachable(board: list[str], start: Cell, goal: Cell) -> bool:
    """Return whether moves between tiles that are no holes lead from start to goal."""
    frontier, seen = [start], {start}
    while frontier:
        row, column = frontier.pop()
        if (row, column) == goal:
            return True
        for cell in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            inside = 0 <= cell[0] < len(board) and 0 <= cell[1] < len(board)
            if inside and cell not in seen and board[cell[0]][cell[1]] != "H":
                seen.add(cell)
                frontier.append(cell)
    return False
