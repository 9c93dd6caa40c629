"""The tokenizer: lossless on anything, short on its task, tags and cells one token each."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from verl_actfocus.envs.demonstrations import Miniature
from verl_actfocus.episodes.tokens import ChatML, conversation
from verl_actfocus.warmstart.demonstrations import Demonstration
from verl_actfocus.warmstart.tokenizer import TAGS, build_tokenizer, fixed_phrases


@given(text=st.text(max_size=60))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_survives_encoding_and_decoding(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_conversations_survive_encoding_and_decoding(
    tokenizer: PreTrainedTokenizerFast, demonstrations: list[Demonstration]
) -> None:
    for one in demonstrations[:50]:
        text = str(tokenizer.apply_chat_template(one.messages, tokenize=False))
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_each_tag_is_one_token_that_survives_skipping_special_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    for tag in TAGS:
        ids = tokenizer.encode(f"x{tag}y", add_special_tokens=False)
        assert len(ids) == 3
        assert tokenizer.decode(ids, skip_special_tokens=True) == f"x{tag}y"
    end = tokenizer.encode("x<|im_end|>", add_special_tokens=False)
    assert end[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(end, skip_special_tokens=True) == "x"


def test_no_token_holds_a_tag_and_something_else(tokenizer: PreTrainedTokenizerFast) -> None:
    for token in tokenizer.get_vocab():
        assert token in TAGS or not any(tag in token for tag in TAGS)


def test_every_grid_symbol_and_every_line_break_between_rows_is_one_token(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    for grid in ("P_OG\n____\nO__X", "#_OXPS\nPPPPPP"):
        assert len(tokenizer.encode(grid, add_special_tokens=False)) == len(grid)


@pytest.mark.parametrize("task", ["frozenlake", "sokoban"], indirect=True)
def test_coordinates_and_directions_are_one_token_in_reasoning_and_answer_alike(
    tokenizer: PreTrainedTokenizerFast, demonstrations: list[Demonstration]
) -> None:
    right, separator, down = tokenizer.encode(" Right || Down", add_special_tokens=False)
    assert tokenizer.encode(" Right", add_special_tokens=False) == [right]
    assert tokenizer.encode(" Down", add_special_tokens=False) == [down]
    assert len({right, separator, down}) == 3
    texts = [message["content"] for one in demonstrations for message in one.messages[2::2]]
    coordinates = set(re.findall(r" \(\d, \d\)", "".join(texts)))
    assert len(coordinates) == 16, "four by four cells are in play in both tasks"
    assert all(len(tokenizer.encode(cell, add_special_tokens=False)) == 1 for cell in coordinates)


@pytest.mark.parametrize("task", ["sudoku"], indirect=True)
def test_a_place_of_a_sudoku_is_one_token_in_hints_reasoning_and_answer(
    task: Miniature, tokenizer: PreTrainedTokenizerFast
) -> None:
    ids = set()
    for place in (f"row {row} col {column}" for row in range(1, 5) for column in range(1, 5)):
        (hint, _, _) = tokenizer.encode(f"{place}: 3", add_special_tokens=False)
        (spoken,) = tokenizer.encode(f" {place}", add_special_tokens=False)
        assert tokenizer.encode(f" place 3 at {place}", add_special_tokens=False)[-1] == spoken
        ids |= {hint, spoken}
    assert len(ids) == 32
    assert len(tokenizer.encode(" place 3 at row 1 col 2", add_special_tokens=False)) == 4


@pytest.mark.parametrize("task", ["frozenlake", "sokoban", "sudoku"], indirect=True)
def test_prompts_and_responses_are_short(
    task: Miniature, tokenizer: PreTrainedTokenizerFast, demonstrations: list[Demonstration]
) -> None:
    encoder = ChatML(tokenizer, "<think>")
    rows = re.findall(r"(?m)^[^a-z:\n]+$", demonstrations[0].messages[1]["content"])
    cells = len("\n".join(rows))  # one token per symbol and per line break
    initial = [len(encoder.first(one.messages[:2])) for one in demonstrations]
    later = [message for one in demonstrations for message in one.messages[3::2]]
    following = [len(encoder.following([encoder.turn_end_id], [], message)) for message in later]
    response = [len(encoder.response(message["content"])) for one in demonstrations for message in one.messages[2::2]]
    assert max(initial) <= cells + 64
    assert sum(following) / len(following) <= cells + 35
    assert 25 <= sum(response) / len(response) <= 40
    assert max(response) <= task.limits.response_tokens


@pytest.mark.parametrize("task", ["webshop"], indirect=True)
def test_a_shopping_episode_is_short_although_every_page_repeats_the_instruction(
    task: Miniature, tokenizer: PreTrainedTokenizerFast, demonstrations: list[Demonstration]
) -> None:
    encoder = ChatML(tokenizer, "<think>")
    lengths = [len(conversation(encoder, one.messages)[0]) for one in demonstrations]
    assert sum(lengths) / len(lengths) <= 550 and max(lengths) <= 750
    responses = [message["content"] for one in demonstrations for message in one.messages[2::2]]
    tokens = [len(encoder.response(text)) for text in responses]
    assert 20 <= sum(tokens) / len(tokens) <= 30 and max(tokens) <= task.limits.response_tokens


@pytest.mark.parametrize("task", ["webshop"], indirect=True)
def test_a_product_or_an_option_is_the_same_tokens_on_the_page_and_in_the_answer(
    tokenizer: PreTrainedTokenizerFast, demonstrations: list[Demonstration]
) -> None:
    copied = 0
    for one in demonstrations:
        for page, answer in zip(one.messages[1::2], one.messages[2::2], strict=True):
            text = answer["content"].partition("<answer>")[2].removesuffix("</answer>")
            # Buttons stand in a line of their own, which is one token.
            lines = [line for line in page["content"].splitlines() if "click[back to search]" not in line]
            if "click[" in text and text in "\n".join(lines):
                ids = tokenizer.encode(text, add_special_tokens=False)
                on_page = tokenizer.encode(page["content"], add_special_tokens=False)
                assert any(on_page[at : at + len(ids)] == ids for at in range(len(on_page)))
                assert len(ids) <= 4
                copied += 1
    assert copied > 100


def test_fixed_phrases_are_the_rules_and_the_unchanging_parts_of_the_user_messages(
    demonstrations: list[Demonstration],
) -> None:
    phrases = fixed_phrases([one.messages for one in demonstrations])
    assert phrases[0] == demonstrations[0].messages[0]["content"]
    users = [message["content"] for one in demonstrations for message in one.messages if message["role"] == "user"]
    for phrase in phrases[1:]:
        assert not re.search(r"\(\d, \d\)|</?(think|answer)>|: \d+$", phrase)
        assert any(phrase in user for user in users)
    assert any("Actions left:" in phrase for phrase in phrases)
    assert any("words." in phrase for phrase in phrases)


def test_building_twice_gives_the_same_tokenizer(
    task: Miniature, tokenizer: PreTrainedTokenizerFast, demonstrations: list[Demonstration]
) -> None:
    again = build_tokenizer([one.messages for one in demonstrations], bpe_size=task.vocabulary)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_another_process_loads_the_same_tokenizer_through_auto_tokenizer(
    small_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    small_tokenizer.save_pretrained(tmp_path)
    text = "<|im_start|>user\nP_O\n (1, 2) √ Grüße<|im_end|>"
    code = (
        "import sys; from transformers import AutoTokenizer; t = AutoTokenizer.from_pretrained(sys.argv[1]); "
        "ids = t.encode(sys.argv[2], add_special_tokens=False); "
        "print(ids, t.eos_token_id, t.pad_token_id, t.decode(ids) == sys.argv[2], "
        "t.apply_chat_template([{'role': 'user', 'content': 'a'}], tokenize=False, add_generation_prompt=True))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), text], capture_output=True, text=True, check=True)
    ids = small_tokenizer.encode(text, add_special_tokens=False)
    prompt = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    assert done.stdout == f"{ids} {small_tokenizer.eos_token_id} {small_tokenizer.pad_token_id} True {prompt}\n"


@pytest.mark.parametrize(("arguments", "word"), [({"bpe_size": 259}, "bpe_size"), ({}, "conversations")])
def test_a_tokenizer_without_merges_or_text_is_refused(arguments: dict[str, int], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        build_tokenizer([], **arguments)
