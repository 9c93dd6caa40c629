"""What a training step consists of, in trajectories, and which sizes veRL would refuse only while training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf

from verl_actfocus.config.engines import has_critic, sequence_parallel
from verl_actfocus.config.selection import groups_kept

#: Prompts of an optimizer step.
MINI_BATCH = "actor_rollout_ref.actor.ppo_mini_batch_size"
CRITIC_MINI_BATCH = "critic.ppo_mini_batch_size"


@dataclass(frozen=True)
class Step:
    """One training step, counted in trajectories."""

    #: Trajectories that are played.
    played: int
    #: Trajectories of the groups that are kept.
    kept: int
    #: Trajectories of one optimizer step of the actor.
    mini_batch: int
    #: GPUs of all nodes; on a CPU training processes, which veRL counts as such.
    gpus: int
    #: `cuda` or `cpu`.
    device: str
    #: Trajectories of one optimizer step of the critic; None without one.
    critic_mini_batch: int | None = None

    @classmethod
    def of(cls, config: DictConfig) -> Step:
        """Count what a complete configuration with `algorithm.actfocus` asks for.

        Raises:
            ValueError: a count is no positive integer, or sizes do not fit; the message names them and the remedy.
        """
        group = _count(config, "actor_rollout_ref.rollout.n")
        prompts = _count(config, "data.train_batch_size")
        share = config.algorithm.actfocus.keep_groups
        critic = _count(config, CRITIC_MINI_BATCH) * group if has_critic(config) else None
        step = cls(
            played=prompts * group,
            kept=groups_kept(prompts, share) * group,
            mini_batch=_count(config, MINI_BATCH) * group,
            critic_mini_batch=critic,
            gpus=_count(config, "trainer.n_gpus_per_node") * _count(config, "trainer.nnodes"),
            device=config.trainer.device,
        )
        for setting, mini_batch in ((MINI_BATCH, step.mini_batch), (CRITIC_MINI_BATCH, critic)):
            if mini_batch is not None and mini_batch % step.gpus:
                raise ValueError(
                    f"a mini-batch of {mini_batch} trajectories cannot be shared equally by {step.gpus} GPUs "
                    "(trainer.n_gpus_per_node × trainer.nnodes); choose a number of GPUs that divides it, or change "
                    f"{setting} (in prompts)"
                )
        _check_lengths(config)
        return step

    @property
    def filled(self) -> int:
        """Trajectories of the batch that actor and critic are updated with, veRL's empty ones included.

        veRL fills up to whole mini-batches of both (`_get_required_batch_multiple` in
        `verl/trainer/ppo/v1/trainer_base.py`).
        """
        multiple = math.lcm(self.mini_batch, self.critic_mini_batch or 1)
        return math.ceil(self.kept / multiple) * multiple

    @property
    def updates(self) -> int:
        """Optimizer steps of the actor in one pass over the kept trajectories."""
        return self.filled // self.mini_batch

    def __str__(self) -> str:
        fill = self.filled - self.kept
        where = "CPU process(es)" if self.device == "cpu" else "GPU(s)"
        return (
            f"{self.played} trajectories played, {self.kept} trained on, {self.updates} optimizer step(s) of "
            f"{self.mini_batch} trajectories, {self.mini_batch // self.gpus} on each of {self.gpus} {where}"
            + (f"; veRL fills up with {fill} empty trajectories" if fill else "")
        )


def _count(config: DictConfig, key: str) -> int:
    value = OmegaConf.select(config, key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{key}={value!r} must be a whole number of at least 1")
    return value


def _check_lengths(config: DictConfig) -> None:
    longest = _count(config, "data.max_prompt_length") + _count(config, "data.max_response_length")
    limit = config.actor_rollout_ref.rollout.max_model_len
    if limit is not None and longest > limit:
        raise ValueError(
            f"data.max_prompt_length + data.max_response_length = {longest} tokens exceed "
            f"actor_rollout_ref.rollout.max_model_len={limit}"
        )
    for dynamic, budget, engine in _budgets(config):
        tokens, ranks = OmegaConf.select(config, budget), sequence_parallel(config, engine)
        if OmegaConf.select(config, dynamic) and tokens is not None and tokens * ranks < longest:
            spread = f", on each of the {ranks} GPUs that it is spread over," if ranks > 1 else ""
            raise ValueError(
                f"{budget}={tokens}{spread} is less than one trajectory of {longest} tokens, which cannot be "
                "split; raise it"
            )


def _budgets(config: DictConfig) -> list[tuple[str, str, str]]:
    """Of every pass: what makes its micro-batches by tokens, how many tokens, and its engine."""
    policy, actor = "actor_rollout_ref", "actor_rollout_ref.actor.fsdp_config"
    passes = [
        (f"{policy}.actor.use_dynamic_bsz", f"{policy}.actor.ppo_max_token_len_per_gpu", actor),
        (f"{policy}.rollout.log_prob_use_dynamic_bsz", f"{policy}.rollout.log_prob_max_token_len_per_gpu", actor),
        (
            f"{policy}.ref.log_prob_use_dynamic_bsz",
            f"{policy}.ref.log_prob_max_token_len_per_gpu",
            f"{policy}.ref.fsdp_config",
        ),
    ]
    if has_critic(config):
        # veRL's V1 trainer takes this one for the critic's training too.
        passes.append(("critic.use_dynamic_bsz", "critic.ppo_infer_max_token_len_per_gpu", "critic.fsdp"))
    return passes
