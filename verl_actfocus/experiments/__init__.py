"""Experiments: training runs as subprocesses, their results, and what the results allow to say.

Five rooms, each importing only what stands before it (`tests/unit/test_layers.py`):

- `runs`: what one training run is, as a command line and as a complete configuration, checked before veRL starts.
- `results`: what a run keeps on disk, read back; finished runs in one file; what training runs say together.
- `execution`: runs planned together, trained one after another, watched, ended, and their failures explained.
- `tables`: the runs that a declared table of `recipes/paper/` is made of.
- `report`: pages, tables and pictures of all of it.

Nothing here imports veRL: it runs in the training process only.
"""
