"""Small tokenizers of every family, trained on a few lines of tagged text, for the tests of the tagger."""

import functools

from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

THINK, ANSWER = ("<think>", "</think>"), ("<answer>", "</answer>")
TAGS = [*THINK, *ANSWER]
EOS = "<|im_end|>"
TEXTS = [
    "<think> I should go right, héllo √ . </think> <answer>Right || Down</answer>",
    "I don't know.</think><answer>Up</answer>\n",
    "<answer> Left</answer> <answers> <action>Up</action> < answer>",
    *TAGS,
]
FRAGMENTS = [
    *TAGS,
    *["<answers>", "< answer>", "<action>", "</", "<", ">", "ans", "wer>", "answer>", "think", "thi"],
    *["Right", "Up", " ", "  ", "\n", "||", ".", "I should go", "don't", "🎉", "√", "é", "日本"],
]
texts = st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join)
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]


def byte_level_bpe(use_regex=True):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 20, trainer)
    return tokenizer


def byte_level_bpe_with_tags_as_tokens():
    tokenizer = byte_level_bpe()
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    return tokenizer


def unigram(decoder):
    """SentencePiece style: `▁` for a space, bytes for what the vocabulary lacks."""
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trained.train_from_iterator(
        TEXTS[:1] * 5 + TEXTS, trainers.UnigramTrainer(vocab_size=60, unk_token="<unk>", show_progress=False)
    )
    pieces = [piece for piece in trained.get_vocab() if piece != "<unk>"]
    vocabulary = [("<unk>", 0.0), *((byte, -20.0) for byte in BYTE_TOKENS)]
    vocabulary += [(piece, -1.0 - len(pieces) + len(piece) / 10) for piece in sorted(pieces)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoder
    tokenizer.add_special_tokens(["<unk>"])
    return tokenizer


def sentencepiece_decoder():
    return decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )


def bpe_with_byte_fallback():
    """Llama style: a normalizer writes `▁`, no pre-tokenizer, merges may cross spaces."""
    normalizer = normalizers.Replace(" ", "▁")
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizer
    trained.train_from_iterator(TEXTS * 20, trainers.BpeTrainer(vocab_size=120, show_progress=False))
    pieces = sorted(trained.get_vocab(), key=trained.get_vocab().get)
    letters = [piece for piece in pieces if len(piece) == 1 and (piece.isascii() or piece == "▁")]
    vocabulary = {piece: i for i, piece in enumerate(["<unk>", *BYTE_TOKENS, *letters])}
    merges = []
    for tag in ["</", "an", "answ", "er", "er>", "▁▁", ">▁", "Ri", "Right", ">Right", ".</"]:
        for left in range(len(tag) - 1, 0, -1):
            if tag[:left] in vocabulary and tag[left:] in vocabulary:
                merges.append((tag[:left], tag[left:]))
                vocabulary.setdefault(tag, len(vocabulary))
                break
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizer
    tokenizer.decoder = sentencepiece_decoder()
    tokenizer.add_special_tokens(["<unk>"])
    return tokenizer


def wordpiece(cleanup):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=10_000))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(cleanup=cleanup)
    trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator([*TEXTS, *FRAGMENTS, "".join(FRAGMENTS)] * 5, trainer)
    return tokenizer


FAMILIES = {
    "byte-level BPE": byte_level_bpe,
    "byte-level BPE with merges across words": lambda: byte_level_bpe(use_regex=False),
    "byte-level BPE with tags as tokens": byte_level_bpe_with_tags_as_tokens,
    "Unigram with byte fallback": lambda: unigram(sentencepiece_decoder()),
    "Unigram with a Metaspace decoder": lambda: unigram(
        decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never")])
    ),
    "BPE with byte fallback": bpe_with_byte_fallback,
    "WordPiece": lambda: wordpiece(cleanup=False),
    "WordPiece with cleanup": lambda: wordpiece(cleanup=True),
}


@functools.cache
def tokenizer_of(family):
    tokenizer = FAMILIES[family]()
    tokenizer.add_special_tokens([AddedToken(EOS, normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS)
