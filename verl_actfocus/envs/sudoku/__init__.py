"""Sudoku: `env` plays, `grid` has the rules, `expert` solves, `demonstrations` is what its model imitates."""
