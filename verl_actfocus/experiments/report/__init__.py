"""Reports of a comparison: tables with intervals, learning curves, and trajectories with the weight of every token.

- `summary`: from runs to the numbers and sentences of a report.
- `plots`: learning curves.
- `trajectories`: sampled trajectories as coloured tokens.
- `report`: writes `report.md` and the self-contained `report.html`.
"""
