"""veRL's way in: loading this module registers the package.

veRL loads it in every process through the entry point `verl.plugins` (`verl/__init__.py`); importing it *is*
registering. Nothing registered here changes a run that does not ask for it by name: names are added, and the engines
that take stock engines' places add outputs only when a batch asks for them. Four things differ in every run: these
engines draw new weights from their seed and give a critic the attention that its configuration names
(`verl_actfocus.integration.building`), find LoRA's adapters where veRL finds none (`…adapters`), and keep less for the
backward pass of an entropy in chunks, whose gradient differs by rounding (`…entropy`).

A plugin that fails to load is logged by veRL at DEBUG level only. `registration.verify` turns that into an error: the
trainer, the command line and the tests call it.
"""

from __future__ import annotations

import sys
from importlib import import_module

from verl_actfocus.integration.versions import require_supported_verl

try:
    require_supported_verl()
    # The platform before everything else: importing the others asks veRL for the device, which must find
    # VERL_PLATFORM=cpu registered. Trainer and agent loop register themselves too.
    for name in ("cpu.platform", "trainer", "agent_loop"):
        import_module(f"verl_actfocus.integration.{name}")
    import_module("verl_actfocus.integration.registration").register()
except Exception as error:  # any: veRL logs the failure of a plugin at DEBUG level only, and goes on without it
    print(f"[actfocus] not loaded into veRL: {type(error).__name__}: {error}", file=sys.stderr)
    raise
