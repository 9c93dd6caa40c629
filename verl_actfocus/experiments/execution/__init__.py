"""How runs are trained: planned together, one after another, each in a process of its own that is watched to its end.

- `launcher`: several runs, composed and checked before the first one starts.
- `training`: one run trained, or continued, in its folder.
- `supervision`: its command started, watched and ended (`watchdog`, `processes`, `temporary`).
- `progress`: what is shown meanwhile; `logs`: why it failed.
"""
