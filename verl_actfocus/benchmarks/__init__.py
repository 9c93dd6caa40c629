"""`actfocus bench`: what this package costs, as ratios to what a user has without it.

A benchmark is one module that measures and returns plain values; `report` writes them as JSON and Markdown with the
machine, the versions and the load beside them. What is compared is measured in alternation (A B A B …), because a
machine drifts: the ratio is the result, seconds are context. `step` and `transport` train with veRL's own trainer in
processes of its own (`runs`), everything else runs in this process.
"""
