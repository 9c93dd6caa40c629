"""Experiments: training runs as subprocesses, their results, and what the results allow to say.

Read in this order, which is the way of a run:

- `choice`, `weightings`, `estimators`, `run`: what one training run is, what it shares with those it is compared with,
  and its veRL command.
- `composition`, `step`: its complete configuration, composed once and checked, without starting veRL.
- `launcher`: several runs, planned together and trained one after another.
- `folder`: what a run keeps on disk, and which folder may be continued (by one command at a time:
  `verl_actfocus.storage`).
- `execution`: a run trained, or continued, in its folder; `supervision`, `watchdog`, `progress`, `processes`, `logs`:
  its command started, watched and ended, its failure explained.
- `archive`: finished runs in a file.
- `results`, `statistics`: evaluation curves and outcomes, and intervals around them.
- `tables`, `grid`: the runs that a table of the paper is made of; `report` writes it, and the report of a comparison.
- `requirements`, `machine`: what is installed, and on what.

Nothing here imports veRL: it runs in the training process only.
"""
