"""The trainer mode `actfocus`: veRL's synchronous V1 trainer with token weights between advantage and update.

`ActFocusTrainer` overrides the steps of `verl/trainer/ppo/v1/trainer_base.py` where something has to be added and
calls veRL's own code for the rest. The weighting says which inputs it needs; which there are, and from which pass, is
the business of `verl_actfocus.weighting.inputs`. What concerns episodes rather than weights is its base
`EpisodeTrainer`'s.

=========================  =============================================================================================
step                       what is added
=========================  =============================================================================================
`_init_resource_pool_mgr`  the reference model, if the weighting needs it
`_balance_batch`         spans are tagged where the rollout did not
`_compute_old_log_prob`  what the weighting needs of the policy before the update
`_compute_ref_log_prob`  what it needs of the reference model
`_compute_advantage`     the base advantages, 0 in groups that GRPO has nothing to compare in, then the token weights
`_update_actor`          what the loss is divided by, unless it is the weights of the mini-batch, and whether the
                         gradient is reported on
=========================  =============================================================================================
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import transfer_queue as tq
from omegaconf import DictConfig, open_dict
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.utils.config import omega_conf_to_dataclass, validate_config

from verl_actfocus.config.compatibility import BASE_ESTIMATORS, TRAINER_MODE, checked_settings
from verl_actfocus.integration import fields, nodes, registration
from verl_actfocus.integration.episode_trainer import EpisodeTrainer
from verl_actfocus.integration.groups import without_level_groups
from verl_actfocus.integration.policy_loss import SKIPPED_METRIC, actfocus_ppo_loss
from verl_actfocus.integration.response_tagger import ResponseTagger
from verl_actfocus.integration.token_batch import fields_to_weight, token_batch, token_rows
from verl_actfocus.integration.trajectories import TRAJECTORIES_METRIC, TrajectoryLog, computed_signals
from verl_actfocus.weighting import TokenBatch, compute_weights, share_metrics
from verl_actfocus.weighting.inputs import ROLLOUT_INPUTS, Model, engine_inputs, rollout_inputs

logger = logging.getLogger(__name__)

#: Metric: 1 for a step without any action token, though the weighting depends on them.
NO_ACTION_METRIC = "actfocus/steps_without_action_tokens"
#: Characters of a response that an error shows.
EXCERPT = 300


def _complete_reference_settings(config: DictConfig) -> None:
    """Give a reference pass that the user did not configure the micro-batch of the policy's own log-prob pass."""
    reference, rollout = config.actor_rollout_ref.ref, config.actor_rollout_ref.rollout
    names = ("log_prob_micro_batch_size", "log_prob_micro_batch_size_per_gpu")
    if reference.log_prob_use_dynamic_bsz or any(reference.get(name) is not None for name in names):
        return
    with open_dict(config):
        for name in names:
            reference[name] = rollout.get(name)


@register_trainer(TRAINER_MODE)
class ActFocusTrainer(EpisodeTrainer):
    """Synchronous PPO or GRPO with token weights (`verl_actfocus.weighting`).

    Args:
        config: a complete veRL configuration with `algorithm.actfocus`.

    Raises:
        ValueError: a setting is out of range or cannot be honoured; the message names it and the remedy.
    """

    def __init__(self, config: DictConfig) -> None:
        registration.verify()
        self.settings = checked_settings(config)
        registration.require_engine(config.actor_rollout_ref.actor.strategy)
        nodes.require_package(config.trainer.nnodes)
        if BASE_ESTIMATORS[config.algorithm.adv_estimator] == "gae" and config.critic.enable is None:
            # veRL enables the critic for the estimator name "gae" only.
            with open_dict(config):
                config.critic.enable = True
            validate_config(config, use_reference_policy=False, use_critic=True)
        super().__init__(config, keep_groups=self.settings.keep_groups)
        if engine_inputs(self.settings.weighting, Model.REFERENCE) and not self.use_reference_policy:
            print(
                f"[actfocus] the weighting '{self.settings.weighting.name}' is computed from the frozen reference "
                "model: its forward pass is switched on (no KL term is added)"
            )
            self.use_reference_policy = True
            _complete_reference_settings(config)
        self._bypass = bool((config.algorithm.get("rollout_correction") or {}).get("bypass_mode", False))
        environment = config.data.get("environment")
        self._trajectories = TrajectoryLog(self.settings.trajectories, environment and environment.name)

    # ---- setup ------------------------------------------------------------------------------------------------

    def _init_resource_pool_mgr(self) -> None:
        with self._reference_requested():
            super()._init_resource_pool_mgr()

    @contextmanager
    def _reference_requested(self) -> Iterator[None]:
        """Let veRL choose the roles as if a KL term asked for the reference model, without adding the term."""
        algorithm = self.config.algorithm
        configured = algorithm.use_kl_in_reward
        algorithm.use_kl_in_reward = configured or self.use_reference_policy
        try:
            yield
        finally:
            algorithm.use_kl_in_reward = configured

    def _setup(self) -> None:
        super()._setup()
        actor_config = omega_conf_to_dataclass(self.config.actor_rollout_ref.actor)
        self.actor_rollout_wg.set_loss_fn(partial(actfocus_ppo_loss, config=actor_config))
        self._tagger = ResponseTagger(self.tokenizer, self.settings.tags)

    # ---- one step ---------------------------------------------------------------------------------------------

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> KVBatchMeta:
        # Afterwards: groups that are not kept need no spans, and padding is there.
        batch = super()._balance_batch(batch, metrics, *args, **kwargs)
        self._ensure_rollout_fields(batch)
        self._fit_padding(batch)
        return batch

    def _ensure_rollout_fields(self, batch: KVBatchMeta) -> None:
        """Tag the responses of agent loops that do not tag while they generate; nothing else can be made up for."""
        wanted = {name: ROLLOUT_INPUTS[name] for name in rollout_inputs(self.settings.weighting)}
        data = self._get(batch, fields.SPANS, *wanted.values())
        missing = [name for name, field in wanted.items() if field not in data]
        if missing:
            raise ValueError(
                f"the weighting {self.settings.weighting.name!r} needs {missing}, which this run's agent loop does not "
                "store; use this package's (+actfocus/env=…), or choose another weighting"
            )
        if fields.SPANS in data:
            return
        data = self._get(batch, "prompts", "responses", "response_mask")
        rows = zip(data["prompts"], data["responses"], data["response_mask"], strict=True)
        spans = [self._tagger.tag(prompt, response, mask) for prompt, response, mask in rows]
        self._put(batch, {fields.SPANS: torch.nested.as_nested_tensor(spans, layout=torch.jagged)})

    def _fit_padding(self, batch: KVBatchMeta) -> None:
        """Give veRL's synthetic rows fields of their own length: they were copied from a real trajectory."""
        keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if tag.get("is_padding", False)]
        if not keys:
            return
        empty = {fields.SPANS: torch.zeros(1, dtype=torch.long)}
        for name in rollout_inputs(self.settings.weighting):
            empty[ROLLOUT_INPUTS[name]] = torch.zeros(1)
        rows = KVBatchMeta(keys=keys, tags=[{}] * len(keys), partition_id=batch.partition_id)
        self._put(
            rows,
            {
                name: torch.nested.as_nested_tensor([value] * len(keys), layout=torch.jagged)
                for name, value in empty.items()
            },
        )

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        with self._inputs_requested(batch, Model.OLD_POLICY):
            return super()._compute_old_log_prob(batch, metrics)

    def _compute_ref_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        with self._inputs_requested(batch, Model.REFERENCE):
            batch = super()._compute_ref_log_prob(batch, metrics)
        # veRL leaves this flag on the batch; the critic's pass, which comes next, would look for adapters of its own.
        batch.extra_info.pop("no_lora_adapter", None)
        return batch

    @contextmanager
    def _inputs_requested(self, batch: KVBatchMeta, model: Model) -> Iterator[None]:
        """Ask the engine for what the weighting needs of this model during its forward pass."""
        batch.extra_info[fields.INPUTS] = ",".join(engine_inputs(self.settings.weighting, model))
        try:
            yield
        finally:
            batch.extra_info.pop(fields.INPUTS)

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        algorithm = self.config.algorithm
        name = algorithm.adv_estimator
        # veRL treats its own estimators by name (values for GAE, several outputs per session for GRPO).
        algorithm.adv_estimator = BASE_ESTIMATORS[name]
        try:
            batch = super()._compute_advantage(batch, metrics)
        finally:
            algorithm.adv_estimator = name
        return self._weight_tokens(batch, metrics)

    def _weight_tokens(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        """Compute the weights: one read and one write for all that changes between advantage and update."""
        weighting = self.settings.weighting
        rewards = "token_level_rewards" if self.config.algorithm.use_kl_in_reward else "rm_scores"
        data = self._get(batch, rewards, *fields_to_weight(weighting, bypass=self._bypass))
        changed = {}
        if BASE_ESTIMATORS[self.config.algorithm.adv_estimator] == "grpo":
            cleared = without_level_groups(batch.keys, data[rewards].unbind(), data["advantages"].unbind())
            if cleared is not None:
                data["advantages"] = torch.nested.as_nested_tensor(cleared, layout=torch.jagged)
                # GRPO's returns are its advantages.
                changed = {"advantages": data["advantages"], "returns": data["advantages"]}
        tokens = token_batch(data, weighting, bypass=self._bypass, by_rows=weighting.reads_rows)
        try:
            weights = compute_weights(weighting, tokens)
        except ValueError:
            # By rows, so that the error names the trajectory.
            compute_weights(weighting, token_batch(data, weighting, bypass=self._bypass, by_rows=True))
            raise
        self._weight_sum = weights.double().sum().item()
        lengths = data["response_mask"].offsets().diff()
        rows = torch.nested.as_nested_tensor(token_rows(weights, lengths), layout=torch.jagged)
        # The returned handle lists the new field; the one passed in would hide it from the update.
        weighted = self._put(batch, {**changed, fields.WEIGHTS: rows})
        self._report_weights(weighted, tokens, weights, lengths, metrics)
        return weighted

    def _report_weights(
        self,
        batch: KVBatchMeta,
        tokens: TokenBatch,
        weights: torch.Tensor,
        lengths: torch.Tensor,
        metrics: dict[str, Any],
    ) -> None:
        weighting = self.settings.weighting
        own = share_metrics(tokens, weights) | weighting.metrics(tokens, weights)
        metrics.update({f"actfocus/{name}": value for name, value in own.items()})
        if "spans" in weighting.needs:
            metrics[NO_ACTION_METRIC] = float(own["action_tokens"] == 0)
            if metrics[NO_ACTION_METRIC]:
                self._report_no_action_token(batch)
        if self._trajectories.wants(self.global_steps):
            signals = computed_signals(weighting, tokens, weights)
            by_row = {name: token_rows(values, lengths) for name, values in signals.items()}
            turns = token_rows(tokens.turns, lengths)
            written = self._trajectories.write(self.global_steps, batch, self._tagger, turns, by_row)
            metrics[TRAJECTORIES_METRIC] = float(written)

    def _report_no_action_token(self, batch: KVBatchMeta) -> None:
        """Say that the weights cannot tell actions from the rest: an error in the first step, later a warning.

        Raises:
            ValueError: in the first step, where the tags and not the model are to blame.
        """
        name, action = self.settings.weighting.name, self.settings.tags.action
        tags = " … ".join(action) if isinstance(action, tuple) else f"none: all that is not reasoning ({action})"
        response = str(self.tokenizer.decode(self._get(batch, "responses")["responses"][0].tolist()))
        message = (
            f"step {self.global_steps}: none of {len(batch)} responses has an action token, so the weighting {name!r} "
            f"has nothing to tell apart; looked for: {tags}; a response begins: {response[:EXCERPT]!r}; set "
            "algorithm.actfocus.tags to what the model writes, or use +actfocus=uniform"
        )
        if self.global_steps == 1:
            raise ValueError(message)
        logger.warning(message)

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        actor = self.config.actor_rollout_ref.actor
        mini_batches = len(batch) // (actor.ppo_mini_batch_size * self.config.actor_rollout_ref.rollout.n)
        if self.settings.normalize_over == "batch":
            batch.extra_info[fields.FIXED_NORMALIZER] = self._weight_sum / mini_batches
        elif self.settings.normalize_over == "micro_batch":
            batch.extra_info[fields.NORMALIZE_MICRO_BATCHES] = True
        if self.settings.gradient_report.due(self.global_steps):
            batch.extra_info[fields.GRADIENT_REPORT] = self.global_steps
        batch = super()._update_actor(batch, metrics)
        # veRL puts "actor/" before the names of everything that the update reports.
        for name in [name for name in metrics if name.startswith("actor/actfocus/")]:
            metrics[name.removeprefix("actor/")] = metrics.pop(name)
        updates = mini_batches * actor.ppo_epochs
        metrics["actfocus/skipped_updates"] = round(metrics.pop(SKIPPED_METRIC) * updates)
        return batch

    def _get(self, batch: KVBatchMeta, *names: str) -> TensorDict:
        """Read fields of a batch; those that it does not have are left out."""
        return tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=list(names))

    def _put(self, batch: KVBatchMeta, values: dict[str, torch.Tensor]) -> KVBatchMeta:
        return tq.kv_batch_put(
            keys=batch.keys, partition_id=batch.partition_id, fields=TensorDict(values, batch_size=len(batch.keys))
        )
