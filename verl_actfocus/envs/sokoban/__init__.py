"""Sokoban: `env` plays, `rooms` generates, `expert` solves, `demonstrations` says what its tiny model imitates."""
