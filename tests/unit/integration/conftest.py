"""Importing veRL on a machine without an accelerator needs the CPU platform named first."""

import os

os.environ.setdefault("VERL_PLATFORM", "cpu")
