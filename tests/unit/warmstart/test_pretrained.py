"""The warm start of a pretrained model: another tokenizer and template, and nothing but the responses is learnt."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from verl_actfocus import envs
from verl_actfocus.cli.main import main
from verl_actfocus.episodes import STANDARD_TAGS
from verl_actfocus.episodes.templates import prompt_builder
from verl_actfocus.episodes.tokens import ChatML, PromptBuilder
from verl_actfocus.evaluation.checkpoints import find_model
from verl_actfocus.evaluation.tokenizers import load_tokenizer
from verl_actfocus.trajectories import read_trajectories
from verl_actfocus.warmstart import pretrained
from verl_actfocus.warmstart.demonstrations import demonstrate
from verl_actfocus.warmstart.lesson import prepare
from verl_actfocus.warmstart.loop import Checkpoint, TrainingSettings
from verl_actfocus.warmstart.pretrained import response_gradient
from verl_actfocus.warmstart.train import demonstrated

from ..pretrained.conftest import tiny_tokenizer

FROZENLAKE = envs.miniature("frozenlake")
#: As Llama's: headers around the roles, an end of turn of its own, and a bare text before the first message.
TEMPLATE = (
    "begin{% for m in messages %}[{{ m.role }}]\n{{ m.content | trim }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]\n{% endif %}"
)
SETTINGS = TrainingSettings(iterations=2, episodes_per_batch=2, warmup_iterations=1, learning_rate=1e-3)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of a few thousand parameters with another tokenizer and template than the tiny models'."""
    path = tmp_path_factory.mktemp("llama")
    tokenizer = tiny_tokenizer(template=TEMPLATE, pad="<|endoftext|>")
    tokenizer.save_pretrained(path)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=8192,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(str(folder))


@pytest.fixture(scope="session")
def prompts(tokenizer: PreTrainedTokenizerBase) -> PromptBuilder:
    found = prompt_builder(tokenizer, "llama", STANDARD_TAGS, tokenizer.eos_token_id)
    assert not isinstance(found, ChatML)
    return found


def lesson(prompts: PromptBuilder, **changes: Any) -> Any:
    asked: dict[str, Any] = {"prompt_style": "worked_turn", "template": {}, "response_tokens": None, "seed": 0}
    return prepare(FROZENLAKE, prompts, **{**asked, **changes})


@pytest.fixture(scope="session")
def batch(prompts: PromptBuilder) -> list[tuple[list[int], list[int]]]:
    taught = lesson(prompts)
    return next(demonstrated(taught.task, prompts, SETTINGS, phrasing=taught.phrasing()))


def test_the_loss_is_on_the_demonstrated_responses_and_not_on_the_worked_turn(
    batch: list[tuple[list[int], list[int]]], prompts: PromptBuilder, tokenizer: PreTrainedTokenizerBase
) -> None:
    taught = lesson(prompts)
    env = FROZENLAKE.make_env()
    played = [
        demonstrate(taught.task, env, seed=0, index=index, phrasing=taught.phrasing()).messages for index in range(16)
    ]
    wanted = ["".join(f"{message['content']}<|im_end|>" for message in one[4::2]) for one in played]
    for ids, mask in batch:
        text = tokenizer.decode(ids)
        assert text.startswith("begin[system]\nYou are crossing") and text.count("That was an example.") == 1
        learnt = tokenizer.decode([token for token, chosen in zip(ids, mask, strict=True) if chosen])
        assert learnt in wanted
        assert "The best next action" in text and "The best next action" not in learnt


def test_gradient_and_loss_are_those_of_the_mean_over_the_response_tokens(
    folder: Path, batch: list[tuple[list[int], list[int]]]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    loss, tokens = response_gradient(model, batch)
    found = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    nats = []
    for ids, mask in batch:  # by loop: every token that is predicted, one at a time
        log_probs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        nats += [-log_probs[place - 1, ids[place]] for place in range(1, len(ids)) if mask[place]]
    expected = torch.stack(nats).mean()
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert tokens == sum(len(ids) for ids, _ in batch)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(found[name], weight.grad, rtol=1e-3, atol=1e-6)


def test_a_bfloat16_forward_pass_gives_nearly_the_float32_gradient_in_float32(
    folder: Path, batch: list[tuple[list[int], list[int]]]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    seen: list[torch.dtype] = []
    model.lm_head.register_forward_hook(lambda _module, _inputs, logits: seen.append(logits.dtype))
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        model.zero_grad()
        loss, _ = response_gradient(model, batch, dtype)
        found[dtype] = torch.cat([weight.grad.flatten() for weight in model.parameters()]), loss
    assert set(seen) == {torch.float32, torch.bfloat16}
    (exact, exact_loss), (rounded, rounded_loss) = found[torch.float32], found[torch.bfloat16]
    assert rounded.dtype == torch.float32 and not torch.equal(exact, rounded)
    assert torch.cosine_similarity(exact, rounded, dim=0) > 0.999
    assert rounded_loss == pytest.approx(exact_loss, rel=1e-2)


def test_budgets_are_those_of_the_models_tokens(prompts: PromptBuilder) -> None:
    env = FROZENLAKE.make_env()
    taught = lesson(prompts)
    longest = 0
    for index in range(64):
        for message in demonstrate(FROZENLAKE, env, seed=0, index=index).messages[2::2]:
            longest = max(longest, len(prompts.response(message["content"])))
    given = taught.task.limits.response_tokens
    assert longest + 8 <= given < longest + 8 + 16 and given % 16 == 0
    assert dataclasses.replace(taught.task.limits, response_tokens=64) == FROZENLAKE.limits
    with pytest.raises(ValueError, match=f"has {longest} of this model's tokens, and --response-tokens allows 9"):
        lesson(prompts, response_tokens=9)


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("lora", [False, True])
def test_training_that_was_interrupted_ends_in_the_same_weights(
    lora: bool, folder: Path, batch: list[tuple[list[int], list[int]]], tmp_path: Path
) -> None:
    def yields(*numbers: int) -> Any:
        def batches(start: int) -> Any:
            for number in numbers[start:]:
                if number < 0:
                    raise KeyboardInterrupt
                yield batch

        return batches

    def run(numbers: tuple[int, ...], checkpoint: Checkpoint | None) -> dict[str, torch.Tensor]:
        model = AutoModelForCausalLM.from_pretrained(folder)
        settings = dataclasses.replace(SETTINGS, iterations=4)
        trained, losses = pretrained.train(model, yields(*numbers), settings, lora=lora, checkpoint=checkpoint)
        assert len(losses) == 4 and losses[-1] < losses[0]
        return weights(trained)

    kept = Checkpoint(path=tmp_path / "c.pt", identity={"run": 1}, every=1)
    whole = run((0, 1, 2, 3), None)
    with pytest.raises(KeyboardInterrupt):
        run((0, 1, -1), kept)
    resumed = run((0, 1, 2, 3), kept)
    assert whole.keys() == resumed.keys() == weights(AutoModelForCausalLM.from_pretrained(folder)).keys()
    for name, weight in whole.items():
        assert torch.equal(weight, resumed[name]), name


def warmstart(folder: Path, out: Path, *words: str) -> int:
    usual = ["--iterations", "2", "--batch", "2", "--episodes", "2"]
    return main(["warmstart", "frozenlake", "--model", str(folder), "--out", str(out), *usual, *words])


def test_a_warm_start_writes_model_card_and_the_episodes_of_both_evaluations(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert warmstart(folder, out, "--seed", "3", "--lora", "--dtype", "bfloat16") == 0
    source = find_model(str(out))
    assert source.model == source.tokenizer == str(out)
    taught, before = weights(AutoModelForCausalLM.from_pretrained(out)), AutoModelForCausalLM.from_pretrained(folder)
    changed = {name for name, weight in before.named_parameters() if not torch.equal(weight, taught[name])}
    assert taught.keys() == weights(before).keys() and changed and not any("embed" in name for name in changed)
    assert load_tokenizer(str(out)).chat_template == TEMPLATE
    card = (out / "README.md").read_text(encoding="utf-8")
    command = "--iterations 2 --batch 2 --learning-rate 0.0005 --prompt-style worked_turn --episodes 2"
    assert f"--out DIR --seed 3 {command} --dtype bfloat16 --lora\n" in card
    assert card.count("| before |") == card.count("| after |") == 2 and "LoRA adapters of rank 16" in card
    assert "forward pass in bfloat16" in card
    for when in ("before", "after"):
        for temperature in ("0", "1"):
            file = out / "evaluations" / when / f"temperature-{temperature}" / "trajectories.jsonl"
            assert len(list(read_trajectories(file))) == 2
            assert "That was an example." in next(iter(read_trajectories(file))).prompt
    assert not (out / "checkpoint.pt").exists()
    shown = capsys.readouterr()
    assert "after, temperature 1\n" in shown.out
    for temperature in ("0", "1"):  # before and after: playing takes minutes
        assert shown.err.count(f"temperature {temperature}  1/2 episodes") == 2

    assert warmstart(folder, out) == 2
    assert "holds a model with a card; choose another --out" in capsys.readouterr().err


def test_an_interrupted_warm_start_goes_on_and_plays_no_episode_twice(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="killed"):
        patched.setattr(pretrained, "_save", killed)
        warmstart(folder, tmp_path)
    before = tmp_path / "evaluations" / "before" / "temperature-1" / "trajectories.jsonl"
    assert (tmp_path / "checkpoint.pt").exists() and not (tmp_path / "README.md").exists()
    played = before.stat().st_mtime_ns
    monkeypatch.setattr(pretrained, "response_gradient", killed)  # nothing is trained again
    assert warmstart(folder, tmp_path) == 0
    assert before.stat().st_mtime_ns == played and (tmp_path / "README.md").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lora", "--response-tokens", "80"], "--lora, --response-tokens: only a pretrained model is taught so"),
        (["--prompt-style", "example"], "--prompt-style: only a pretrained model is taught so; name one with --model"),
    ],
)
def test_what_is_said_about_a_pretrained_model_is_refused_without_one(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["warmstart", "frozenlake", "--out", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prompt-style", "chatty"], "unknown prompt style 'chatty'"),
        (["--response-tokens", "5"], "of this model's tokens, and --response-tokens allows 5"),
    ],
)
def test_what_cannot_be_taught_is_refused_before_anything_is_measured(
    words: list[str], message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert warmstart(folder, tmp_path / "out", *words) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out" / "evaluations").exists()


def test_the_models_own_folder_is_not_written_to(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert warmstart(folder, folder) == 2
    assert "is the model's own folder" in capsys.readouterr().err


@pytest.mark.parametrize("rate", ["0", "-1e-4", "fast", "inf"])
def test_a_learning_rate_that_is_none_is_refused(rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        warmstart(Path("x"), Path("y"), f"--learning-rate={rate}")
    assert "is not a learning rate" in capsys.readouterr().err
