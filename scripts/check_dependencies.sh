#!/usr/bin/env bash
# Resolves, without installing, every `pip install` that the documentation names, as a reader would: in a fresh environment
# and with the pip that Python brings. Needs network and, where the registry offers no metadata apart, downloads the files
# (several GB for the extra `gpu`). flash-attn is left out: it builds against an installed torch and a CUDA toolkit.
#
# PYTHON=python3.12      interpreter to use
# LIMIT=900              seconds that one resolution may take
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PY="$(find_python python3)"
FRESH="$(mktemp -d)"
trap 'rm -rf "$FRESH"' EXIT
"$PY" -m venv "$FRESH"

failed=0
# shellcheck disable=SC2016
while read -r command; do
    # As words, without the quotes that a shell would take away.
    read -ra words <<<"${command//[\"\']/}"
    SECONDS=0
    if timeout "${LIMIT:-900}" "$FRESH/bin/python" -m pip install --dry-run --ignore-installed "${words[@]:2}" >"$FRESH/log" 2>&1; then
        echo "ok    ${SECONDS}s  $command"
    else
        echo "FAIL  ${SECONDS}s  $command"
        tail -n 20 "$FRESH/log"
        failed=1
    fi
done < <(grep -ohE 'pip install [^`#&)]*[^`#&) ]' README.md CONTRIBUTING.md docs/*.md recipes/README.md .pre-commit-config.yaml |
    grep -v flash-attn | sort -u)
exit "$failed"
