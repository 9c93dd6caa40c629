"""The package's front door: its public names, and what importing it does not cost."""

import subprocess
import sys

import verl_actfocus

HEAVY = ("verl", "ray", "vllm", "transformers")


def test_importing_the_package_imports_no_training_framework():
    script = f"""
import sys
from verl_actfocus import {", ".join(verl_actfocus.__all__)}
loaded = [name for name in {HEAVY} if name in sys.modules]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_every_public_name_exists_and_the_version_is_set():
    for name in verl_actfocus.__all__:
        assert vars(verl_actfocus)[name] is not None
    assert verl_actfocus.__version__ == "0.1.0"
