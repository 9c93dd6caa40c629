"""FrozenLake: `env` plays, `expert` solves, `demonstrations` is what its model imitates."""
