"""Sudoku: `env` plays, `grid` holds the rules of a grid, `expert` solves."""
