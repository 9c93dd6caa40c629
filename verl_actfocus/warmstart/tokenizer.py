"""A small tokenizer for one task: lossless on any text, and short on the text of the task.

Rollouts of a tiny model are bound by the number of tokens, so three layers keep it low. Sentences that the prompts
repeat word for word are found in sample conversations and become one added token each; words, coordinates and
numbers are learnt by byte-level BPE; and every symbol of a grid stays one token, so that a model can look at single
cells. The tags of the response format are ordinary added tokens: they survive `skip_special_tokens=True`, and a
span never begins or ends inside a token.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from verl_actfocus.episodes import STANDARD_TAGS, Message
from verl_actfocus.episodes.tokens import TURN_END

PAD_TOKEN = "<|endoftext|>"
TURN_START = "<|im_start|>"
TAGS = STANDARD_TAGS.tags
ROLES = ("system", "user", "assistant")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# A piece of text is a coordinate, a click, the head of a search, a product id, a word, a number or one other character;
# each may carry the space before it. Two capitals in a row are two pieces: the symbols of a grid are capitals.
_PIECE = (
    r" ?\(\d+, \d+\)| ?row \d+ col \d+| ?click\[[^\]\n]*\]| ?search\[| ?[a-z]{2}\d+"
    r"| ?[A-Za-z]?[a-z]+| ?\d+\.\d+| ?\|\|| ?[^\s]|\s"
)

# What changes from prompt to prompt: coordinates, numbers after a colon, tags, lines made of grid symbols alone (ruled
# lines apart), and what a shop's pages say of options, the wish and products.
_VARIABLE = re.compile(
    r"((?<= \(chosen:) [^)\n]+\): .*$"
    r"| \(\d+, \d+\)| ?row \d+ col \d+|(?<=:) -?\d+(?:\.\d+)?(?![\dx])|</?(?:think|answer)>|^(?!-+$)[^a-z:\n]+$"
    r"|(?<=^Instruction: ).*?(?=, and price lower than |$)|(?<=, and price lower than) [\d.]+"
    r"|^click\[\w+\] .*\$[\d.]+$|(?<=^Page: product )\w+\n.*$|\$\d+\.\d\d(?:, rating [\d.]+)?$)",
    re.MULTILINE,
)
_SHORTEST_PHRASE = 4
_RAREST_PHRASE = 0.005  # share of the messages that hold it


def fixed_phrases(conversations: Sequence[Sequence[Message]]) -> list[str]:
    """Find the passages that the prompts of a task repeat word for word.

    Args:
        conversations: Sample conversations of the task; only their system and user messages are read.

    Returns:
        The phrases, longest first: the system message, and what is left of the user messages between coordinates,
        numbers, tags and grid rows.
    """
    counts: Counter[str] = Counter()
    total = 0
    for message in (message for conversation in conversations for message in conversation):
        if message["role"] == "system":
            counts[message["content"]] += 1
        elif message["role"] == "user":
            counts.update(_VARIABLE.sub("\0", message["content"]).split("\0"))
            total += 1
    frequent = {phrase for phrase, count in counts.items() if count >= _RAREST_PHRASE * total}
    return sorted((phrase for phrase in frequent if len(phrase) >= _SHORTEST_PHRASE), key=lambda p: (-len(p), p))


def build_tokenizer(conversations: Sequence[Sequence[Message]], *, bpe_size: int = 512) -> PreTrainedTokenizerFast:
    """Train a tokenizer on sample conversations of a task.

    Args:
        conversations: Sample conversations: system, user, assistant, user, …
        bpe_size: Entries of the byte-level BPE vocabulary: the special tokens, 256 bytes and the merges. Tags, roles
            and fixed phrases come on top.

    Returns:
        A fast tokenizer with a ChatML template, `<|im_end|>` as end of sequence and `<|endoftext|>` as padding.
        Encoding followed by decoding returns any text unchanged.

    Raises:
        ValueError: If `bpe_size` leaves no room for a single merge, or there are no conversations.
    """
    special_tokens = [PAD_TOKEN, TURN_START, TURN_END]
    if bpe_size <= 256 + len(special_tokens):
        raise ValueError(f"bpe_size is {bpe_size}: it must exceed {256 + len(special_tokens)} (bytes, special tokens)")
    if not conversations:
        raise ValueError("build_tokenizer needs sample conversations of the task, got none")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECE), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=bpe_size,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    phrases = fixed_phrases(conversations)
    backend.train_from_iterator(_learnt_text(conversations, phrases), trainer)
    plain = [*TAGS, *(f"{role}\n" for role in ROLES), *phrases]
    backend.add_tokens([AddedToken(text, normalized=False, special=False) for text in plain])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD_TOKEN,
        eos_token=TURN_END,
        additional_special_tokens=[TURN_START],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def _learnt_text(conversations: Sequence[Sequence[Message]], phrases: Sequence[str]) -> list[str]:
    """What is left for BPE to learn once tags and fixed phrases are cut out."""
    fixed = re.compile("|".join(re.escape(text) for text in (*phrases, *TAGS)))
    texts = [message["content"] for conversation in conversations for message in conversation]
    return [piece for text in texts for piece in fixed.split(text)]
