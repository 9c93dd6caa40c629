#!/usr/bin/env bash
# What the scripts that install something have in common: which interpreter, and a virtual environment of it; sourced by them.
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"

# Finds the interpreter for the environment $1 and puts it into PY; refuses an environment that was made with another one.
check_environment() {
    PY="$(find_python "$1/bin/python")"
    if [ -e "$1/bin/python" ] && [ "$(python_release "$1/bin/python")" != "$(python_release "$PY")" ]; then
        echo "setup: $1 was made with another Python than $PY ($(python_release "$PY"));" \
            "remove that folder or choose another: VENV=/path" >&2
        return 1
    fi
}

# Makes the environment $1, or what is missing of it, with the interpreter in PY.
make_environment() {
    "$1/bin/python" -m pip --version >/dev/null 2>&1 || "$PY" -m venv "$1"
    "$1/bin/python" -m pip install --quiet --upgrade "pip<27" "setuptools>=77" wheel
}
