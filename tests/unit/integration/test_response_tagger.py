"""Responses of agent loops that do not tag are tagged afterwards, turn by turn."""

from __future__ import annotations

from importlib.resources import files

import torch
from transformers import AutoTokenizer

from verl_actfocus.episodes import TagSettings
from verl_actfocus.integration.response_tagger import ResponseTagger
from verl_actfocus.weighting import Span


def test_each_turn_of_an_untagged_response_is_tagged_on_its_own():
    tokenizer = AutoTokenizer.from_pretrained(str(files("verl_actfocus") / "models/frozenlake/tokenizer"))

    def encode(text):
        return tokenizer.encode(text, add_special_tokens=False)

    first, second = encode("Go.</think><answer>Right"), encode("So")
    environment = encode("<answer>Up</answer><think>")
    ids = torch.tensor(first + environment + second)
    mask = torch.tensor([1] * len(first) + [0] * len(environment) + [1] * len(second))
    prompt = torch.tensor(encode("Play.<think>"))
    spans = ResponseTagger(tokenizer, TagSettings()).tag(prompt, ids, mask)
    assert spans[len(first) - 1] == Span.ACTION
    assert (spans[len(first) : len(first) + len(environment)] == Span.NONE).all()
    # The answer that the first turn left open does not reach into the second, which begins behind its own prefill.
    assert (spans[-len(second) :] == Span.REASONING).all()


def test_a_turn_that_no_prefill_precedes_is_tagged_without_it():
    tokenizer = AutoTokenizer.from_pretrained(str(files("verl_actfocus") / "models/frozenlake/tokenizer"))

    def encode(text):
        return torch.tensor(tokenizer.encode(text, add_special_tokens=False))

    response = encode("So <answer>Right</answer>")
    spans = ResponseTagger(tokenizer, TagSettings()).tag(encode("Play."), response, torch.ones(len(response)))
    assert (spans == Span.ACTION).sum() >= 1
    assert not (spans == Span.REASONING).any()
