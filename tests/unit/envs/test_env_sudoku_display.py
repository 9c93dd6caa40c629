"""Sudoku as it is shown: the lines of the observation, marks of a conflict, and the image."""

from __future__ import annotations

import numpy as np
import pytest

from .sudoku_play import AMBIGUOUS, started


def test_the_cells_in_conflict_are_marked_until_the_next_action() -> None:
    env = started(AMBIGUOUS)
    plain = env.render().split("\n")[:5]
    assert env.step("place 4 at row 2 col 3")[0].split("\n")[:5] == [
        ". 2 | . 4!",
        ". 4!| . 2",
        "---------",
        "2 1 | 4!3",
        "4 3 | 2 1",
    ]
    assert env.step("no number at all")[0].split("\n")[:5] == plain
    env.step("place 4 at row 2 col 3")
    assert "!" not in env.step("1,1,1")[0]
    env.step("place 4 at row 2 col 3")
    assert "!" not in env.reset(seed=0)[0]


def test_the_observation_lists_grid_progress_entries_and_the_numbers_that_fit() -> None:
    env = started(AMBIGUOUS)
    assert env.render().split("\n") == [
        ". 2 | . 4",
        ". 4 | . 2",
        "---------",
        "2 1 | 4 3",
        "4 3 | 2 1",
        "Progress: 0 of 4 empty cells filled",
        "row 1 col 1: 1 3",
        "row 1 col 3: 1 3",
        "row 2 col 1: 1 3",
        "row 2 col 3: 1 3",
    ]
    assert env.step("1,1,3")[0].split("\n") == [
        "3 2 | . 4",
        ". 4 | . 2",
        "---------",
        "2 1 | 4 3",
        "4 3 | 2 1",
        "Last action: placed 3 at row 1 col 1.",
        "Progress: 1 of 4 empty cells filled",
        "Placed by you: row 1 col 1",
        "row 1 col 3: 1",
        "row 2 col 1: 1",
        "row 2 col 3: 1 3",
    ]


def test_a_cell_that_nothing_fits_is_said_to_have_no_valid_number() -> None:
    env = started(["12..", "....", "....", "...."])
    env.step("1,3,3")
    env.step("2,4,4")
    assert "row 1 col 4: no valid number" in env.render()


def tile(image: np.ndarray, cell: int, size: int) -> np.ndarray:
    """The pixels of a cell without the lines around it."""
    row, column = divmod(cell, size)
    return image[row * 32 + 4 : row * 32 + 28, column * 32 + 4 : column * 32 + 28]


@pytest.mark.parametrize("size", [4, 9])
def test_the_image_shows_every_number_as_one_shape_of_its_own_and_empty_cells_blank(size: int) -> None:
    env = started(size=size, empty_cells=size, render_mode="rgb_array")
    image = env.render()
    assert isinstance(image, np.ndarray) and image.shape == (32 * size, 32 * size, 3)
    shapes: dict[int, set[bytes]] = {}
    for cell, number in enumerate(env.grid):
        shapes.setdefault(number, set()).add(tile(image, cell, size).tobytes())
    assert all(len(drawn) == 1 for drawn in shapes.values())
    assert len(set.union(*shapes.values())) == size + 1
    assert len(np.unique(tile(image, env.grid.index(0), size).reshape(-1, 3), axis=0)) == 1


def test_the_image_tells_given_placed_and_conflicting_numbers_apart() -> None:
    env = started(AMBIGUOUS, render_mode="rgb_array")
    before = env.render()
    assert isinstance(env.step("1,1,3")[0], str)  # the observation stays text
    placed = env.render()
    assert colours(placed, 0) - colours(before, 0)  # an ink that the given numbers do not have
    assert not (colours(placed, 0) - colours(before, 0)) & colours(before, 1)
    env.step("1,3,3")
    conflict = env.render()
    assert [cell for cell in range(16) if colours(conflict, cell) != colours(placed, cell)] == [0]
    assert np.array_equal(np.any(tile(conflict, 0, 4) != tile(placed, 0, 4), axis=2), is_ground(placed, 0))


def colours(image: np.ndarray | str, cell: int) -> set[tuple[int, ...]]:
    assert isinstance(image, np.ndarray)
    return {tuple(pixel) for pixel in tile(image, cell, 4).reshape(-1, 3).tolist()}


def is_ground(image: np.ndarray | str, cell: int) -> np.ndarray:
    """Where a tile has the colour of its corner."""
    assert isinstance(image, np.ndarray)
    pixels = tile(image, cell, 4)
    return np.all(pixels == pixels[0, 0], axis=2)
