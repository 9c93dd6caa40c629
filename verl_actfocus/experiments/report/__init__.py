"""Reports of a comparison: tables with intervals, learning curves, and links to the page of its trajectories.

- `summary`: from runs to the numbers and sentences of a report.
- `plots`: learning curves.
- `report`: writes `report.md` and the self-contained `report.html`.
"""
