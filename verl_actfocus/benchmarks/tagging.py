"""How long the tagger takes for responses of growing length: linear means the same time per token at every length."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import AutoTokenizer

from verl_actfocus.benchmarks.report import markdown_table
from verl_actfocus.benchmarks.statistics import Ratio, Spread, ratio_of_medians
from verl_actfocus.tagging import SpanTagger

#: Seconds of CPU time that one measurement lasts at least: short responses are tagged several times.
LEAST_SECONDS = 0.05
_TURN = "The goal is below and to the right, so moving down is safe.</think><answer>Down</answer><think>"


@dataclass(frozen=True)
class Row:
    """One length."""

    tokens: int
    #: Nanoseconds of CPU time per token.
    nanoseconds: Spread
    #: Time per token over that of the shortest length.
    ratio: Ratio

    @property
    def tokens_per_second(self) -> float:
        """At the median time per token."""
        return 1e9 / self.nanoseconds.median


def measure(lengths: Sequence[int], rounds: int, tokenizer: str) -> tuple[list[Row], float]:
    """Tag responses of every length in turn, round after round.

    Args:
        lengths: tokens of a response, ascending; the first is what the others are compared with.
        rounds: how often each is measured.
        tokenizer: folder or hub name of a tokenizer.

    Returns:
        A row for each length, and the exponent `k` of the fit "time grows as length to the power of k".
    """
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    tagger = SpanTagger(loaded)
    turn = loaded.encode(_TURN, add_special_tokens=False)
    responses = [(turn * (-(-length // len(turn))))[:length] for length in lengths]
    tagger.tag(responses[0])  # fills the tagger's table of tokens
    seconds: list[list[list[float]]] = [[] for _ in responses]
    for _ in range(rounds):
        for measured, response in zip(seconds, responses, strict=True):
            measured.append([_per_token(tagger, response)])
    rows = [
        Row(length, Spread.of([1e9 * one[0] for one in measured]), ratio_of_medians(measured, seconds[0]))
        for length, measured in zip(lengths, seconds, strict=True)
    ]
    return rows, exponent(lengths, [row.nanoseconds.median * row.tokens for row in rows])


def exponent(lengths: Sequence[int], times: Sequence[float]) -> float:
    """Return the slope of time over length, both as logarithms: 1 where time is proportional to length.

    Example:
        >>> round(exponent([1, 10, 100], [3, 300, 30000]), 6)
        2.0
    """
    return float(np.polyfit(np.log(lengths), np.log(times), 1)[0]) if len(lengths) > 1 else float("nan")


def markdown(rows: Sequence[Row], power: float) -> str:
    """Write the rows as a table."""
    table = markdown_table(
        ["tokens", "tokens/s", "ns/token, median (least)", "time per token against the shortest"],
        [
            [
                f"{row.tokens:,}",
                f"{row.tokens_per_second:,.0f}",
                f"{row.nanoseconds.median:.0f} ({row.nanoseconds.least:.0f})",
                str(row.ratio),
            ]
            for row in rows
        ],
    )
    return f"{table}\n\nCPU time grows as length to the power of {power:.2f}."


def _per_token(tagger: SpanTagger, response: Sequence[int]) -> float:
    """CPU seconds per token: whatever else runs on the machine does not count."""
    done, began = 0, time.process_time()
    while (seconds := time.process_time() - began) < LEAST_SECONDS:
        tagger.tag(response)
        done += len(response)
    return seconds / done
