"""Everything that docs/paper.md points to exists."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from verl_actfocus.experiments.runs.composition import compose_profile
from verl_actfocus.experiments.tables.files import find_table, read_table, tables_folder
from verl_actfocus.storage.settings import flatten

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/paper.md").read_text(encoding="utf-8")
QUOTED = sorted(set(re.findall(r"`([^`]+)`", PAGE)))
NAMES = [name for name in QUOTED if re.fullmatch(r"verl_actfocus(\.\w+)+", name)]
PATHS = [name for name in QUOTED if re.fullmatch(r"[\w./-]*/[\w./-]*", name)]
SETTINGS = [name for name in QUOTED if re.fullmatch(r"(algorithm|data|actor_rollout_ref)(\.\w+)+", name)]
#: Table → the scale that its command names, empty for none.
TABLES = dict(re.findall(r"`actfocus reproduce (\w+)(?: --scale (\w+))?`", PAGE))


def test_the_page_points_to_all_kinds_of_things() -> None:
    assert min(len(NAMES), len(PATHS), len(SETTINGS)) >= 5
    assert TABLES.keys() == {path.stem for path in tables_folder().glob("[!_]*.yaml")}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_can_be_imported(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert attribute in vars(import_module(module))


@pytest.mark.parametrize("path", PATHS)
def test_a_path_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_is_part_of_a_recipes_configuration(setting: str) -> None:
    settings = flatten(OmegaConf.to_container(compose_profile("frozenlake_ppo"), resolve=False))
    # Arguments of an environment are added by the user.
    section = "data.environment.kwargs"
    assert setting in settings or (setting.startswith(section) and any(key.startswith(section) for key in settings))


@pytest.mark.parametrize("table", TABLES)
def test_a_command_names_the_scale_of_a_table_that_is_for_one(table: str) -> None:
    assert TABLES[table] == read_table(find_table(table)).scale
