"""Sudoku: `env` plays, `grid` holds the rules of a grid, `expert` solves, `demonstrations` is what its model imitates."""
