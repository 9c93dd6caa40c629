"""The one place that knows which veRL this package is written for."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

#: Every claim about veRL in this package was checked against this version; the contract tests repeat it.
SUPPORTED_VERL = "0.9.1"


def require_supported_verl() -> None:
    """Check the installed veRL.

    Raises:
        ImportError: veRL is missing or of another version; the message names both and the remedy.
    """
    try:
        installed = version("verl")
    except PackageNotFoundError as error:
        raise ImportError(
            f"verl_actfocus trains through veRL, which is not installed; pip install 'verl=={SUPPORTED_VERL}'"
        ) from error
    if installed != SUPPORTED_VERL:
        raise ImportError(
            f"verl_actfocus is written for verl {SUPPORTED_VERL}, but {installed} is installed; "
            f"pip install 'verl=={SUPPORTED_VERL}' (veRL's internals change between releases)"
        )
