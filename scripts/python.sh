#!/usr/bin/env bash
# Which interpreter the other scripts use; sourced by them.

# The release of an interpreter, such as 3.11; nothing if it does not run.
python_release() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

# Prints the interpreter that PYTHON names, or else the first supported one of the arguments and of the PATH.
find_python() {
    local candidate release
    if [ -n "${PYTHON:-}" ]; then
        release="$(python_release "$PYTHON")"
        case "$release" in
        3.11 | 3.12) echo "$PYTHON" ;;
        "") refuse_python "does not run" ;;
        *) refuse_python "is Python $release" ;;
        esac
        return
    fi
    for candidate in "$@" python3.11 python3.12 python3; do
        case "$(python_release "$candidate")" in 3.11 | 3.12) echo "$candidate" && return ;; esac
    done
    echo "setup: found no Python 3.11 or 3.12; install one or name it: PYTHON=/path/to/python" >&2
    return 1
}

refuse_python() {
    echo "setup: PYTHON=$PYTHON $1; give the path of a Python 3.11 or 3.12, or unset PYTHON to have one looked for" >&2
    return 1
}
