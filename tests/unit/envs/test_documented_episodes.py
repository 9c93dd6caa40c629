"""The episodes in the documentation are what their commands print."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from verl_actfocus.cli import main as cli

DOCS = Path(__file__).parents[3] / "docs"
EPISODE = re.compile(r"<summary>An episode \(<code>actfocus (.+?)</code>\)</summary>\n\n```\n(.*?)```", re.DOTALL)
EPISODES = [match for page in sorted(DOCS.glob("*.md")) for match in EPISODE.findall(page.read_text(encoding="utf-8"))]
GENERATOR = "1.7.0"  # the version of textworld that wrote the documented game


def test_every_environment_has_its_episode() -> None:
    shown = {command.split()[1] for command, _ in EPISODES}
    assert shown == {"sokoban", "frozenlake", "sudoku", "webshop", "textworld"}


@pytest.mark.parametrize(("command", "printed"), EPISODES, ids=[command.split()[1] for command, _ in EPISODES])
def test_a_documented_episode_is_what_its_command_prints(
    command: str,
    printed: str,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if " textworld " in command:
        # A game made by these tests, not one found on this computer.
        monkeypatch.setenv("XDG_CACHE_HOME", str(request.getfixturevalue("user_cache")))
        assert version("textworld") == GENERATOR, "another version may write another game"
    assert cli.main(command.split()) == 0
    assert capsys.readouterr().out == printed
