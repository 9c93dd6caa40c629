"""What runs leave: their folders, read back as typed records, and what the records allow to say.

- `folder`: what a run keeps on disk, and which folder may be continued (by one command at a time:
  `verl_actfocus.storage`).
- `metrics`: what veRL's `file` logger wrote, over all attempts; `run_result`: evaluation curves and outcomes.
- `machine`: what a run was made with.
- `archive`, `archived_run`: finished runs in one small file; `packing` reads and writes it,
  `restoring` puts a run back.
- `statistics`: intervals around the rates of evaluations; `run_statistics`: what several training runs say together.
"""
