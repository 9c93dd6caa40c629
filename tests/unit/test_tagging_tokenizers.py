"""Spans of tokens: every kind of tokenizer against a reference that works on the characters of the text.

The reference is the grammar written down with `str.find`, applied to the offsets that a fast tokenizer
reports, and for sequences of tokens that no text encodes to, to the bytes of the byte-level alphabet.
"""

import functools
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from verl_actfocus import Span, SpanTagger
from verl_actfocus.tagging import TokenPieces

from .tokenizer_families import ANSWER, EOS, FAMILIES, FRAGMENTS, TAGS, THINK, texts, tokenizer_of


@functools.cache
def tagger_of(family, **options):
    return SpanTagger(tokenizer_of(family), **options)


def spans_of_characters(text, action=ANSWER, prefill="<think>"):
    """The grammar in terms of `str.find`: one span per character of `text`."""
    whole = prefill + text
    outside = Span.ACTION if action == "rest" else Span.NONE
    spans = [outside] * len(whole)
    pairs = {Span.REASONING: THINK} if action == "rest" else {Span.REASONING: THINK, Span.ACTION: action}
    position = 0
    while True:
        found = [(whole.find(tags[0], position), span) for span, tags in pairs.items()]
        found = [(start, span) for start, span in found if start >= 0]
        if not found:
            return spans[len(prefill) :]
        start, span = min(found)
        opening, closing = pairs[span]
        content = start + len(opening)
        end = whole.find(closing, content)
        stop = len(whole) if end < 0 else end
        position = stop if end < 0 else stop + len(closing)
        spans[start:position] = [Span.NONE] * (position - start)
        spans[content:stop] = [span] * (stop - content)


def spans_by_offsets(family, text, **options):
    """Token ids of a text, and for each the highest span of the characters at its offsets."""
    encoding = tokenizer_of(family)(text, return_offsets_mapping=True, add_special_tokens=False)
    of_character = spans_of_characters(text, **options)
    return encoding["input_ids"], [
        max(of_character[start:end], default=Span.NONE) for start, end in encoding["offset_mapping"]
    ]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("action", [ANSWER, "rest"])
@pytest.mark.parametrize("prefill", ["<think>", ""])
@settings(max_examples=25, deadline=None)
@given(text=texts)
def test_spans_are_those_of_the_characters_at_the_tokens_offsets(family, action, prefill, text):
    ids, expected = spans_by_offsets(family, text, action=action, prefill=prefill)
    assert tagger_of(family, action=action, prefill=prefill).tag(ids) == expected


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=25, deadline=None)
@given(text=texts)
def test_pieces_joined_are_the_decoded_text(family, text):
    tokenizer = tokenizer_of(family)
    ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
    pieces = TokenPieces(tokenizer.backend_tokenizer, special_ids=set(tokenizer.all_special_ids))
    joined = b"".join(part for token_id in ids for part in pieces[token_id]).decode()
    decoded = tokenizer.decode(ids, skip_special_tokens=True)
    if family.startswith("byte-level"):
        assert joined == decoded
    else:  # these may drop the space before the first word of a text
        assert decoded in (joined, joined.removeprefix(" "))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_token_of_the_vocabulary_has_a_piece(family):
    tokenizer = tokenizer_of(family)
    pieces = TokenPieces(tokenizer.backend_tokenizer, special_ids=set(tokenizer.all_special_ids))
    empty = {token_id for token_id in range(len(tokenizer)) if not pieces[token_id].text}
    assert empty == set(tokenizer.all_special_ids)


def test_the_families_cut_tags_and_characters_where_it_hurts():
    """What the other tests rest on: cut tags, cut characters, tokens that reach across a tag's end."""
    tokens = {f: tokenizer_of(f).tokenize("I go.</think><answer>Right √🎉</answer>") for f in FAMILIES}
    assert "</think>" not in tokens["byte-level BPE"]
    assert ".</" in tokens["byte-level BPE"]
    assert "><" in tokens["byte-level BPE"]
    assert ".</think>" in tokens["byte-level BPE with merges across words"]
    assert "er>" in tokens["BPE with byte fallback"]
    assert "##.</think><answer>" in tokens["WordPiece"]
    assert {"<0xF0>", "<0x9F>", "<0x8E>", "<0x89>"} <= set(tokens["Unigram with byte fallback"])
    assert "<answer>" in tokens["byte-level BPE with tags as tokens"]


def byte_level_ids():
    """Any sequence of tokens of the byte-level vocabulary, tags and parts of characters included."""
    tokenizer = tokenizer_of("byte-level BPE with merges across words")
    letters = bytes_to_unicode()
    parts = [*FRAGMENTS, "<answer>Up", "</think>", b"\xf0\x9f", b"\x8e\x89", b"\xe2", b"\x9a", b"\xff"]
    encoded = [part.encode() if isinstance(part, str) else part for part in parts]
    by_bytes = [tokenizer.convert_tokens_to_ids([letters[byte] for byte in part]) for part in encoded]
    by_merges = [tokenizer.encode(part) for part in parts if isinstance(part, str)]
    anything = st.integers(0, len(tokenizer) - 1).map(lambda token_id: [token_id])
    chunk = st.sampled_from(by_bytes + by_merges) | anything
    return st.lists(chunk, max_size=15).map(lambda chunks: [i for chunk in chunks for i in chunk])


def spans_by_bytes(ids, **options):
    """The reference on bytes, written as the characters U+0000 to U+00FF; the tags are ASCII."""
    tokenizer = tokenizer_of("byte-level BPE with merges across words")
    byte_of = {letter: byte for byte, letter in bytes_to_unicode().items()}
    pieces = ["" if token == EOS else token for token in tokenizer.convert_ids_to_tokens(ids)]
    latin = ["".join(chr(byte_of[letter]) for letter in piece) for piece in pieces]
    of_character = iter(spans_of_characters("".join(latin), **options))
    return [max([next(of_character) for _ in piece], default=Span.NONE) for piece in latin]


@pytest.mark.parametrize("action", [ANSWER, "rest"])
@settings(deadline=None)
@given(data=st.data())
def test_any_sequence_of_tokens_cut_off_anywhere_is_tagged_as_its_bytes(action, data):
    ids = data.draw(byte_level_ids())
    cut = data.draw(st.integers(0, len(ids)))
    tagger = tagger_of("byte-level BPE with merges across words", action=action)
    tagged = tagger.tag(ids[:cut])
    assert len(tagged) == cut
    assert tagged == spans_by_bytes(ids[:cut], action=action)


@settings(deadline=None)
@given(data=st.data())
def test_cutting_a_response_changes_only_the_tokens_of_a_tag_that_is_cut(data):
    ids = data.draw(byte_level_ids())
    cut = data.draw(st.integers(0, len(ids)))
    family = "byte-level BPE with merges across words"
    whole, part = tagger_of(family).tag(ids), tagger_of(family).tag(ids[:cut])
    changed = [i for i in range(cut) if whole[i] != part[i]]
    if changed:
        text = tokenizer_of(family).decode(ids[changed[0] : cut], skip_special_tokens=True)
        beginnings = {tag[:length] for tag in TAGS for length in range(1, len(tag))}
        assert any(text.endswith(beginning) for beginning in beginnings)
        assert all(whole[i] == Span.NONE for i in changed)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=15, deadline=None)
@given(text=texts)
def test_the_text_is_that_of_the_tokenizers_own_decoding_leading_space_aside(family, text):
    ids = tokenizer_of(family).encode(text, add_special_tokens=False)
    decoded = tokenizer_of(family).decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert tagger_of(family).read(ids)[0].lstrip(" ") == decoded.lstrip(" ")


def steps_to_tag(tagger, ids):
    """How many lines of the package run."""
    steps = 0

    def trace(frame, event, argument):
        nonlocal steps
        if "verl_actfocus" not in frame.f_code.co_filename:
            return None
        steps += event == "line"
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    tagger.tag(ids)
    sys.settrace(previous)
    return steps


@pytest.mark.parametrize("text", ["Go right. ", "<" * 10, "</thin", "</think><answer>Up</answer><think>"])
def test_the_cost_is_linear_in_the_number_of_tokens(text):
    tokenizer = tokenizer_of("byte-level BPE")
    tagger = SpanTagger(tokenizer)
    short, long = (tokenizer.encode(text * repeats) for repeats in (150, 600))
    tagger.tag(long)  # learns the pieces
    cost_short, cost_long = steps_to_tag(tagger, short), steps_to_tag(tagger, long)
    assert cost_short > len(short)
    assert cost_long / len(long) == pytest.approx(cost_short / len(short), rel=0.02)


def test_words_without_a_decoder_are_separated_by_spaces_that_belong_to_none():
    words = [EOS, "[UNK]", "<think>", "</think>", "<answer>", "</answer>", "go", "Right", "</answer>Right"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, unk_token="[UNK]")
    ids = fast.encode("go </think> go <answer> Right what Right </answer> go </answer>Right")
    names = "".join(span.name[0] for span in SpanTagger(fast).tag(ids))
    assert names == "RNNNANANNN"


def test_a_tag_whose_parts_are_words_of_their_own_is_no_tag():
    words = ["[UNK]", "<", "answer", ">", "Right", "</think>"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_tokens(TAGS)
    ids = tokenizer.encode("</think> < answer > Right").ids
    assert tokenizer.decode(ids) == "</think> < answer > Right"
    assert SpanTagger(tokenizer).tag(ids) == [Span.NONE] * 5
