"""Draws a grid of symbols as an image, in numpy alone, for the `rgb_array` mode of the grid environments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

TILE = 32  # pixels on a side
_INSET = 8  # pixels of the ground that stay visible around a piece

Colour = tuple[int, int, int]


def draw_tiles(rows: Sequence[str], palette: Mapping[str, tuple[Colour, Colour]]) -> np.ndarray:
    """Draws one square tile per symbol: a ground colour with a smaller piece in its middle.

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
