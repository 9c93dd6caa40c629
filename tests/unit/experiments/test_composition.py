"""A run's command line trains exactly what was asked for, and says what cannot be asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from verl_actfocus.experiments.runs import Run, metrics_override

from verl_actfocus.experiments.errors import ExperimentError
from verl_actfocus.experiments.settings import compose_settings, differences, flatten


def make(folder: Path, **values: Any) -> Run:
    defaults = {"algorithm": "grpo", "method": "actfocus", "env": "frozenlake", "seed": 0, "steps": 20}
    return Run(**{**defaults, "folder": folder, **values})


@pytest.mark.parametrize(("algorithm", "estimator"), [("grpo", "actfocus_grpo"), ("ppo", "actfocus_gae")])
def test_the_command_starts_stock_verl_with_estimator_groups_steps_and_folders(
    tmp_path: Path, algorithm: str, estimator: str
) -> None:
    command = make(tmp_path / "r", algorithm=algorithm, method="uniform", env="sokoban", steps=7).command()
    assert command[0] == sys.executable
    assert command[command.index("-m") + 1] == "verl.trainer.main_ppo"
    folder = (tmp_path / "r").resolve()
    expected = {
        f"algorithm.adv_estimator={estimator}",
        "+actfocus=uniform",
        "+actfocus/run=cpu_sokoban",
        "+actfocus/device=cpu",
        "trainer.total_training_steps=7",
        "trainer.resume_mode=auto",
        "trainer.max_actor_ckpt_to_keep=1",
        "trainer.max_critic_ckpt_to_keep=1",
        f"trainer.default_local_dir={folder}/checkpoints",
        f"trainer.validation_data_dir={folder}/evaluations",
        f"algorithm.actfocus.trajectories.folder={folder}/trajectories",
        f"hydra.run.dir={folder}/hydra",
        "trainer.logger=[file]",
    }
    assert expected <= set(command)


def test_the_users_overrides_come_last_so_that_they_win(tmp_path: Path) -> None:
    run = make(tmp_path, extra=("data.train_batch_size=8", "actor_rollout_ref.actor.optim.lr=0.5"))
    assert run.overrides()[-2:] == ["data.train_batch_size=8", "actor_rollout_ref.actor.optim.lr=0.5"]
    assert compose_settings(run)["actor_rollout_ref.actor.optim.lr"] == 0.5


def test_the_seed_reaches_every_seed_of_the_training_and_none_of_the_tasks(tmp_path: Path) -> None:
    settings = compose_settings(make(tmp_path, seed=7))
    seeds = {name: value for name, value in settings.items() if name.endswith("seed") and value is not None}
    elsewhere = {name for name, value in seeds.items() if value != 7}
    # The tasks, the reference and reward models (no randomness), and references to seeds that are set.
    assert {name for name in elsewhere if not str(seeds[name]).startswith("${")} == {
        "data.environment.val_seed",
        "data.environment.train_seed",
        "actor_rollout_ref.ref.fsdp_config.seed",
        "reward.reward_model.rollout.seed",
    }


def test_the_methods_differ_in_nothing_but_alpha_and_beta(tmp_path: Path) -> None:
    uniform = compose_settings(make(tmp_path / "a", method="uniform"))
    actfocus = compose_settings(make(tmp_path / "b", method="actfocus"))
    # He et al. 2026, App. C: α = 0.1, β = 0.5 against α = 1, β = 0.
    assert differences(uniform, actfocus) == [
        "algorithm.actfocus.alpha was 1.0, is 0.1",
        "algorithm.actfocus.beta was 0.0, is 0.5",
    ]


@pytest.mark.parametrize("name", ["with space", "a=b,c", "o'hara", "ünï[1]"])
def test_any_folder_name_survives_hydra(tmp_path: Path, name: str) -> None:
    run = make(tmp_path / name)
    from hydra import compose, initialize_config_dir

    from verl_actfocus.experiments.settings import _verl_config_folder

    with initialize_config_dir(str(_verl_config_folder()), version_base=None):
        overrides = ["hydra.searchpath=[pkg://verl_actfocus.config]", *run.overrides()]
        config = compose("ppo_trainer", overrides=overrides)
    assert config.trainer.default_local_dir == str((tmp_path / name).resolve() / "checkpoints")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"algorithm": "dpo"}, ["'dpo'", "grpo", "ppo"]),
        ({"method": "focus"}, ["'focus'", "actfocus", "uniform"]),
        ({"env": "textworld"}, ["'textworld'", "frozenlake", "webshop"]),
        ({"profile": "gpu_huge"}, ["'gpu_huge'", "cpu_frozenlake"]),
        ({"steps": 0}, ["0 training steps"]),
        ({"seed": -1}, ["seed -1"]),
        ({"extra": ("nonsense",)}, ["'nonsense'", "Hydra override"]),
        ({"extra": ("trainer.total_training_steps=9",)}, ["trainer.total_training_steps", "cannot be overridden"]),
        ({"extra": ("++data.seed=9",)}, ["data.seed", "cannot be overridden"]),
        ({"extra": ("+actfocus=default",)}, ["actfocus", "cannot be overridden"]),
        ({"method": "uniform", "extra": ("algorithm.actfocus.alpha=0.3",)}, ["'uniform' something else"]),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_value_and_the_remedy(
    tmp_path: Path, values: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ValueError) as error:
        make(tmp_path, **values)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_folder_that_hydra_would_misread_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="reference"):
        make(tmp_path / "${oops}")


def test_other_methods_may_change_their_weights(tmp_path: Path) -> None:
    settings = compose_settings(make(tmp_path, extra=("algorithm.actfocus.alpha=0.3",)))
    assert settings["algorithm.actfocus.alpha"] == 0.3


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"profile": "cpu_sokoban"}, "the run profile cpu_sokoban trains sokoban, not frozenlake"),
        ({"profile": "sokoban_grpo"}, "the run profile sokoban_grpo trains sokoban, not frozenlake"),
        ({"profile": "frozenlake_ppo"}, "the run profile frozenlake_ppo is for ppo, not for grpo"),
        (
            {"algorithm": "ppo", "profile": "frozenlake_grpo"},
            "the run profile frozenlake_grpo is for grpo, not for ppo",
        ),
    ],
)
def test_a_profile_of_something_else_is_refused(tmp_path: Path, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ExperimentError, match=words):
        compose_settings(make(tmp_path, **values))


@pytest.mark.parametrize(
    ("values", "changed"),
    [
        ({"extra": ("++trainer={total_training_steps:1}",)}, "trainer.total_training_steps from 20 to 1"),
        ({"extra": ("data={seed:5}",)}, "data.seed from 0 to 5"),
        ({"extra": ("algorithm={adv_estimator:gae}",)}, "algorithm.adv_estimator from 'actfocus_grpo' to 'gae'"),
        ({"extra": ("trainer={default_local_dir:elsewhere}",)}, "trainer.default_local_dir from "),
        ({"extra": ("++data={environment:{name:sokoban}}",)}, "data.environment.name from 'frozenlake' to 'sokoban'"),
        ({"extra": ("+actfocus/env=sokoban",)}, "data.environment.name from 'frozenlake' to 'sokoban'"),
        (
            {"method": "uniform", "extra": ("algorithm.actfocus={alpha:0.3}",)},
            "algorithm.actfocus.alpha from 1.0 to 0.3",
        ),
        ({"method": "uniform", "extra": ("++algorithm={actfocus:{beta:0.5}}",)}, "algorithm.actfocus.beta from 0.0"),
        ({"method": "uniform", "extra": ("algorithm.actfocus={other:0}",)}, "algorithm.actfocus.other from None to 0"),
    ],
)
def test_an_override_that_makes_the_run_another_one_is_named(
    tmp_path: Path, values: dict[str, Any], changed: str
) -> None:
    run = make(tmp_path / "r", **{**values, "extra": ("data.train_batch_size=8", *values["extra"])})
    with pytest.raises(ExperimentError) as error:
        compose_settings(run)
    assert changed in str(error.value) and values["extra"][0] in str(error.value)
    if "actfocus/env" not in values["extra"][0]:
        assert "train_batch_size" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.trian_batch_size=8", "data.trian_batch_size"),
        ("trainer.test_freq=0", "needs evaluations"),
        ("trainer.val_before_train=False", "needs evaluations"),
        ("trainer.test_freq=ten", "trainer.test_freq='ten'.*needs evaluations"),
        ("~trainer.test_freq", "trainer.test_freq=None.*needs evaluations"),
    ],
)
def test_mistakes_show_before_verl_starts(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(ExperimentError, match=words):
        compose_settings(make(tmp_path, extra=(override,)))


def test_where_a_run_is_written_is_not_part_of_its_settings(tmp_path: Path) -> None:
    assert compose_settings(make(tmp_path / "here")) == compose_settings(make(tmp_path / "there"))


def test_flatten_keeps_lists_and_empty_sections_as_values() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": {}}, "e": [1, {"f": 2}]}) == {"a.b.c": 1, "a.d": {}, "e": [1, {"f": 2}]}


def test_the_parent_process_imports_neither_verl_nor_ray() -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from verl_actfocus.experiments import comparison, results, settings, statistics\n"
        "from verl_actfocus.experiments.runs import Run\n"
        "run = Run(algorithm='grpo', method='uniform', env='frozenlake', seed=0, steps=1, folder=Path('somewhere'))\n"
        "settings.compose_settings(run)\n"
        "print(sorted({'verl', 'ray'} & sys.modules.keys()))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("profile", ["", "frozenlake_grpo"])
@pytest.mark.parametrize("name", ["plain", "with space, comma=and 'quotes'"])
def test_metrics_are_written_where_ray_tells_the_trainer_to(tmp_path: Path, profile: str, name: str) -> None:
    """Through Ray, because the trainer of a running cluster does not see the environment of this process."""
    path = tmp_path / name / "metrics-1.jsonl"
    settings = compose_settings(make(tmp_path / "r", profile=profile, extra=(metrics_override(path),)))
    assert settings["ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH"] == str(path)
    assert ("ray_kwargs.ray_init.runtime_env.env_vars.VERL_PLATFORM" in settings) == (profile == "")
