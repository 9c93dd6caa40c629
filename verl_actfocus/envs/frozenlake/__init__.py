"""FrozenLake: `env` plays, `expert` solves."""
