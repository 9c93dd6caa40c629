"""`actfocus reproduce` turns its arguments into a grid, and ends as shells expect."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from verl_actfocus.cli.main import main
from verl_actfocus.experiments.tables.files import find_table, tables_folder

WORDS = ["reproduce", "table6", "--scale", "cpu", "--seeds", "1", "--only", "frozenlake"]
pytestmark = pytest.mark.usefixtures("trainer")


def test_one_command_trains_the_runs_and_writes_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "--out", str(tmp_path)]) == 0
    runs = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("done.json")}
    assert runs == {"cpu/frozenlake-grpo/uniform-seed1", "cpu/frozenlake-grpo/actfocus-seed1"}
    assert "| FrozenLake, GRPO | tiny" in (tmp_path / "cpu/table6-cpu.md").read_text()
    assert str(tmp_path / "cpu/table6-cpu.tex") in capsys.readouterr().out


def test_a_failed_run_ends_with_1_and_the_table_is_written_without_it(
    tmp_path: Path, trainer: dict[str, bool], capsys: pytest.CaptureFixture[str]
) -> None:
    trainer["dies"] = True
    assert main([*WORDS, "--out", str(tmp_path)]) == 1
    assert "actfocus reproduce: frozenlake-grpo/actfocus-seed1 failed with exit code 1" in capsys.readouterr().err
    assert "1 of the runs asked for are not finished" in (tmp_path / "cpu/table6-cpu.md").read_text()


@pytest.mark.parametrize("option", ["--no-training", "--dry-run"])
def test_runs_of_other_settings_are_refused_also_without_training(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*WORDS, "--out", str(tmp_path)])
    assert main([*WORDS, "--out", str(tmp_path), option, "--", "data.train_batch_size=8"]) == 2
    error = capsys.readouterr().err
    assert "uniform-seed1 was made with other settings (data.train_batch_size was 16, is 8)" in error


def test_a_dry_run_lists_the_runs_and_their_commands_and_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, "--out", str(tmp_path), "--dry-run", "--", "trainer.test_freq=2"]) == 0
    output = capsys.readouterr().out
    assert "frozenlake-grpo/actfocus-seed1: to do" in output
    assert "2 runs, 0 done" in output
    assert list(tmp_path.iterdir()) == []


def test_without_training_the_table_shows_what_is_there(tmp_path: Path) -> None:
    main([*WORDS, "uniform", "--out", str(tmp_path)])
    assert main([*WORDS, "--out", str(tmp_path), "--no-training", "--write-to", str(tmp_path / "tables")]) == 0
    text = (tmp_path / "tables/table6-cpu.md").read_text()
    assert "1 of the runs asked for are not finished" in text


def test_tables_of_nothing_are_not_written_without_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    misspelt = tmp_path / "reslts" / "table6.tar.xz"
    words = [*WORDS, "--out", str(tmp_path / "out"), "--no-training"]
    assert main(words) == 0
    assert "none of the 2 runs asked for is done: nothing measured is in the tables" in capsys.readouterr().err
    assert main([*words, "--archive", str(misspelt)]) != 0
    refused = capsys.readouterr().err
    assert f"--archive {misspelt}: there is no such file, and none of the 2 runs asked for is done in" in refused
    assert not misspelt.parent.exists()
    main([*WORDS, "uniform", "--out", str(tmp_path / "other"), "--archive", str(misspelt)])
    notes = capsys.readouterr().err
    assert f"there is no archive {misspelt} yet: it begins with the first run that is done" in notes
    main([*words, "--archive", str(misspelt), "--only", "actfocus", "frozenlake"])
    assert f"none of the runs asked for is in the archive {misspelt}" in capsys.readouterr().err
    main([*words, "--archive", str(misspelt)])
    assert capsys.readouterr().err.splitlines() == ["note: 1 of the runs asked for are in the archive"]


def test_checkpoints_are_kept_unless_they_are_to_be_deleted(tmp_path: Path) -> None:
    main([*WORDS, "--out", str(tmp_path)])
    checkpoints = [file.parent / "checkpoints" for file in tmp_path.rglob("done.json")]
    for path in checkpoints:
        path.mkdir()
    main([*WORDS, "--out", str(tmp_path), "--dry-run", "--delete-checkpoints"])
    main([*WORDS, "--out", str(tmp_path)])
    assert [path.exists() for path in checkpoints] == [True, True]
    main([*WORDS, "uniform", "--out", str(tmp_path), "--no-training", "--delete-checkpoints"])
    assert {path.parent.name: path.exists() for path in checkpoints} == {
        "uniform-seed1": False,
        "actfocus-seed1": True,
    }
    main([*WORDS, "--out", str(tmp_path), "--delete-checkpoints"])
    assert not any(path.exists() for path in checkpoints)


def test_two_tables_of_one_name_are_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their files are named after them, so that one would replace the other's."""
    mine, other = tmp_path / "mine/table6.yaml", tmp_path / "other/table6.yml"
    for path in (mine, other):
        path.parent.mkdir()
        shutil.copy(find_table("table6"), path)
        shutil.copy(tables_folder() / "_scales.yaml", path.parent)
    words = ["--scale", "cpu", "--seeds", "1", "--only", "frozenlake", "uniform", "--out", str(tmp_path / "out")]
    for one, two in ((mine, other), ("table6", mine)):
        assert main(["reproduce", str(one), str(two), *words]) == 2
        first = tables_folder() / "table6.yaml" if one == "table6" else one
        assert f"{first} and {two} are both called table6, by which the files" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    # One table by two names is one table.
    assert main(["reproduce", "table6", str(tables_folder() / "table6.yaml"), *words]) == 0


def test_a_gpu_table_is_refused_where_there_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    words = ["reproduce", "table6", "--seeds", "1", "--only", "sokoban", "small", "--out", str(tmp_path)]
    assert main(words) == 2
    assert "torch finds no GPU here; run this on a GPU node" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_words_after_two_dashes_are_refused_by_commands_that_have_no_use_for_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["doctor", "--", "trainer.test_freq=2"])
    assert end.value.code == 2
    assert "doctor takes no words after --" in capsys.readouterr().err


def test_a_second_machine_goes_on_where_the_archive_of_the_first_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = str(tmp_path / "published" / "runs.tar.xz")
    assert main([*WORDS, "uniform", "--out", str(tmp_path / "one"), "--archive", archive]) == 0
    assert main([*WORDS, "--out", str(tmp_path / "two"), "--archive", archive]) == 0
    assert "1 of the runs asked for are in the archive" in capsys.readouterr().err
    trained = {path.parent.name for path in (tmp_path / "two").rglob("trained")}
    assert trained == {"actfocus-seed1"}
    # What is published makes the table again, without any run.
    assert main([*WORDS, "--out", str(tmp_path / "three"), "--archive", archive, "--no-training"]) == 0
    two, three = ((tmp_path / name / "cpu/table6-cpu.md").read_text() for name in ("two", "three"))
    assert two == three and "not finished" not in three


def test_tables_are_made_of_an_archive_that_lies_where_nothing_can_be_written(tmp_path: Path) -> None:
    archive = tmp_path / "published" / "runs.tar.xz"
    assert main([*WORDS, "--out", str(tmp_path / "one"), "--archive", str(archive)]) == 0
    (archive.parent / f".{archive.name}.lock").unlink()
    archive.parent.chmod(0o555)
    assert main([*WORDS, "--out", str(tmp_path / "two"), "--archive", str(archive), "--no-training"]) == 0
    assert [*archive.parent.iterdir()] == [archive]  # who may write everywhere leaves nothing either
    assert "not finished" not in (tmp_path / "two/cpu/table6-cpu.md").read_text()


def test_a_table_of_finished_runs_needs_no_model_and_training_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["reproduce", "mechanism", "--scale", "cpu", "--seeds", "1", "--only", "both", "uniform"]
    archive = ["--archive", str(tmp_path / "runs.tar.xz")]
    for part in ("model", "tokenizer"):
        (tmp_path / "here/outputs/frozenlake-both" / part).mkdir(parents=True)
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main([*words, *archive]) == 0
    monkeypatch.chdir(tmp_path / "there")
    assert main([*words, *archive, "--no-training"]) == 0
    assert "1 of the runs asked for are in the archive" in capsys.readouterr().err
    for option in ([], ["--dry-run"], ["--no-training", "--evaluate"]):
        assert main([*words, *archive, *option]) == 2
        assert "outputs/frozenlake-both/model: there is no such folder; name one" in capsys.readouterr().err


def test_with_an_archive_a_dry_run_writes_nothing_either_and_other_settings_are_refused_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = str(tmp_path / "runs.tar.xz")
    assert main([*WORDS, "uniform", "--out", str(tmp_path / "one"), "--archive", archive]) == 0
    capsys.readouterr()
    assert main([*WORDS, "--out", str(tmp_path / "two"), "--archive", archive, "--dry-run"]) == 0
    output = capsys.readouterr().out
    assert "uniform-seed1: in the archive" in output and "actfocus-seed1: to do" in output
    assert not (tmp_path / "two").exists()
    other = [*WORDS, "--out", str(tmp_path / "two"), "--archive", archive, "--", "data.train_batch_size=8"]
    assert main(other) == 2
    assert "runs.tar.xz holds cpu/frozenlake-grpo/uniform-seed1 with other settings" in capsys.readouterr().err
    assert not (tmp_path / "two").exists()


def test_a_row_that_waits_is_not_trained_and_the_table_says_for_what(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "mine.yaml"
    table.write_text(
        "title: Mine\nsource: Nobody\nalgorithm: grpo\nweightings:\n  uniform: {label: Uniform, weighting: uniform}\n"
        "rows:\n  - env: frozenlake\n  - {env: sokoban, algorithm: ppo, waits_for: its rate}\n"
        "  - {env: frozenlake, algorithm: ppo, waits_for: its rate}\n"
    )
    out = tmp_path / "out"
    words = ["reproduce", str(table), "--scale", "cpu", "--seeds", "1", "--out", str(out)]
    assert main([*words, "--only", "sokoban", "ppo"]) == 2
    reason = "sokoban, ppo, waits for its rate"
    assert f"every row asked for waits: {reason}; there is nothing to train yet" in capsys.readouterr().err
    assert not out.exists()
    assert main([*words, "--only", "frozenlake"]) == 0
    assert "note: frozenlake, ppo, waits for its rate; it is left blank" in capsys.readouterr().err
    assert {path.parent.parent.name for path in out.rglob("done.json")} == {"frozenlake-grpo"}
    text = (out / "cpu/mine-cpu.md").read_text()
    assert "- Not run yet: frozenlake, ppo, waits for its rate." in text
    assert "not finished" not in text
