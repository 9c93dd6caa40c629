"""Complete veRL configurations for tests."""

from __future__ import annotations

from importlib import import_module


def compose(overrides: list[str]):
    """Compose a complete veRL configuration with this package's groups."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module

    import_module("verl")  # loads the plugin, which tells Hydra where the groups are
    with initialize_config_module("verl.trainer.config", version_base=None):
        return hydra_compose("ppo_trainer", overrides=overrides)
