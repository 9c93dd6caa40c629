"""TextWorld's generated games: `env` plays, `expert` walks through."""
