"""Experiments: training runs as subprocesses, their results, and what the results allow to say.

Read in this order:

- `runs`: what one training run is, and its veRL command line.
- `settings`: the complete configuration behind a command line, without starting veRL.
- `requirements`, `machine`: what is installed, and on what.
- `folder`, `locks`: what a run keeps on disk, which folder may be continued, and by one command at a time.
- `execute`, `progress`, `processes`, `logs`: running a command, watching it, ending it, explaining its failure.
- `results`, `statistics`: evaluation curves and outcomes, and intervals around them.

Nothing here imports veRL: it runs in the training process only.
"""
