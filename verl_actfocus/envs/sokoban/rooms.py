"""A Sokoban room, its rules, and the generation of random rooms by reverse play.

A room starts out solved, every box on its target, and is then played backwards: a pull is a push in
reverse. Whatever state this reaches can be solved by playing the same moves forwards, so no search
is needed to know that a room is solvable, nor to bound the length of its solution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FLOOR, WALL, TARGET = "_#O"

TURN_PROBABILITY = 0.35  # of the carving walk, per step
CARVED_PER_SIDE = 2.5  # steps of the carving walk per row and column; 6 x 6 rooms get 11.6 floor cells on average
MAX_STATES = 3000  # explored in reverse play; a room with one box of up to 56 floor cells has fewer

State = tuple[tuple[int, ...], int]  # boxes, in the order of the targets where they started, and player


@dataclass(frozen=True, slots=True)
class Room:
    """One state of a room. A cell is numbered row * columns + column.

    Attributes:
        columns: Cells per row.
        ground: The symbol of every cell without boxes and player: wall, floor or target.
        targets: Cells of the targets.
        boxes: Cells of the boxes.
        player: Cell of the player.
    """

    columns: int
    ground: str
    targets: frozenset[int]
    boxes: frozenset[int]
    player: int

    @property
    def boxes_on_targets(self) -> int:
        """How many boxes are on a target."""
        return len(self.boxes & self.targets)

    @property
    def solved(self) -> bool:
        """Whether every box is on a target."""
        return self.boxes == self.targets

    def after(self, move: int) -> Room:
        """Return the room after a move of the player; the same object if the move has no effect.

        Args:
            move: 0 up, 1 down, 2 left, 3 right.
        """
        offset = offsets(self.columns)[move]
        ahead, beyond = self.player + offset, self.player + 2 * offset
        if self.ground[ahead] == WALL:
            return self
        if ahead not in self.boxes:
            return Room(self.columns, self.ground, self.targets, self.boxes, ahead)
        if self.ground[beyond] == WALL or beyond in self.boxes:
            return self
        return Room(self.columns, self.ground, self.targets, self.boxes - {ahead} | {beyond}, ahead)


def offsets(columns: int) -> tuple[int, int, int, int]:
    """Return what up, down, left and right add to the number of a cell."""
    return (-columns, columns, -1, 1)


def generate_room(rng: np.random.Generator, size: tuple[int, int], boxes: int, depth: int) -> Room:
    """Generate a random room that is solvable and not solved.

    Args:
        rng: The environment's generator.
        size: Rows and columns, outer walls included.
        boxes: Number of boxes and of targets.
        depth: Moves of reverse play; the room has a solution of at most that many actions.

    Returns:
        The room in its start state.

    Raises:
        RuntimeError: No room was found in 1000 attempts, which means that size, boxes and depth
            leave hardly any.
    """
    for _ in range(1000):
        floor = _carve(rng, size)
        if len(floor) < 2 * boxes + 2:
            continue
        cells = [int(cell) for cell in rng.choice(floor, size=boxes + 1, replace=False)]
        targets = frozenset(cells[:-1])
        solved = Room(size[1], _draw_ground(size, floor, targets), targets, targets, cells[-1])
        room = _play_backwards(rng, solved, set(floor), depth)
        if room is not None:
            return room
    raise RuntimeError(
        f"no {size[0]} x {size[1]} room with {boxes} box(es) and {depth} moves of reverse play in 1000 "
        "attempts; enlarge size or search_depth"
    )


def _carve(rng: np.random.Generator, size: tuple[int, int]) -> list[int]:
    """Cut a connected floor out of solid wall: a random walk with a brush two cells wide."""
    rows, columns = size
    steps = int(CARVED_PER_SIDE * (rows + columns))
    row, column = int(rng.integers(1, rows - 1)), int(rng.integers(1, columns - 1))
    turns = rng.random(steps) < TURN_PROBABILITY
    moves, brushes = rng.integers(4, size=steps), rng.integers(4, size=steps)
    towards = ((-1, 0), (1, 0), (0, -1), (0, 1))
    move = int(moves[0])
    floor = {row * columns + column}
    for step in range(steps):
        if turns[step]:
            move = int(moves[step])
        for down, right in (towards[move], towards[brushes[step]]):
            next_row = min(max(row + down, 1), rows - 2)
            next_column = min(max(column + right, 1), columns - 2)
            floor.add(next_row * columns + next_column)
        row = min(max(row + towards[move][0], 1), rows - 2)
        column = min(max(column + towards[move][1], 1), columns - 2)
    return sorted(floor)


def _play_backwards(rng: np.random.Generator, room: Room, floor: set[int], depth: int) -> Room | None:
    """Explore backwards from a solved room and pick one of the states with the boxes farthest away.

    Distance is the sum over the boxes of the Manhattan distance to the target where each started. The
    exploration is breadth-first, up to `depth` moves and `MAX_STATES` states.

    Args:
        rng: The environment's generator.
        room: The solved room.
        floor: Cells that are no walls.
        depth: Most moves to play backwards.

    Returns:
        The chosen state, or None if no box can be pulled anywhere.
    """
    targets = sorted(room.targets)
    start = (tuple(targets), room.player)
    seen, layer = {start}, [start]
    farthest, choices = 0, [start]
    for _ in range(depth):
        layer = [state for before in layer for state in _predecessors(before, room.columns, floor)]
        layer = [state for state in dict.fromkeys(layer) if state not in seen]
        seen.update(layer)
        for boxes, player in layer:
            distance = sum(_manhattan(b, t, room.columns) for b, t in zip(boxes, targets, strict=True))
            if distance >= farthest and set(boxes) != room.targets:
                choices = [] if distance > farthest else choices
                farthest = distance
                choices.append((boxes, player))
        if not layer or len(seen) > MAX_STATES:
            break
    if farthest == 0:
        return None
    boxes, player = choices[int(rng.integers(len(choices)))]
    return Room(room.columns, room.ground, room.targets, frozenset(boxes), player)


def _predecessors(state: State, columns: int, floor: set[int]) -> list[State]:
    """Return the states from which one move of the player leads to `state`."""
    boxes, player = state
    found = []
    for offset in offsets(columns):
        came_from, ahead = player - offset, player + offset
        if came_from in floor and came_from not in boxes:
            found.append((boxes, came_from))  # walked
            if ahead in boxes:  # pushed the box that is now ahead
                found.append((tuple(player if box == ahead else box for box in boxes), came_from))
    return found


def _manhattan(a: int, b: int, columns: int) -> int:
    return abs(a // columns - b // columns) + abs(a % columns - b % columns)


def _draw_ground(size: tuple[int, int], floor: list[int], targets: frozenset[int]) -> str:
    cells = range(size[0] * size[1])
    return "".join(TARGET if cell in targets else FLOOR if cell in floor else WALL for cell in cells)
