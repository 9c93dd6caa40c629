"""What is written of runs: three products, each as Markdown, pictures and files, and what they share.

- The report of a comparison: `summary` makes its numbers and sentences, `steps` its costs and checks, `plots` its
  curves, `report` writes it.
- A declared table: `figures` are its numbers, `comparisons` (as cells: `comparison_tables`) its conclusions, `curves`
  and `robustness` what stands beside them; `writing` writes it.
- The report of any veRL runs: `logged_runs` reads them, `quantities` says what of them is shown, `metrics_plots` draws
  it, `metrics_report` writes it.
- Shared: `evaluations`, which metrics stand for a run's evaluations; `provenance`, what runs were made with;
  `commands`, what makes them again; `escapes`.
"""
