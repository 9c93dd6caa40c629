"""The shapes of forward passes by which a response does not depend on its company, to the last bit.

Neither on who shares its forward passes nor on the order in which requests arrive. Kernels round differently for other
shapes, so the shapes are chosen such that they do not: passes have whole `ROWS` and `WIDTH`, a prefill is as long as
its own sequence asks for in whole `PREFILL_LENGTH`, and decoding adds whole `DECODE_LENGTH` of positions that weigh
exactly 0. That this is enough is a property of the kernels of one thread (oneMKL's and torch's attention on x86), which
`tests/unit/generation/test_company.py` checks where it runs.
"""

#: Rows of a forward pass come in multiples of this; a product of fewer is another kernel's (a vector times a matrix).
ROWS = 8
#: Tokens of a row that are prefilled come in multiples of this.
WIDTH = 8
#: Positions that a prefill's attention sees come in multiples of this, by the row's own length.
PREFILL_LENGTH = 64
#: Positions that attention sees while decoding come in multiples of this: the width of the widest vector register.
DECODE_LENGTH = 16


def whole(count: int, unit: int) -> int:
    """The least multiple of a unit that is not below a count."""
    return -(-count // unit) * unit
