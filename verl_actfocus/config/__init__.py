"""Hydra configuration groups: `+actfocus=…`, `+actfocus/env=…`, `+actfocus/device=cpu`, `+actfocus/run=…`."""
