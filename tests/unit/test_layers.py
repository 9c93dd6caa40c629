"""Which folder imports which, as CONTRIBUTING.md says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "verl_actfocus"
ROW = re.compile(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)
#: Imports of veRL outside of `integration`: prompts of model families that only veRL knows, counters in its processes.
VERL_ELSEWHERE = {"episodes/templates.py", "benchmarks/metering.py"}


def modules(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            own = node.module == "verl_actfocus"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if own else {node.module}
    return names


def test_folders_import_what_the_table_says() -> None:
    table = {
        name: set(re.findall(r"`(\w+)`", cell)) for name, cell in ROW.findall((ROOT / "CONTRIBUTING.md").read_text())
    }
    folders = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())
    imported = {}
    for folder in folders:
        names = set().union(*(modules(path) for path in (PACKAGE / folder).rglob("*.py")))
        within = {name.split(".")[1] for name in names if name.startswith("verl_actfocus.")}
        imported[folder] = within - {folder}
    assert table == imported


def test_rooms_of_experiments_import_only_what_stands_before_them() -> None:
    package = PACKAGE / "experiments"
    rooms = re.findall(r"^- `(\w+)`: ", (package / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(rooms) == {path.name for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert [path.name for path in package.glob("*.py")] == ["__init__.py"]
    within = re.compile(r"verl_actfocus\.experiments\.(\w+)")
    for place, room in enumerate(rooms):
        names = set().union(*(modules(path) for path in (package / room).rglob("*.py")))
        assert "verl_actfocus.experiments" not in names
        imported = {found[1] for name in names if (found := within.match(name))}
        assert imported <= set(rooms[: place + 1]), f"{room} imports {imported - set(rooms[: place + 1])}"


def test_verl_is_imported_in_one_folder() -> None:
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] in ("verl", "ray", "transfer_queue") for name in modules(path))
    }
    assert {path for path in found if not path.startswith("integration/")} == VERL_ELSEWHERE
