"""What one training run is: what it shares with those it is compared with, and its complete configuration.

- `weightings`, `estimators`: which of them, as it is written on a command line (`choice`); `alpha`: α measured.
- `run`: conditions, weighting and seed, and the veRL command line that they are (`hydra_words`).
- `composition`: that command line composed by Hydra; `composed_run`: a run with its configuration, and what `run.json`
  says of it.
- `checks`, `step`, `own_code`, `requirements`: what is refused before veRL is started.
"""
