"""Sudoku: `env` plays, `grid` holds the rules of a grid, `expert` solves, `demonstrations` says what its tiny model imitates."""
