"""Sokoban: `env` plays, `rooms` generates, `expert` solves, `demonstrations` is what its model imitates."""
