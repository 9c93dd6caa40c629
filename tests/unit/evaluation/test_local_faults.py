"""What is wrong with a local model is said, and what only looks wrong changes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from verl_actfocus import models
from verl_actfocus.cli.main import main
from verl_actfocus.evaluation.checkpoints import find_model
from verl_actfocus.evaluation.local import LocalModel
from verl_actfocus.evaluation.records import EvaluationFolder
from verl_actfocus.evaluation.runner import run
from verl_actfocus.evaluation.settings import EvaluationSettings

TINY = models.folder("frozenlake")
END_OF_TEXT, TURN_END = 0, 2


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[Callable[[PreTrainedModel], None]], Path]:
    """Writes the tiny model with changed weights or configuration; returns its folder."""

    def write(change: Callable[[PreTrainedModel], None]) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(TINY, folder)
        model = AutoModelForCausalLM.from_pretrained(TINY / "model")
        with torch.no_grad():
            change(model)
        model.save_pretrained(folder / "model")
        return folder

    return write


def texts(model: Path, settings: EvaluationSettings, folder: Path) -> list[tuple[int, int, list[str], bool]]:
    """Task, sample, responses and success of every episode."""
    folder.mkdir()
    policy = LocalModel(find_model(str(model)), device="cpu")
    attempt = run(policy, settings, EvaluationFolder(folder), at_once=4)
    assert not attempt.failures
    return sorted((one.task, one.sample, [turn.text for turn in one.turns], one.success) for one in attempt.finished)


@pytest.mark.parametrize("command", ["eval", "play"])
def test_a_model_with_one_nan_weight_is_an_error_that_names_it(
    command: str,
    changed: Callable[[Callable[[PreTrainedModel], None]], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def damage(model: PreTrainedModel) -> None:
        model.get_parameter("model.layers.2.mlp.up_proj.weight")[3, 5] = float("nan")

    folder = changed(damage)
    evaluated = [
        "--model",
        str(folder),
        "--profile",
        "cpu_frozenlake",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "out"),
    ]
    played = ["frozenlake", "--policy", f"model:{folder}"]
    arguments = evaluated if command == "eval" else played
    assert main([command, *arguments]) == 2
    printed = capsys.readouterr()
    assert f"{folder}/model cannot be sampled from: the model's logits hold NaN for token 0" in printed.err
    assert "the weight model.layers.2.mlp.up_proj.weight is not finite" in printed.err
    assert "0.0 %" not in printed.out


def test_padding_of_the_embedding_changes_no_response_however_likely_it_is(
    changed: Callable[[Callable[[PreTrainedModel], None]], Path], settings: EvaluationSettings, tmp_path: Path
) -> None:
    def pad(model: PreTrainedModel) -> None:
        rows = model.config.vocab_size
        model.resize_token_embeddings(rows + 31, mean_resizing=False)
        # Twice as likely as the likeliest tokens: sampled at once if nothing forbade it.
        model.get_input_embeddings().weight[rows:] = 2 * model.get_input_embeddings().weight[:31]

    padded = texts(changed(pad), settings, tmp_path / "padded")
    assert padded == texts(TINY, settings, tmp_path / "as-it-is")


def test_a_model_that_ends_sequences_with_another_token_than_turns_does_not_run_on(
    changed: Callable[[Callable[[PreTrainedModel], None]], Path], settings: EvaluationSettings, tmp_path: Path
) -> None:
    def other_end(model: PreTrainedModel) -> None:
        model.generation_config.eos_token_id = END_OF_TEXT

    folder = changed(other_end)
    described = json.loads((folder / "tokenizer/tokenizer_config.json").read_text())
    described["eos_token"] = "<|endoftext|>"
    (folder / "tokenizer/tokenizer_config.json").write_text(json.dumps(described))
    policy = LocalModel(find_model(str(folder)), device="cpu")
    assert policy.tokenizer.eos_token_id == policy.model.generation_config.eos_token_id == END_OF_TEXT
    assert texts(folder, settings, tmp_path / "other") == texts(TINY, settings, tmp_path / "as-it-is")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cut", r"no model could be read from .*model: .*incomplete"),
        ("shape", r"no model could be read from .*model: "),
        ("missing", r"lacks 1 of its model's weights \(model\.layers\.1\.mlp\.up_proj\.weight\)"),
    ],
)
def test_a_model_whose_files_are_incomplete_is_not_played_with_random_weights(
    how: str, message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(TINY, folder)
    file, name = folder / "model/model.safetensors", "model.layers.1.mlp.up_proj.weight"
    weights = load_file(file)
    if how == "cut":
        file.write_bytes(file.read_bytes()[:-1000])
    else:
        kept = {name: weights[name][:10].clone()} if how == "shape" else {}
        others = {key: weight for key, weight in weights.items() if key != name}
        save_file({**others, **kept}, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=message):
        LocalModel(find_model(str(folder)), device="cpu")
