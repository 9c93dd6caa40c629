"""Spans of tokens: the grammar of tags and the rule for tokens that straddle them, case by case.

The tokenizer of each test has exactly the tokens that its case is written in.
"""

import pickle

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from verl_actfocus import Span, SpanTagger

N, R, A = Span.NONE, Span.REASONING, Span.ACTION
EOS = "<|im_end|>"


def byte_level(pieces, tokens=(), special=(EOS,)):
    """A byte-level tokenizer with a token for each byte and each piece (str or bytes), and added tokens."""
    letters = bytes_to_unicode()
    written = ["".join(letters[byte] for byte in as_bytes(piece)) for piece in pieces]
    words = dict.fromkeys([*letters.values(), *written])
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in tokens])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return tokenizer


def as_bytes(piece):
    return piece.encode() if isinstance(piece, str) else piece


def id_of(tokenizer, piece):
    added = tokenizer.token_to_id(piece) if isinstance(piece, str) else None
    letters = bytes_to_unicode()
    return added if added is not None else tokenizer.token_to_id("".join(letters[b] for b in as_bytes(piece)))


def check(pieces, letters, tokens=(), special=(EOS,), **options):
    """Each piece, one token, must have the span of its letter: N(one), R(easoning), A(ction)."""
    tokenizer = byte_level([p for p in pieces if p not in (*tokens, *special)], tokens, special)
    tagger = SpanTagger(tokenizer, **options)
    spans = tagger.tag([id_of(tokenizer, piece) for piece in pieces])
    assert list(zip(pieces, (span.name[0] for span in spans), strict=True)) == list(zip(pieces, letters, strict=True))


def test_a_whole_response():
    check(["I", " go", "</think>", " ", "<answer>", "Right", "</answer>", EOS], "RRNNNANN")


def test_tags_cut_into_several_tokens_are_tags():
    check(["I", "</", "think", ">", "<", "ans", "wer>", "Up", "</", "answer", ">"], "RNNNNNNANNN")


def test_a_token_that_merges_content_with_a_tag_is_content():
    check(["I", ".</", "think", "><", "answer", ">Right", ".</", "answer", ">\n"], "RRNNNAANN")


def test_a_token_with_the_end_of_reasoning_and_the_beginning_of_the_action_is_action():
    check(["I go", "!</think><answer>Up", "</answer>"], "RAN")


def test_a_whole_response_in_one_token_is_action():
    check(["I go</think><answer>Up</answer>"], "A")
    check(["I go</think><answer></answer>"], "R")
    check(["</think><answer></answer>"], "N")


def test_a_response_cut_off_inside_a_span_counts():
    check(["I", " go"], "RR")
    check(["</think>", "<answer>", "Right", " ||"], "NNAA")


def test_text_outside_any_span_is_neither():
    check(["Go", " Right", EOS], "NNN", prefill="")
    check(["I</think>", " so ", "<answer>Up</answer>", " done"], "RNAN")


def test_every_answer_counts():
    check(["</think>", "<answer>", "Up", "</answer>", " or", "<answer>", "Down", "</answer>"], "NNANNNAN")


def test_several_blocks_of_reasoning():
    check(["a", "</think>", "<think>", "b", "</think>"], "RNNRN")


def test_an_answer_quoted_in_the_reasoning_is_reasoning():
    check(["write", "<answer>", "Up", "</answer>", "</think>", "<answer>", "Up"], "RRRRNNA")


def test_reasoning_quoted_in_the_answer_is_action_and_so_is_a_nested_opening_tag():
    check(["</think>", "<answer>", "<think>", "x", "</think>", "<answer>", "</answer>", "x"], "NNAAAANN")


def test_an_empty_block_has_no_content():
    check(["</think>", "<answer>", "</answer>"], "NNN")
    check(["<think>", "</think>", "<answer></answer>"], "NNN", prefill=None)


def test_whitespace_is_content_inside_a_span_and_nothing_outside():
    check([" ", "\n\n", "</think>", "\n\n", "<answer>", " ", "</answer>", " "], "RRNNNANN")


@pytest.mark.parametrize(
    "lookalike", ["<answers>", "< answer>", "<Answer>", "<answer >", "</answer>", "answer>", "<\nanswer>"]
)
def test_what_only_looks_like_an_opening_tag_opens_nothing(lookalike):
    check(["</think>", lookalike, "Up"], "NNN")


@pytest.mark.parametrize("lookalike", ["</answers>", "</ answer>", "</ANSWER>", "<answer/>", "</think>"])
def test_what_only_looks_like_a_closing_tag_closes_nothing(lookalike):
    check(["</think><answer>", lookalike, "Up"], "NAA")


def test_a_tag_that_begins_in_a_broken_tag_is_found():
    check(["</think>", "<<answer>", "Up", "</ans</answer>", "x"], "NNAAN")
    check(["</think>", "<ans", "<answer>", "</</", "answer>", "x"], "NNNANN")


def test_a_partial_tag_at_the_end_is_content_of_the_open_span():
    check(["I", "</", "thi"], "RRR")
    check(["</think><answer>Up", "</", "answer"], "AAA")
    check(["</think>", "<ans", "wer"], "NNN")


def test_characters_cut_over_tokens_are_content_in_every_part():
    check([b"\xe2\x88", b"\x9a</think>", "<answer>", b"\xf0", b"\x9f", b"\x8e", b"\x89", "</"], "RRNAAAAA")


def test_a_part_of_a_character_merged_with_a_tag_is_content():
    check(["</think>", b"<answer>\xf0\x9f", b"\x8e\x89</answer>", " "], "NAAN")


def test_tags_outside_ascii_cut_inside_a_character():
    options = {"action": ("«", "»"), "prefill": ""}
    check([b"\xc2", b"\xab", "Up", b"\xc3", b"\xa9", b"\xc2", b"\xbb", "x"], "NNAAANNN", **options)
    check([b"\xc2", b"\xaa", "Up"], "NNN", **options)  # "ª" shares its first byte with the tag


@pytest.mark.parametrize("tags", [("<action>", "</action>"), ("<tool_call>", "</tool_call>"), ("```act\n", "\n```")])
def test_other_tag_styles(tags):
    check(["a", "</think>", tags[0], "Up", tags[1], "b"], "RNNANN", action=tags)
    check(
        ["</think>", tags[0][:3], tags[0][3:] + "U", "p" + tags[1][:2], tags[1][2:]],
        "NNAAN",
        action=tags,
    )


@pytest.mark.parametrize("kind", ["tokens", "special"])
def test_tags_that_are_tokens_of_the_vocabulary(kind):
    tags = ("<think>", "</think>", "<tool_call>", "</tool_call>")
    added = {"tokens": tags} if kind == "tokens" else {"special": (EOS, *tags)}
    pieces, letters = ["a", "</think>", "\n", "<tool_call>", "{", "}", "</tool_call>", EOS], "RNNNAANN"
    check(pieces, letters, action=("<tool_call>", "</tool_call>"), **added)
    check(["<think>", *pieces], "N" + letters, action=("<tool_call>", "</tool_call>"), prefill="", **added)


def test_everything_that_is_not_reasoning_can_be_the_action():
    check(["a", ".</", "think", ">", "\n", "Up", EOS], "RRNNAAN", action="rest")
    check(["Up", "<think>", "b", "</think>", " Up<", "thi"], "ANRNAA", action="rest", prefill="")
    check(["Up", "<answer>", "</think>"], "AAA", action="rest", prefill="")


def test_special_tokens_carry_no_content_inside_a_span_and_do_not_end_it():
    check(["a", EOS, "b", "</think>", "<answer>", EOS, "Up", EOS], "RNRNNNAN")
    check(["a</th", EOS, "ink>", "b"], "RNNN")


def test_prefill_is_read_before_the_response_and_has_no_tokens():
    check(["Up"], "A", prefill="<think>no idea</think><answer>")
    check(["Up"], "N", prefill="<think>no idea</think>")
    check(["ink>", "a", "</think>"], "NRN", prefill="<th")
    check(["<think>"], "R", prefill="<think>")


def test_an_empty_response_has_no_tokens():
    assert SpanTagger(byte_level([])).tag([]) == []


def test_text_and_spans_come_from_one_reading_of_the_tokens():
    tokenizer = byte_level(
        ["I", "Up", b"\xe2\x88", b"\x9a"], tokens=["</think>"], special=(EOS, "<answer>", "</answer>")
    )
    pieces = ["I", b"\xe2\x88", b"\x9a", "</think>", "<answer>", "Up", EOS, "</answer>", EOS]
    text, spans = SpanTagger(tokenizer).read([id_of(tokenizer, piece) for piece in pieces])
    # Special tokens have no text, unless they are the tags that are looked for.
    assert text == "I√</think><answer>Up</answer>"
    assert "".join(span.name[0] for span in spans) == "RRRNNANNN"


def test_a_character_that_was_cut_off_is_shown_as_such():
    tokenizer = byte_level([b"\xf0\x9f"])
    assert SpanTagger(tokenizer).read([id_of(tokenizer, b"\xf0\x9f")]) == ("\ufffd", [R])


def test_ids_may_come_from_numpy_and_torch():
    tokenizer = byte_level(["Up"])
    ids = [id_of(tokenizer, "Up")] * 2
    for container in (np.array(ids), torch.tensor(ids), tuple(ids), iter(ids)):
        assert SpanTagger(tokenizer).tag(container) == [R, R]


def test_a_tagger_survives_being_sent_to_another_process():
    tokenizer = byte_level(["Up", "</think>"])
    tagger = pickle.loads(pickle.dumps(SpanTagger(PreTrainedTokenizerFast(tokenizer_object=tokenizer))))
    assert tagger.tag([id_of(tokenizer, "Up"), id_of(tokenizer, "</think>")]) == [R, N]


def test_an_id_beyond_the_vocabulary_has_no_text_and_no_span():
    tokenizer = byte_level(["Up"])  # embeddings are padded, so a model can sample what no tokenizer knows
    up = id_of(tokenizer, "Up")
    assert SpanTagger(tokenizer).read([up, len(tokenizer.get_vocab()), 10**6, up]) == ("UpUp", [R, N, N, R])


@pytest.mark.parametrize("token_id", [-100, -1])
def test_a_negative_id_is_named(token_id):
    with pytest.raises(ValueError, match=rf"token id {token_id} is negative"):
        SpanTagger(byte_level([])).tag([0, token_id])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action": ("<a>", "<a>")}, "all tags must differ.*'<a>', '<a>'"),
        ({"action": ("<think>", "</answer>")}, "all tags must differ"),
        ({"action": ("</think>", "</answer>")}, "all tags must differ"),
        ({"reasoning": ("<answer", "</think>")}, "'<answer>' can never be read because '<answer' begins it"),
        ({"action": ("", "</answer>")}, "action must be a pair of non-empty strings"),
        ({"action": ("<answer>",)}, r"action must be a pair.*\('<answer>',\)"),
        ({"action": ("<a>", 3)}, "action must be a pair"),
        ({"action": "<answer>"}, "or 'rest' for all text that is not reasoning, got '<answer>'"),
        ({"action": None}, "action must be a pair.*None"),
        ({"reasoning": "rest"}, "reasoning must be a pair.*'rest'"),
        ({"reasoning": None}, "reasoning must be a pair.*None"),
    ],
)
def test_tags_that_can_be_confused_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SpanTagger(byte_level([]), **options)


@pytest.mark.parametrize("tokenizer", [ByT5Tokenizer(), None, "gpt2"])
def test_anything_but_a_fast_tokenizer_is_refused(tokenizer):
    with pytest.raises(TypeError, match=r"fast tokenizer.*got (transformers\.|builtins\.)"):
        SpanTagger(tokenizer)


def test_a_tag_that_the_tokenizer_cannot_write_is_refused():
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "<": 1, ">": 2, "/": 3, "think": 4, "answer": 5}, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    with pytest.raises(ValueError, match=r"turns the tag '<think>' into ' < think >'.*add_tokens"):
        SpanTagger(words)
    words.add_tokens(["<think>", "</think>", "<answer>", "</answer>"])
    SpanTagger(words)


def test_a_decoder_that_cannot_be_understood_is_refused():
    tokenizer = byte_level(["Up"])
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("U", "V")])
    with pytest.raises(ValueError, match=r"writes b'Up' as 'Vp'.*not supported"):
        SpanTagger(tokenizer).tag([id_of(tokenizer, "Up")])
