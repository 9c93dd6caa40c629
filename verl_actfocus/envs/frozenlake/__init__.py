"""FrozenLake: `env` plays, `expert` solves, `demonstrations` says what its tiny model imitates."""
