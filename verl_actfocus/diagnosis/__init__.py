"""`actfocus diagnose`: where the return is decided, measured before a weighting is chosen.

- `correlation`: how the groups' spread of rewards goes with the mean signal of all, reasoning and action tokens (He et
  al. 2026, §2); `groups` plays the groups and records the signals, `saved` reads what a training run saved.
- `variance`: the law of total variance, estimated from nested draws; `decisions` makes the draws: states of real
  episodes, reasonings of each, actions of each reasoning, futures of each action.
- `correlation_run`, `decisions_run`: either of them from the claimed folder to the written figures; `output` is what
  they share.
- `ranks`: rank correlation within training steps. `intervals`: of 95 %. `folder`: files. `charts`, `tables`: what is
  shown.
"""
