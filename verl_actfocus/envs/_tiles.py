"""Draws a grid of symbols or of digits as an image, in numpy alone, for `rgb_array` in the grid environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

TILE = 32  # pixels on a side
_INSET = 8  # pixels of the ground that stay visible around a piece

Colour = tuple[int, int, int]

# Each digit is 5 rows of 3 pixels, enlarged to 20 rows of 12 in the middle of its tile.
_DIGITS = (
    "### #.# #.# #.# ###",
    ".#. ##. .#. .#. ###",
    "### ..# ### #.. ###",
    "### ..# .## ..# ###",
    "#.# #.# ### ..# ..#",
    "### #.. ### ..# ###",
    "### #.. ### #.# ###",
    "### ..# .#. .#. .#.",
    "### #.# ### #.# ###",
    "### #.# ### ..# ###",
)
_ENLARGED = 4
_FRAME = 3  # pixels of the line between blocks of tiles


def draw_tiles(rows: Sequence[str], palette: Mapping[str, tuple[Colour, Colour]]) -> np.ndarray:
    """Draw one square tile per symbol: a ground colour with a smaller piece in its middle.

    Args:
        rows: The grid, one string per row, all of the same length.
        palette: Ground and piece colour (red, green, blue) of each symbol.

    Returns:
        Image of shape (rows * TILE, columns * TILE, 3), uint8.

    Raises:
        KeyError: A symbol is not in the palette.
    """
    ground = np.array([[palette[symbol][0] for symbol in row] for row in rows], dtype=np.uint8)
    piece = np.array([[palette[symbol][1] for symbol in row] for row in rows], dtype=np.uint8)
    is_piece = np.zeros((TILE, TILE), dtype=bool)
    is_piece[_INSET:-_INSET, _INSET:-_INSET] = True
    shape = (len(rows), TILE, len(rows[0]), TILE, 3)
    ground_pixels = np.broadcast_to(ground[:, None, :, None, :], shape)
    piece_pixels = np.broadcast_to(piece[:, None, :, None, :], shape)
    image = np.where(is_piece[None, :, None, :, None], piece_pixels, ground_pixels)
    image[:, 0] = image[:, :, :, 0] = 0  # grid lines
    return image.reshape(len(rows) * TILE, len(rows[0]) * TILE, 3)


def draw_digits(digits: np.ndarray, ground: np.ndarray, ink: np.ndarray, block: int) -> np.ndarray:
    """Draw one square tile per digit, with thick lines around blocks of tiles.

    Args:
        digits: The digits 0 to 9, shape (rows, columns); a negative number leaves its tile empty.
        ground: Colour (red, green, blue) of each tile, shape (rows, columns, 3), uint8.
        ink: Colour of each digit, of the same shape.
        block: Rows and columns of a block.

    Returns:
        Image of shape (rows * TILE, columns * TILE, 3), uint8.
    """
    rows, columns = digits.shape
    glyphs = np.zeros((11, TILE, TILE), dtype=bool)  # the last one, which -1 selects, stays empty
    for digit, drawing in enumerate(_DIGITS):
        pixels = np.array([[pixel == "#" for pixel in line] for line in drawing.split()])
        height, width = _ENLARGED * pixels.shape[0], _ENLARGED * pixels.shape[1]
        top, left = (TILE - height) // 2, (TILE - width) // 2
        enlarged = np.kron(pixels, np.ones((_ENLARGED, _ENLARGED), dtype=bool))
        glyphs[digit, top : top + height, left : left + width] = enlarged
    is_ink = glyphs[np.maximum(digits, -1)][..., None]
    tiles = np.where(is_ink, ink[:, :, None, None, :], ground[:, :, None, None, :])
    tiles[:, :, 0] = tiles[:, :, :, 0] = 0  # grid lines
    image = tiles.transpose(0, 2, 1, 3, 4).reshape(rows * TILE, columns * TILE, 3)
    for start in range(0, TILE * max(rows, columns), TILE * block):
        image[start : start + _FRAME] = image[:, start : start + _FRAME] = 0
    image[-_FRAME:] = image[:, -_FRAME:] = 0
    return image
