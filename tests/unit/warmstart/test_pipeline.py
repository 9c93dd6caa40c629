"""`actfocus warmstart` from its arguments to the folder it writes."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from verl_actfocus import envs
from verl_actfocus.cli import warmstart
from verl_actfocus.envs.demonstrations import Miniature
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.storage.locks import locked
from verl_actfocus.warmstart.evaluation import Evaluation, evaluate
from verl_actfocus.warmstart.loop import TrainingSettings
from verl_actfocus.warmstart.train import train


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    warmstart.add_arguments(parser)
    return parser.parse_args(words)


def test_a_run_writes_a_model_a_tokenizer_and_a_card_with_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["frozenlake", "--out", str(tmp_path), "--iterations", "1", "--batch", "2", "--seed", "4"]
    assert warmstart.run(arguments(*words, "--episodes", "2")) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "README.md", "model", "tokenizer"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    expected, losses = train(
        envs.miniature("frozenlake"), tokenizer, TrainingSettings(iterations=1, episodes_per_batch=2, seed=4)
    )
    for name, weight in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    # The command makes this very card again, so it names every number that is not the default.
    assert "    actfocus warmstart frozenlake --out DIR --seed 4 --iterations 1 --batch 2 --episodes 2\n" in card
    assert f"{losses[0]:.4f} nats" in card
    assert f"{model.num_parameters():,} parameters" in card
    assert "| 0.5 | 0.0% ± 0.0% |" in card, "one step of training solves nothing"
    assert "success 0.0%" in capsys.readouterr().out

    before = (tmp_path / "model/model.safetensors").stat().st_mtime_ns
    for other in (words, [*words[:-1], "5"]):
        with pytest.raises(ExperimentError, match="holds a model with a card; choose another --out"):
            warmstart.run(arguments(*other))
    assert (tmp_path / "model/model.safetensors").stat().st_mtime_ns == before


def test_episodes_that_the_demonstrations_have_are_refused_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="episodes is 2000000: it must be between 1 and 1000000"):
        warmstart.run(arguments("frozenlake", "--out", str(tmp_path / "o"), "--episodes", "2000000"))
    assert not (tmp_path / "o").exists()


def test_a_second_command_in_one_folder_is_refused(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(ExperimentError, match="is in use by another command"):
        warmstart.run(arguments("frozenlake", "--out", str(tmp_path), "--iterations", "1"))


def test_a_card_names_what_decides_if_that_was_chosen_and_the_number_of_episodes_only_if_unusual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = evaluate

    def on_two(folder: Path, task: Miniature, *, episodes: int) -> list[Evaluation]:
        assert episodes == 256
        return usual(folder, task, episodes=2)

    monkeypatch.setattr("verl_actfocus.warmstart.pipeline.evaluate", on_two)
    words = ["frozenlake", "--decides", "reasoning", "--out", str(tmp_path), "--iterations", "1", "--batch", "2"]
    assert warmstart.run(arguments(*words)) == 0
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "    actfocus warmstart frozenlake --decides reasoning --out DIR --seed 0 --iterations 1 --batch 2\n" in card
    assert "its reasoning\nstates the shortest way only part of the time, its actions do what it states." in card


@pytest.mark.parametrize(
    ("option", "value"), [("--iterations", "0"), ("--batch", "-1"), ("--episodes", "0"), ("--threads", "x")]
)
def test_a_number_out_of_range_is_refused_before_anything_runs(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        arguments("frozenlake", "--out", "nowhere", option, value)
    assert option in capsys.readouterr().err


def test_an_unknown_task_is_refused_with_the_names_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments("chess", "--out", "nowhere")
    assert "frozenlake" in capsys.readouterr().err
