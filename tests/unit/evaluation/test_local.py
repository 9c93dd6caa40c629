"""A model on this machine: where it is found, how a checkpoint becomes one, and that it plays as in training."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from verl_actfocus import models
from verl_actfocus.cli.main import main
from verl_actfocus.evaluation import checkpoints
from verl_actfocus.evaluation.checkpoints import find_model, merge
from verl_actfocus.evaluation.local import LocalModel
from verl_actfocus.evaluation.records import EvaluationFolder
from verl_actfocus.evaluation.runner import run
from verl_actfocus.evaluation.settings import EvaluationSettings
from verl_actfocus.evaluation.tokenizers import load_tokenizer
from verl_actfocus.trajectories import read_trajectories

TINY = models.folder("frozenlake")
TEXT = "Player: (1, 2)\nHoles: (0, 3) I go Right and Down.</think><answer> Right || Down</answer>"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A run's folder with a checkpoint of the tiny model as veRL's FSDP engine writes it on one rank."""
    checkpoints_folder = tmp_path / "run" / "checkpoints"
    actor = checkpoints_folder / "global_step_20" / "actor"
    shutil.copytree(TINY / "tokenizer", actor / "huggingface")
    for name in ("config.json", "generation_config.json"):
        shutil.copy(TINY / "model" / name, actor / "huggingface")
    model = AutoModelForCausalLM.from_pretrained(TINY / "model")
    torch.save(model.state_dict(), actor / "model_world_size_1_rank_0.pt")
    (actor / "fsdp_config.json").write_text('{"FSDP_version": 1, "world_size": 1}')
    (checkpoints_folder / "latest_checkpointed_iteration.txt").write_text("20")
    (checkpoints_folder / "global_step_10").mkdir()  # veRL deletes the actor of an older step and leaves the rest
    return tmp_path / "run"


def test_a_checkpoint_is_found_by_its_run_its_folder_its_step_and_its_actor(checkpoint: Path) -> None:
    steps = checkpoint / "checkpoints"
    actor = steps / "global_step_20" / "actor"
    for name in (checkpoint, steps, actor.parent, actor):
        assert find_model(str(name)).shards == actor


def test_a_merged_checkpoint_is_the_model_with_the_tokenizer_of_the_training(
    checkpoint: Path, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = find_model(str(checkpoint))
    merged = merge(source)
    original = AutoModelForCausalLM.from_pretrained(TINY / "model").state_dict()
    weights = AutoModelForCausalLM.from_pretrained(merged.model, dtype=torch.float32).state_dict()
    assert weights.keys() == original.keys()
    for name, weight in weights.items():
        assert torch.equal(weight, original[name].bfloat16().float()), name  # veRL's merger rounds to bfloat16
    expected = tokenizer.encode(TEXT, add_special_tokens=False)
    assert load_tokenizer(merged.tokenizer).encode(TEXT, add_special_tokens=False) == expected
    assert not list(Path(merged.model).parent.glob("*.partial"))

    def not_again(shards: Path, target: Path) -> None:
        raise AssertionError("merged a second time")

    monkeypatch.setattr(checkpoints, "_run_merger", not_again)
    assert merge(source) == merged
    shard = checkpoint / "checkpoints/global_step_20/actor/model_world_size_1_rank_0.pt"
    shard.write_bytes(shard.read_bytes() + b"x")  # other weights under the same name
    with pytest.raises(AssertionError, match="second time"):
        merge(source)

    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="has no locks"), pytest.raises(AssertionError, match="second time"):
        merge(source)


def test_of_two_evaluations_that_merge_one_checkpoint_at_once_the_second_waits_for_the_first(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged = []

    def slow(shards: Path, target: Path) -> None:
        merged.append(target)
        target.mkdir()
        time.sleep(0.5)
        (target / "model.safetensors").write_text("weights")

    monkeypatch.setattr(checkpoints, "_run_merger", slow)
    source = find_model(str(checkpoint))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(merge, [source, source])
    assert first == second and len(merged) == 1
    assert (Path(first.model) / "model.safetensors").read_text() == "weights"


def test_a_tokenizer_beside_a_qwen2_configuration_stays_what_its_file_says(
    checkpoint: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    beside = load_tokenizer(str(checkpoint / "checkpoints/global_step_20/actor/huggingface"))
    assert beside.encode(TEXT, add_special_tokens=False) == tokenizer.encode(TEXT, add_special_tokens=False)


def test_a_checkpoint_with_whole_weights_needs_no_merging(checkpoint: Path) -> None:
    described = checkpoint / "checkpoints/global_step_20/actor/huggingface"
    shutil.copy(TINY / "model/model.safetensors", described)
    source = find_model(str(checkpoint))
    assert source.shards is None and source.model == str(described)
    assert merge(source) == source


def test_what_cannot_be_evaluated_is_refused_with_what_to_name_instead(checkpoint: Path, tmp_path: Path) -> None:
    actor = checkpoint / "checkpoints/global_step_20/actor"
    with pytest.raises(ValueError, match=r"global_step_10 holds no actor: .*global_step_20 in .* has one"):
        find_model(str(checkpoint / "checkpoints/global_step_10"))
    with pytest.raises(ValueError, match=r"global_step_5 holds no actor: .*global_step_20 in .* has one"):
        find_model(str(checkpoint / "checkpoints/global_step_5"))
    with pytest.raises(ValueError, match="there is no such folder"):
        find_model(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"holds no model: neither .*config\.json"):
        find_model(str(tmp_path))
    (actor / "lora_train_meta.json").write_text("{}")
    with pytest.raises(ValueError, match="LoRA adapters"):
        find_model(str(actor))
    (actor / "lora_train_meta.json").unlink()
    config = actor / "huggingface/config.json"
    config.write_text(config.read_text().replace("Qwen2ForCausalLM", "Qwen2ForTokenClassification"))
    with pytest.raises(ValueError, match=r"Qwen2ForTokenClassification.*not a language model"):
        find_model(str(actor))
    config.unlink()
    with pytest.raises(ValueError, match=r"python -m verl\.model_merger"):
        find_model(str(actor))


def test_a_failing_merger_leaves_no_model_behind(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints.sys, "executable", "false")
    with pytest.raises(ValueError, match="veRL's merger could not merge"):
        merge(find_model(str(checkpoint)))
    assert not (checkpoint / "checkpoints/global_step_20/actor_merged").exists()


def test_the_shipped_model_succeeds_as_often_as_its_card_says(settings: EvaluationSettings, tmp_path: Path) -> None:
    settings = dataclasses.replace(settings, tasks=24, samples=2)
    policy = LocalModel(find_model(str(TINY)), device="cpu")
    attempt = run(policy, settings, EvaluationFolder(tmp_path), at_once=24)
    success = sum(record.success for record in attempt.finished) / settings.episodes
    written = re.search(r"\| 1 \| ([\d.]+)% ± ", (TINY / "README.md").read_text(encoding="utf-8"))
    assert written is not None
    expected = float(written.group(1)) / 100
    assert abs(success - expected) < 4 * (expected * (1 - expected) / settings.episodes) ** 0.5
    assert not attempt.failures


def test_responses_do_not_depend_on_how_many_episodes_are_played_at_once(
    settings: EvaluationSettings, tmp_path: Path
) -> None:
    texts = []
    for at_once in (1, 4):
        (folder := tmp_path / str(at_once)).mkdir()
        policy = LocalModel(find_model(str(TINY)), device="cpu")
        attempt = run(policy, settings, EvaluationFolder(folder), at_once=at_once)
        texts.append({(one.task, one.sample): [turn.text for turn in one.turns] for one in attempt.finished})
    assert texts[0] == texts[1]
    assert len({str(text) for text in texts[0].values()}) > 1


def test_the_command_prints_a_table_and_continues_what_was_interrupted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["eval", "--model", str(TINY), "--profile", "cpu_frozenlake", "--episodes", "16", "--device", "cpu"]
    command += ["--out", str(tmp_path / "out")]
    assert main(command) == 0
    first = capsys.readouterr()
    assert re.search(r"^success +\d+\.\d % ", first.out, re.M) and "16/16 episodes" in first.err
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["figures"]["success"]["value"] == summary["figures"]["pass@1"]["value"]
    assert sum(summary["stop_reasons"].values()) == 16
    assert summary["versions"].keys() >= {"torch", "transformers", "verl"} and summary["hardware"]["cores"] >= 1
    trajectories = tmp_path / "out/trajectories.jsonl"
    lines = trajectories.read_text().splitlines(keepends=True)
    before = {(one.group, one.session): one for one in read_trajectories(trajectories)}
    trajectories.write_text("".join(lines[:10]))  # as if it had been ended then
    assert main(command) == 0
    again = {(one.group, one.session): one for one in read_trajectories(trajectories)}
    assert again.keys() == before.keys() and len(again) == 16
    for key, one in again.items():
        # Of how many episodes were played at a time the last digits depend.
        known, other = (found.signals["rollout_log_prob"] for found in (one, before[key]))
        assert known == pytest.approx(other, abs=1e-4)
        assert dataclasses.replace(one, signals={}) == dataclasses.replace(before[key], signals={})
    assert capsys.readouterr().out == first.out


def test_an_evaluation_is_not_continued_with_another_tokenizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = shutil.copytree(TINY / "tokenizer", tmp_path / "own")
    command = ["eval", "--model", str(TINY), "--profile", "cpu_frozenlake", "--episodes", "4", "--device", "cpu"]
    command += ["--out", str(tmp_path / "out"), "--tokenizer"]
    assert main([*command, str(TINY / "tokenizer")]) == 0
    capsys.readouterr()
    assert main([*command, str(own)]) == 2
    assert re.search(r"other settings \(model\.tokenizer was '.*tokenizer', is '.*own'\)", capsys.readouterr().err)

    before = LocalModel(find_model(str(TINY)), device="cpu").identity()
    source = dataclasses.replace(find_model(str(TINY)), tokenizer=str(own))
    assert LocalModel(source, device="cpu").identity() == {**before, "tokenizer": str(own)}
    (own / "chat_template.jinja").write_text("{{ messages[0].content }}")  # another one under the same name
    after = LocalModel(source, device="cpu").identity()
    assert after["tokenizer_sha256"] != before["tokenizer_sha256"]


def test_layers_that_the_engine_does_not_serve_are_refused(tmp_path: Path) -> None:
    shutil.copytree(TINY, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "model/config.json"
    values = json.loads(config.read_text())
    values["layer_types"][1] = "sliding_attention"
    config.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"sliding_attention .*--endpoint"):
        LocalModel(find_model(str(tmp_path)), device="cpu")
