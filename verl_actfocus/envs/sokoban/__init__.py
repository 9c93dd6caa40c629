"""Sokoban: `env` plays, `rooms` generates, `expert` solves."""
