"""`actfocus compare` and `actfocus train` turn their arguments into runs, and end as shells expect."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from verl_actfocus.cli import _training
from verl_actfocus.cli._signals import exit_on_signals
from verl_actfocus.cli.main import main
from verl_actfocus.experiments.execution.launcher import Failure, Planned
from verl_actfocus.experiments.runs import requirements

RecordRun = Callable[..., Path]
Launched = list[list[Planned]]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch, record_run: RecordRun) -> Launched:
    """Records what would be trained and leaves its results."""
    seen: Launched = []

    def record(planned: Sequence[Planned], **options: bool) -> list[Failure]:
        seen.append(list(planned))
        for one in planned:
            outcomes = {0: {0: [0], 1: [1]}, one.composed.steps: {0: [1], 1: [one.run.seed % 2]}}
            estimator = one.composed.identity().get("estimator", "")
            record_run(one.run.conditions.folder, str(one.run.weighting), one.run.seed, outcomes, estimator=estimator)
        return []

    monkeypatch.setattr(_training, "launch", record)
    return seen


def test_the_arguments_become_the_runs(tmp_path: Path, launched: Launched) -> None:
    words = "--algorithm ppo --env sokoban --steps 5 --seeds 2 --weightings uniform actfocus --out"
    extra = ["data.train_batch_size=8", "+trainer.note=[a, b]"]
    assert main(["compare", *words.split(), str(tmp_path / "o"), "--", *extra]) == 0
    (planned,) = launched
    conditions = planned[0].run.conditions
    assert (conditions.profile, conditions.algorithm, conditions.steps) == ("cpu_sokoban", "ppo", 5)
    assert conditions.extra == tuple(extra)
    names = ["uniform-seed0", "actfocus-seed0", "uniform-seed1", "actfocus-seed1"]
    assert [one.run.folder for one in planned] == [tmp_path / "o" / name for name in names]
    assert (tmp_path / "o/report.html").exists()


def test_every_weighting_is_trained_with_every_estimator_and_the_report_names_both(
    tmp_path: Path, launched: Launched
) -> None:
    words = "--steps 5 --weightings uniform actfocus --estimators grpo gigpo --out"
    assert main(["compare", *words.split(), str(tmp_path / "o")]) == 0
    (planned,) = launched
    names = ["uniform-seed0", "actfocus-seed0", "uniform-gigpo-seed0", "actfocus-gigpo-seed0"]
    assert [one.run.folder.name for one in planned] == names
    report = (tmp_path / "o/report.md").read_text()
    assert "ActFocus, GiGPO − Uniform, GiGPO in final success" in report
    assert "--weightings uniform actfocus --estimators grpo gigpo --out" in report


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--algorithm ppo --estimators gigpo", "estimator gigpo is for grpo, not for ppo; choose one of gae, turn_gae"),
        ("--estimators gigpo gigpo", "an estimator is named twice"),
        ("--estimators grpo actfocus_grpo", "an estimator is named twice"),
        ("--estimators ../x", "is not an estimator such as gigpo"),
        ("--estimators mine", "adv_estimator=actfocus_mine does not go with"),
        ("--estimators 'gigpo omega=-1'", "algorithm.actfocus.estimator.omega=-1 must be at least 0"),
    ],
)
def test_an_estimator_that_cannot_be_trained_is_refused_before_anything_begins(
    tmp_path: Path, launched: Launched, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    assert main(["compare", *shlex.split(words), "--out", str(tmp_path / "o")]) == 2
    assert message in capsys.readouterr().err
    assert not launched and not (tmp_path / "o").exists()


def test_without_arguments_uniform_and_actfocus_are_compared_on_frozenlake(
    tmp_path: Path, launched: Launched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare"]) == 0
    (planned,) = launched
    assert [one.run.title for one in planned] == ["grpo-frozenlake/uniform-seed0", "grpo-frozenlake/actfocus-seed0"]
    assert [one.composed.steps for one in planned] == [30, 30]
    assert (tmp_path / "outputs/grpo-frozenlake/report.md").exists()


@pytest.mark.parametrize(
    ("words", "env", "algorithm"),
    [
        ("--profile cpu_sokoban", "sokoban", "grpo"),
        ("--profile cpu_sokoban --algorithm ppo", "sokoban", "ppo"),
        ("--profile sudoku_ppo", "sudoku", "ppo"),
    ],
)
def test_a_profile_says_what_is_trained(
    tmp_path: Path, launched: Launched, monkeypatch: pytest.MonkeyPatch, words: str, env: str, algorithm: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(requirements, "find_spec", lambda name: name)  # flash-attn is there
    assert main(["compare", *words.split(), "--out", str(tmp_path / "o")]) == 0
    identity = launched[0][0].composed.identity()
    assert (identity["env"], identity["algorithm"]) == (env, algorithm)


def test_one_run_is_trained_with_the_weighting_and_seed_that_are_named(
    tmp_path: Path, launched: Launched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "sokoban_ppo", "--trial", "--weighting", "actfocus beta=0 alpha=0.30", "--seed", "4"]
    assert main(words) == 0
    ((one,),) = launched
    assert one.run.folder == tmp_path / "outputs/sokoban_ppo-trial/actfocus-alpha=0.3-beta=0-seed4"
    assert one.run.environment == {"VERL_PLATFORM": "cpu"}
    settings = one.composed.settings
    assert settings["algorithm.actfocus.weighting.alpha"] == 0.3
    assert (settings["data.seed"], settings["trainer.device"]) == (4, "cpu")


def test_a_run_of_train_is_a_run_of_the_comparison(tmp_path: Path, trainer: dict[str, bool]) -> None:
    """Same folder, same identity: what one command has trained the other does not train again."""
    words = ["--steps", "2", "--out", str(tmp_path / "o")]
    assert main(["train", "cpu_frozenlake", *words]) == main(["compare", *words]) == 0
    assert (tmp_path / "o/actfocus-seed0/trained").read_text() == "once\n"
    assert {path.name for path in (tmp_path / "o").glob("report.*")} == {"report.md", "report.html"}


def test_a_miniature_on_a_gpu_has_a_folder_of_its_own_and_its_report_names_the_device(
    tmp_path: Path, trainer: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "--steps", "2"]) == main(["compare", "--steps", "2", "--device", "cuda"]) == 0
    report = (tmp_path / "outputs/grpo-frozenlake-cuda/report.md").read_text()
    (again,) = (line for line in report.splitlines() if line.startswith("actfocus compare"))
    assert "--device cuda" in again
    trained = tmp_path / "outputs/grpo-frozenlake-cuda/actfocus-seed0/trained"
    assert main(shlex.split(again)[1:]) == 0 and trained.read_text() == "once\n"
    assert "--device" not in (tmp_path / "outputs/grpo-frozenlake/report.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "--device cpu",
            "sokoban_ppo is for GPUs, or tried on a CPU with --trial, and --device cpu is for a miniature",
        ),
        ("--device cuda", "sokoban_ppo is for GPUs, or tried on a CPU with --trial, and --device cuda is for"),
        ("--trial --device cuda", "sokoban_ppo is tried on a CPU (--trial), and --device cuda is for a miniature"),
    ],
)
def test_a_recipe_takes_no_device(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "sokoban_ppo", *words.split(), "--dry-run"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [["train", "sokoban_ppo"], ["compare", "--env", "sudoku"]])
def test_a_dry_run_says_what_a_step_consists_of_and_the_command_and_writes_nothing(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--dry-run", "--out", str(tmp_path / "o")]) == 0
    printed = capsys.readouterr().out
    assert "o/actfocus-seed0: to do" in printed and "128 trajectories played" in printed
    assert "python -W ignore -m verl.trainer.main_ppo +actfocus=default" in printed
    assert list(tmp_path.iterdir()) == []


def test_a_profile_of_another_environment_or_algorithm_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], launched: Launched
) -> None:
    out = ["--out", str(tmp_path / "o")]
    assert main(["compare", "--profile", "cpu_sokoban", "--env", "frozenlake", *out]) == 2
    assert "the profile cpu_sokoban trains sokoban, not frozenlake" in capsys.readouterr().err
    assert main(["train", "sokoban_ppo", "--algorithm", "grpo", *out]) == 2
    assert "the profile sokoban_ppo is for ppo, not for grpo" in capsys.readouterr().err
    assert launched == [] and not (tmp_path / "o").exists()


@pytest.mark.parametrize("words", [["compare", "--profile", "sokoban_ppo"], ["train", "sokoban_ppo"]])
def test_a_recipe_is_refused_where_there_is_no_gpu(
    tmp_path: Path,
    launched: Launched,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main([*words, "--out", str(tmp_path / "o")]) == 2
    assert "torch finds no GPU here" in capsys.readouterr().err and launched == []


@pytest.mark.parametrize("words", [["compare"], ["train", "cpu_frozenlake"]])
def test_a_failed_run_is_explained_and_ends_with_exit_code_1(
    tmp_path: Path, trainer: dict[str, bool], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    trainer["dies"] = True
    assert main([*words, "--steps", "2", "--out", str(tmp_path / "o")]) == 1
    error = capsys.readouterr().err
    assert "MemoryError: the trainer dies" in error and "actfocus-seed0/log.txt" in error and "continues" in error


def test_ctrl_c_says_how_to_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(planned: Sequence[Planned], **options: bool) -> list[Failure]:
        raise KeyboardInterrupt

    monkeypatch.setattr(_training, "launch", interrupt)
    assert main(["compare", "--out", str(tmp_path)]) == 130
    assert "the same command continues" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_nohup_has_switched_off_stays_so(number: signal.Signals) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}
    signal.signal(number, signal.SIG_IGN)
    try:
        exit_on_signals()
        assert signal.getsignal(number) is signal.SIG_IGN
        signal.raise_signal(number)  # ends nothing
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_comparison_cleans_up_like_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    cleaned = []

    def terminated(planned: Sequence[Planned], **options: bool) -> list[Failure]:
        try:
            signal.raise_signal(number)
        finally:
            cleaned.append(True)
        return []

    monkeypatch.setattr(_training, "launch", terminated)
    signal.signal(number, signal.SIG_DFL)  # whatever the tests were started with
    with pytest.raises(SystemExit) as ended:
        main(["compare", "--out", str(tmp_path)])
    assert ended.value.code == 128 + number and cleaned == [True]


def test_little_memory_is_warned_about(
    tmp_path: Path, launched: Launched, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_training, "free_memory", lambda: 2_000_000_000)
    main(["compare", "--out", str(tmp_path / "o")])
    assert "2.0 GB of memory are free" in capsys.readouterr().err


def test_a_missing_verl_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(requirements, "installed_version", lambda requirement: None)
    # A configuration that no test has composed before.
    assert main(["compare", "--out", str(tmp_path), "--", "data.train_batch_size=12"]) == 2
    assert "training needs verl==0.9.1, found none; pip install 'verl==0.9.1'" in capsys.readouterr().err


def test_the_commands_process_does_not_import_verl() -> None:
    code = "import sys; from verl_actfocus.cli import compare; print(sorted({'verl', 'ray'} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
