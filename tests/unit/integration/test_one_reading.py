"""What ends a turn and what a response says is the same in training and evaluation, whatever tokenizer and server."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from transformers import PreTrainedTokenizerBase

from verl_actfocus import models
from verl_actfocus.episodes import STANDARD_TAGS
from verl_actfocus.evaluation.tokenizers import load_tokenizer
from verl_actfocus.integration import fields
from verl_actfocus.integration.episode_trainer import EpisodeTrainer
from verl_actfocus.integration.sync_trainer import PortableSyncTrainer
from verl_actfocus.weighting import Span

from .scripted import Scripted, evaluated, settings_with, trained

VALID = " Up is free.</think><answer>Up</answer>"


def changed_tokenizer(folder: Path, *, special: bool = False, **config: str | None) -> PreTrainedTokenizerBase:
    """The tiny model's tokenizer, its tags special tokens if asked, with other values in tokenizer_config.json."""
    shutil.copytree(models.folder("frozenlake") / "tokenizer", folder)
    described = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    for token in described["added_tokens"]:
        token["special"] = token["special"] or (special and token["content"] in STANDARD_TAGS.tags)
    (folder / "tokenizer.json").write_text(json.dumps(described), encoding="utf-8")
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | config
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return load_tokenizer(str(folder))


def model_that_ends_with(folder: Path, token: int | None) -> Path:
    """A model's configuration whose generation settings name this end of sequence."""
    shutil.copytree(models.folder("frozenlake") / "model", folder)
    (folder / "generation_config.json").write_text(json.dumps({} if token is None else {"eos_token_id": token}))
    described = json.loads((folder / "config.json").read_text()) | {"eos_token_id": token}
    (folder / "config.json").write_text(json.dumps(described))
    return folder


@pytest.mark.parametrize("eos", ["<|endoftext|>", "<|im_end|>", None])
@pytest.mark.parametrize("end", ["<|endoftext|>", "<|im_end|>"])
def test_a_response_that_fills_its_budget_and_closes_its_turn_is_not_cut_off_in_training(
    tmp_path: Path, eos: str | None, end: str
) -> None:
    tokenizer = changed_tokenizer(tmp_path / "tokenizer", eos_token=eos)
    end_of_text, turn_end = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    model = model_that_ends_with(tmp_path / "model", end_of_text)
    settings = settings_with(STANDARD_TAGS)
    response = tokenizer.encode(VALID, add_special_tokens=False)
    response = [response[0]] * (settings.limits.response_tokens - len(response) - 1) + response
    ids = [*response, tokenizer.convert_tokens_to_ids(end)]
    assert len(ids) == settings.limits.response_tokens
    server = Scripted(tokenizer, [ids] * 3, model)
    counts = trained(server, settings)["counts"]
    assert counts["stop_reason"] != "response_cut" and counts["valid_turns"] == counts["turns"] > 0
    # The server is told both ends: it knows neither the chat template nor, on a CPU, the tokenizer's end.
    assert server.stops == [sorted({end_of_text, turn_end})] * counts["turns"]
    cut = trained(Scripted(tokenizer, [[*response, response[0]]], model), settings)["counts"]
    assert (cut["stop_reason"], cut["valid_turns"]) == ("response_cut", 0)


def test_tags_that_are_special_tokens_are_read_alike_by_parser_tagger_and_record(tmp_path: Path) -> None:
    tokenizer = changed_tokenizer(tmp_path / "tokenizer", special=True)
    assert set(STANDARD_TAGS.tags) <= {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
    settings = settings_with(STANDARD_TAGS)
    (tmp_path / "out").mkdir()
    record = evaluated(Scripted(tokenizer, [VALID] * 3), settings, tmp_path / "out")
    stored = trained(Scripted(tokenizer, [VALID] * 3), settings)
    assert record.counts() == stored["counts"]
    assert {turn.text for turn in record.turns} == {VALID} and all(turn.valid for turn in record.turns)
    ids, spans = stored["responses"].tolist(), stored[fields.SPANS].tolist()
    actions = [i for i, span in zip(ids, spans, strict=True) if span == Span.ACTION]
    assert tokenizer.decode(actions) == "Up" * len(record.turns)


@pytest.mark.parametrize("place", [0, -2])
def test_a_sampled_id_beyond_the_vocabulary_is_no_text_and_the_turn_is_judged_by_the_rest(
    tmp_path: Path, place: int
) -> None:
    tokenizer = changed_tokenizer(tmp_path / "tokenizer")
    ids = [*tokenizer.encode(VALID, add_special_tokens=False), tokenizer.eos_token_id]
    beyond = len(tokenizer) + 7
    ids.insert(place, beyond)
    settings = settings_with(STANDARD_TAGS)
    (tmp_path / "out").mkdir()
    record = evaluated(Scripted(tokenizer, [ids] * 3), settings, tmp_path / "out")
    stored = trained(Scripted(tokenizer, [ids] * 3), settings)
    assert record.counts() == stored["counts"] and record.failure is None
    assert {turn.text for turn in record.turns} == {VALID} and all(turn.valid for turn in record.turns)
    spans = dict(zip(stored["responses"].tolist(), stored[fields.SPANS].tolist(), strict=True))
    assert spans[beyond] == Span.NONE


#: As Gemma's: no system role, roles that alternate, other names, a line break behind the end of turn; and an argument.
TEMPLATE = (
    "{{ greeting }}\n{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<|im_start|>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)


def test_a_template_without_system_role_and_its_arguments_give_training_and_evaluation_the_same_prompts(
    tmp_path: Path,
) -> None:
    tokenizer = changed_tokenizer(tmp_path / "tokenizer")
    tokenizer.chat_template = TEMPLATE
    settings = dataclasses.replace(settings_with(STANDARD_TAGS), template={"greeting": "Hello."})
    (tmp_path / "out").mkdir()
    policy, server = Scripted(tokenizer, [VALID] * 3), Scripted(tokenizer, [VALID] * 3)
    record = evaluated(policy, settings, tmp_path / "out")
    trained(server, settings)
    assert policy.asked == server.asked and len(server.asked) == len(record.turns) > 1
    # What the template makes of the whole conversation; `record.messages` holds the prefill in every response.
    system, first, *rest = record.messages[: 2 * len(server.asked)]
    merged = [{"role": "user", "content": f"{system['content']}\n\n{first['content']}"}, *rest]
    whole = tokenizer.apply_chat_template(merged, tokenize=False, add_generation_prompt=True, greeting="Hello.")
    assert tokenizer.decode(server.asked[-1][0]) == f"{whole}<think>"


def test_a_training_run_refuses_a_template_that_cannot_be_played_with_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = changed_tokenizer(tmp_path / "tokenizer")
    tokenizer.chat_template = TEMPLATE.replace("{{ greeting }}", "{{ messages | length }}")
    trainer = object.__new__(EpisodeTrainer)
    trainer.config = OmegaConf.create(
        {
            "actor_rollout_ref": {"model": {"path": str(models.folder("frozenlake") / "model")}},
            "data": {"environment": {"name": "frozenlake"}},
            "algorithm": {},
        }
    )
    monkeypatch.setattr(PortableSyncTrainer, "_init_tokenizer", lambda self: vars(self).update(loaded))
    loaded = {"tokenizer": tokenizer, "processor": None}
    with pytest.raises(ValueError, match="cannot be played with: a prompt that is built turn by turn reads"):
        trainer._init_tokenizer()
    tokenizer.chat_template = TEMPLATE
    trainer.config.data.apply_chat_template_kwargs = {"greeting": "Hello."}
    trainer._init_tokenizer()
