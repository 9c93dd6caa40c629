"""The package's public names, what importing it does not cost, and the examples of its docstrings."""

import doctest
import subprocess
import sys

import pytest

import verl_actfocus
from verl_actfocus.tagging import grammar, pieces, tagger
from verl_actfocus.weighting import base, loss, signals
from verl_actfocus.weighting.schemes import actfocus

HEAVY = ("verl", "ray", "vllm", "transformers")


def test_importing_the_package_imports_no_training_framework():
    script = f"""
import sys
from verl_actfocus import {", ".join(verl_actfocus.__all__)}
loaded = [name for name in {HEAVY} if name in sys.modules]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_torch_is_imported_with_the_first_name_that_needs_it():
    script = """
import sys
import verl_actfocus
assert "torch" not in sys.modules
from verl_actfocus import Span
assert "torch" in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_every_public_name_exists_and_the_version_is_set():
    for name in verl_actfocus.__all__:
        assert getattr(verl_actfocus, name) is not None
    assert verl_actfocus.__version__ == "0.1.0"
    assert set(dir(verl_actfocus)) == set(verl_actfocus.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    name = "energie"
    with pytest.raises(AttributeError, match="'verl_actfocus' has no attribute 'energie'"):
        getattr(verl_actfocus, name)


@pytest.mark.parametrize("module", [actfocus, base, loss, signals, grammar, pieces, tagger])
def test_the_examples_in_the_docstrings_are_true(module):
    failed, attempted = doctest.testmod(module)
    assert attempted > 0
    assert failed == 0
