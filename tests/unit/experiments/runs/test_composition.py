"""A run's command line trains exactly what was asked for, and says what cannot be asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from verl_actfocus.experiments.runs import composition
from verl_actfocus.experiments.runs.composed_run import compose_run
from verl_actfocus.experiments.runs.composition import compose, configuration
from verl_actfocus.experiments.runs.hydra_words import metrics_override
from verl_actfocus.experiments.runs.run import Conditions, Run
from verl_actfocus.experiments.runs.weightings import WeightingChoice
from verl_actfocus.storage.errors import ExperimentError
from verl_actfocus.storage.settings import differences, flatten


def make(folder: Path, weighting: str = "actfocus", seed: int = 0, **values: Any) -> Run:
    given = {"profile": "cpu_frozenlake", "algorithm": "grpo", "steps": 20, "folder": folder, **values}
    return Run(conditions=Conditions(**given), weighting=WeightingChoice.parse(weighting), seed=seed)


def settings_of(run: Run) -> dict[str, Any]:
    return compose_run(run).settings


@pytest.mark.parametrize(("algorithm", "estimator"), [("grpo", "actfocus_grpo"), ("ppo", "actfocus_gae")])
def test_the_command_starts_stock_verl_with_estimator_groups_steps_and_folders(
    tmp_path: Path, algorithm: str, estimator: str
) -> None:
    command = make(tmp_path / "r", algorithm=algorithm, weighting="uniform", profile="cpu_sokoban", steps=7).command()
    assert command[0] == sys.executable
    assert command[command.index("-m") + 1] == "verl.trainer.main_ppo"
    folder = (tmp_path / "r/uniform-seed0").resolve()
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
    assert settings_of(run)["actor_rollout_ref.actor.optim.lr"] == 0.5


def test_the_seed_reaches_every_seed_of_the_training_and_none_of_the_tasks(tmp_path: Path) -> None:
    settings = settings_of(make(tmp_path, seed=7))
    seeds = {name: value for name, value in settings.items() if name.endswith("seed") and value is not None}
    elsewhere = {name for name, value in seeds.items() if value != 7}
    # The tasks, the reference and reward models (no randomness), and references to seeds that are set.
    assert {name for name in elsewhere if not str(seeds[name]).startswith("${")} == {
        "data.environment.val_seed",
        "data.environment.train_seed",
        "actor_rollout_ref.ref.fsdp_config.seed",
        "reward.reward_model.rollout.seed",
    }


def test_the_weightings_differ_in_nothing_but_their_section(tmp_path: Path) -> None:
    uniform = settings_of(make(tmp_path / "a", weighting="uniform"))
    actfocus = settings_of(make(tmp_path / "b", weighting="actfocus"))
    # He et al. 2026, App. C: α = 0.1, β = 0.5.
    section = "algorithm.actfocus.weighting"
    assert differences(uniform, actfocus) == [
        f"{section}.alpha was 'absent', is 0.1",
        f"{section}.beta was 'absent', is 0.5",
        f"{section}.eps was 'absent', is 1e-06",
        f"{section}.name was 'uniform', is 'actfocus'",
        f"{section}.other was 'absent', is None",
        f"{section}.signal was 'absent', is 'energy'",
        f"{section}.signal_source was 'absent', is 'reference'",
    ]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"seed": 3, "algorithm": "ppo", "weighting": "uniform"},
        {"profile": "sokoban_grpo", "steps": None, "trial": True},
        {"extra": ("trainer.logger=[console,file]", "+trainer.note=${data.seed}")},
        # What reaches into a run's own settings has the last word, as in the command.
        {"seed": 3, "extra": ("trainer.experiment_name=mine",)},
        {"seed": 3, "extra": ("data={seed:9,train_batch_size:8}",)},
        {"extra": ("~trainer.experiment_name",)},
    ],
    ids=str,
)
def test_what_all_seeds_share_is_read_once_and_the_configuration_is_that_of_the_command(
    tmp_path: Path, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path / "one", **values)
    resolved = [
        OmegaConf.to_container(config, resolve=True) for config in (configuration(run), compose(*run.overrides()))
    ]
    assert resolved[0] == resolved[1]
    if values.get("extra", ("trainer.logger=",))[0].startswith("trainer.logger="):
        monkeypatch.setattr(composition, "hydra_compose", None)  # cannot be called
        assert configuration(make(tmp_path / "two", **{**values, "seed": 8})).data.seed == 8


@pytest.mark.parametrize("name", ["with space", "a=b,c", "o'hara", "ünï[1]", "jürgen"])
def test_any_folder_name_survives_hydra(tmp_path: Path, name: str) -> None:
    config = compose(*make(tmp_path / name).overrides())
    assert config.trainer.default_local_dir == str((tmp_path / name).resolve() / "actfocus-seed0/checkpoints")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"algorithm": "dpo"}, ["'dpo'", "grpo", "ppo"]),
        ({"profile": "gpu_huge"}, ["'gpu_huge'", "cpu_frozenlake"]),
        ({"steps": 0}, ["0 training steps"]),
        ({"seed": -1}, ["seed -1"]),
        ({"extra": ("nonsense",)}, ["'nonsense'", "Hydra override"]),
        ({"extra": ("trainer.total_training_steps=9",)}, ["trainer.total_training_steps", "cannot be overridden"]),
        ({"extra": ("++data.seed=9",)}, ["data.seed", "cannot be overridden"]),
        ({"extra": ("+actfocus=default",)}, ["actfocus", "cannot be overridden"]),
        ({"extra": ("algorithm.actfocus.weighting.alpha=0.3",)}, ["every weighting", "'actfocus alpha=0.3'"]),
        ({"trial": True}, ["cpu_frozenlake", "a trial is made of a recipe"]),
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


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"profile": "cpu_sokoban", "env": "frozenlake"}, "the profile cpu_sokoban trains sokoban, not frozenlake"),
        ({"profile": "sokoban_grpo", "env": "frozenlake"}, "the profile sokoban_grpo trains sokoban, not frozenlake"),
        ({"profile": "frozenlake_ppo"}, "the profile frozenlake_ppo is for ppo, not for grpo"),
        (
            {"algorithm": "ppo", "profile": "frozenlake_grpo"},
            "the profile frozenlake_grpo is for grpo, not for ppo",
        ),
    ],
)
def test_a_profile_of_something_else_is_refused(tmp_path: Path, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ExperimentError, match=words):
        settings_of(make(tmp_path, **values))


@pytest.mark.parametrize(
    ("values", "changed"),
    [
        ({"extra": ("++trainer={total_training_steps:1}",)}, "trainer.total_training_steps from 20 to 1"),
        ({"extra": ("data={seed:5}",)}, "data.seed from 0 to 5"),
        ({"extra": ("algorithm={adv_estimator:gae}",)}, "algorithm.adv_estimator from 'actfocus_grpo' to 'gae'"),
        ({"extra": ("trainer={default_local_dir:elsewhere}",)}, "trainer.default_local_dir from "),
        (
            {"env": "frozenlake", "extra": ("++data={environment:{name:sokoban}}",)},
            "data.environment.name from 'frozenlake' to 'sokoban'",
        ),
        (
            {"env": "frozenlake", "extra": ("+actfocus/env=sokoban",)},
            "data.environment.name from 'frozenlake' to 'sokoban'",
        ),
        (
            {"extra": ("algorithm.actfocus={weighting:{alpha:0.3}}",)},
            "algorithm.actfocus.weighting.alpha from 0.1 to 0.3",
        ),
        (
            {"weighting": "uniform", "extra": ("++algorithm={actfocus:{weighting:{name:actfocus}}}",)},
            "algorithm.actfocus.weighting.name from 'uniform' to 'actfocus'",
        ),
    ],
)
def test_an_override_that_makes_the_run_another_one_is_named(
    tmp_path: Path, values: dict[str, Any], changed: str
) -> None:
    run = make(tmp_path / "r", **{**values, "extra": ("data.train_batch_size=8", *values["extra"])})
    with pytest.raises(ExperimentError) as error:
        settings_of(run)
    assert changed in str(error.value) and values["extra"][0] in str(error.value)
    if "actfocus/env" not in values["extra"][0]:
        assert "train_batch_size" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.trian_batch_size=8", "data.trian_batch_size"),
        ("actor_rollout_ref.rollout.n=0", "rollout.n=0 must be a whole number of at least 1"),
        ("actor_rollout_ref.rollout.n=1", r"rollout\.n=1: actfocus_grpo compares .*rollout\.n to 2 or more"),
        ("trainer.n_gpus_per_node=3", "32 trajectories cannot be shared equally by 3 GPUs"),
        ("trainer.logger=[wandb]", r"trainer.logger=\['wandb'\] lacks file"),
        ("data.environment.name=chess", "unknown environment 'chess'"),
        ("trainer.test_freq=0", "needs evaluations"),
        ("trainer.val_before_train=False", "needs evaluations"),
        ("trainer.test_freq=ten", "trainer.test_freq='ten'.*needs evaluations"),
        ("~trainer.test_freq", "trainer.test_freq=None.*needs evaluations"),
    ],
)
def test_mistakes_show_before_verl_starts(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(ExperimentError, match=words):
        settings_of(make(tmp_path, extra=(override,)))


def test_metrics_may_go_to_other_places_too_which_makes_no_other_run(tmp_path: Path) -> None:
    extra = ("trainer.logger=[console,file,wandb]", "trainer.experiment_name=mine")
    assert settings_of(make(tmp_path, extra=extra)) == settings_of(make(tmp_path))


def test_without_steps_the_configuration_says_how_many(tmp_path: Path) -> None:
    recipe = {"profile": "sokoban_ppo", "algorithm": "ppo", "steps": None}
    # He et al. 2026, App. C: 200 iterations.
    assert compose_run(make(tmp_path, **recipe)).steps == 200
    assert compose_run(make(tmp_path, **recipe, extra=("trainer.total_training_steps=7",))).steps == 7
    assert compose_run(make(tmp_path, **recipe, trial=True)).steps == 2


def test_a_miniature_is_trained_on_a_gpu_where_that_is_asked_for_and_is_another_run_there(tmp_path: Path) -> None:
    here, there = make(tmp_path), make(tmp_path, device="cuda")
    assert (here.environment, there.environment) == ({"VERL_PLATFORM": "cpu"}, {})
    composed = compose_run(there)
    assert composed.settings["trainer.device"] == "cuda" and settings_of(here)["trainer.device"] == "cpu"
    assert composed.settings["actor_rollout_ref.rollout.name"] == "hf_cpu" and composed.attention == "sdpa"
    assert composed.identity()["device"] == "cuda" and "device" not in compose_run(here).identity()
    # What a profile says of its sequences holds on both.
    smollm2 = compose(*make(tmp_path, profile="cpu_smollm2_frozenlake", steps=None, device="cuda").overrides())
    assert smollm2.actor_rollout_ref.rollout.max_num_seqs == 16


def test_a_device_that_is_unknown_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown device 'tpu': choose one of cpu, cuda"):
        make(tmp_path, device="tpu")


def test_where_a_run_is_written_is_not_part_of_its_settings(tmp_path: Path) -> None:
    assert settings_of(make(tmp_path / "here")) == settings_of(make(tmp_path / "there"))


def test_what_the_package_looks_up_is_part_of_the_settings_wherever_it_is_installed(tmp_path: Path) -> None:
    for profile in ({}, {"profile": "frozenlake_grpo", "trial": True}):
        settings = settings_of(make(tmp_path, **profile))
        assert settings["actor_rollout_ref.model.path"] == "verl_actfocus/models/frozenlake/model"
        assert settings["data.environment.kwargs.success_rate"] == 1.0
        assert settings["data.environment.limits.actions_per_turn"] == 2
        assert "${actfocus." not in str(settings)


def test_flatten_keeps_lists_and_empty_sections_as_values() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": {}}, "e": [1, {"f": 2}]}) == {"a.b.c": 1, "a.d": {}, "e": [1, {"f": 2}]}


def test_the_parent_process_imports_neither_verl_nor_ray() -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from verl_actfocus.experiments.execution import launcher\n"
        "from verl_actfocus.experiments.results import run_result, statistics\n"
        "from verl_actfocus.experiments.runs import composition\n"
        "from verl_actfocus.experiments.runs.run import Conditions\n"
        "from verl_actfocus.experiments.runs.weightings import BASELINE\n"
        "conditions = Conditions(algorithm='grpo', profile='cpu_frozenlake', folder=Path('somewhere'))\n"
        "launcher.plan(conditions.runs([BASELINE], [0]))\n"
        "print(sorted({'verl', 'ray'} & sys.modules.keys()))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("profile", ["cpu_frozenlake", "frozenlake_grpo"])
@pytest.mark.parametrize("name", ["plain", "with space, comma=and 'quotes'"])
def test_metrics_are_written_where_ray_tells_the_trainer_to(tmp_path: Path, profile: str, name: str) -> None:
    """Through Ray, because the trainer of a running cluster does not see the environment of this process."""
    path = tmp_path / name / "metrics-1.jsonl"
    settings = settings_of(make(tmp_path / "r", profile=profile, extra=(metrics_override(path),)))
    assert settings["ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH"] == str(path)
    assert ("ray_kwargs.ray_init.runtime_env.env_vars.VERL_PLATFORM" in settings) == (profile == "cpu_frozenlake")
