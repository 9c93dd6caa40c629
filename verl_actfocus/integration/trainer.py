"""The trainer mode ``actfocus``: veRL's synchronous V1 trainer with token weights between advantage and update.

`ActFocusTrainer` overrides the steps of ``verl/trainer/ppo/v1/trainer_base.py`` where something has to be added and
calls veRL's own code for the rest. What concerns episodes rather than weights is its base `EpisodeTrainer`'s.

=========================  =============================================================================================
step                       what is added
=========================  =============================================================================================
``_init_resource_pool_mgr``  the reference model, if the signal needs one
``_balance_batch``         spans are tagged where the rollout did not
``_compute_old_log_prob``  log-probabilities at temperature 1, if the signal needs them
``_compute_ref_log_prob``  the reference model's energy (or entropy, log-probability) of every token
``_compute_advantage``     the base advantages, then the token weights
``_update_actor``          what the loss is divided by, unless it is the weights of the mini-batch
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
from verl.workers.utils.padding import response_from_nested, response_to_nested

from verl_actfocus.integration import fields
from verl_actfocus.integration.episode_trainer import EpisodeTrainer
from verl_actfocus.integration.policy_loss import SKIPPED_METRIC, actfocus_ppo_loss
from verl_actfocus.integration.settings import BASE_ESTIMATORS, TRAINER_MODE, ActFocusSettings, check_compatible
from verl_actfocus.integration.trajectories import TrajectoryLog
from verl_actfocus.integration.weighting import ResponseTagger, compute_weights, weight_metrics
from verl_actfocus.weighting import SIGNALS

logger = logging.getLogger(__name__)

#: Engine output → field of the batch that `verl_actfocus.weighting.compute_signal` knows.
_REFERENCE_OUTPUTS = {
    "ref_energy": fields.ENERGY,
    "ref_entropy": fields.ENTROPY,
    "ref_log_prob": fields.LOG_PROB,
}


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
    """Synchronous PPO or GRPO with the token weights of He et al. 2026.

    Args:
        config: a complete veRL configuration with ``algorithm.actfocus``.

    Raises:
        ValueError: a setting is out of range or cannot be honoured; the message names it and the remedy.
    """

    def __init__(self, config: DictConfig) -> None:
        from verl_actfocus.integration.plugin import verify  # the plugin imports this module

        verify()
        self.settings = ActFocusSettings.from_config(config)
        check_compatible(config, self.settings)
        if BASE_ESTIMATORS[config.algorithm.adv_estimator] == "gae" and config.critic.enable is None:
            # veRL enables the critic for the estimator name "gae" only.
            with open_dict(config):
                config.critic.enable = True
            validate_config(config, use_reference_policy=False, use_critic=True)
        super().__init__(config, keep_groups=self.settings.keep_groups)
        if self.settings.needs_reference and not self.use_reference_policy:
            print(
                f"[actfocus] the signal '{self.settings.signal}' comes from the frozen reference model: its forward "
                "pass is switched on (no KL term is added)"
            )
            self.use_reference_policy = True
            _complete_reference_settings(config)
        self._inputs = SIGNALS[self.settings.signal].inputs if self.settings.needs_signal else ()
        self._trajectories = TrajectoryLog(self.settings.trajectories)

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
        self._ensure_spans(batch)
        self._fit_padding(batch)
        return batch

    def _ensure_spans(self, batch: KVBatchMeta) -> None:
        """Tag the responses of agent loops that do not tag while they generate."""
        names = ["prompts", "responses", "response_mask", fields.SPANS]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=names)
        if fields.SPANS in data:
            return
        rows = zip(data["prompts"], data["responses"], data["response_mask"], strict=True)
        spans = [self._tagger.tag(prompt, response, mask) for prompt, response, mask in rows]
        self._put(batch, {fields.SPANS: torch.nested.as_nested_tensor(spans, layout=torch.jagged)})

    def _fit_padding(self, batch: KVBatchMeta) -> None:
        """Give veRL's synthetic rows spans of their own length: they were copied from a real trajectory."""
        keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if tag.get("is_padding", False)]
        if keys:
            rows = KVBatchMeta(keys=keys, tags=[{}] * len(keys), partition_id=batch.partition_id)
            empty = [torch.zeros(1, dtype=torch.long) for _ in keys]
            self._put(rows, {fields.SPANS: torch.nested.as_nested_tensor(empty, layout=torch.jagged)})

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        if "old_log_prob" not in self._inputs:
            return super()._compute_old_log_prob(batch, metrics)
        if (self.config.algorithm.get("rollout_correction") or {}).get("bypass_mode", False):
            return self._rollout_log_prob_as_signal(super()._compute_old_log_prob(batch, metrics))
        with self._outputs_requested(batch, {"old_log_prob": fields.LOG_PROB}):
            return super()._compute_old_log_prob(batch, metrics)

    def _rollout_log_prob_as_signal(self, batch: KVBatchMeta) -> KVBatchMeta:
        """Use the rollout's log-probabilities, which veRL's bypass mode takes for the old policy's.

        They are at temperature 1: `check_compatible` refuses any other here.
        """
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["old_log_probs"])
        self._put(batch, {fields.SIGNAL_PREFIX + "old_log_prob": data["old_log_probs"]})
        return batch

    def _compute_ref_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        wanted = {name: output for name, output in _REFERENCE_OUTPUTS.items() if name in self._inputs}
        with self._outputs_requested(batch, wanted):
            batch = super()._compute_ref_log_prob(batch, metrics)
        # veRL leaves this flag on the batch; the critic's pass, which comes next, would look for adapters of its own.
        batch.extra_info.pop("no_lora_adapter", None)
        return batch

    @contextmanager
    def _outputs_requested(self, batch: KVBatchMeta, wanted: dict[str, str]) -> Iterator[None]:
        """Ask the engine for extra outputs during one forward pass and store them per response token.

        Args:
            batch: the training batch.
            wanted: name that the signal knows → engine output.
        """
        batch.extra_info[fields.OUTPUTS] = ",".join(wanted.values())
        try:
            yield
        finally:
            batch.extra_info.pop(fields.OUTPUTS)
        if not wanted:
            return
        names = [*wanted.values(), "response_mask"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=names)
        self._put(
            batch,
            {
                fields.SIGNAL_PREFIX + name: response_from_nested(data[output], data["response_mask"])
                for name, output in wanted.items()
            },
        )

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
        names = [fields.SPANS, "response_mask", "advantages", *(fields.SIGNAL_PREFIX + name for name in self._inputs)]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=names)
        nested_mask = data["response_mask"]
        padded = data.to_padded_tensor()
        spans, mask = padded[fields.SPANS], padded["response_mask"]
        signals = {name: padded[fields.SIGNAL_PREFIX + name] for name in self._inputs}
        result = compute_weights(spans, mask, signals, self.settings)
        metrics.update(weight_metrics(spans, mask, padded["advantages"], result))
        if metrics["actfocus/action_tokens"] == 0:
            logger.warning(
                "step %s: no response has an action token, so every token weighs alpha or 'other'; check "
                "algorithm.actfocus.tags against what the model writes",
                self.global_steps,
            )
        if self._trajectories.wants(self.global_steps):
            self._trajectories.write(self.global_steps, batch, self.tokenizer, result.weights, result.signal)
        # The returned handle lists the new field; the one passed in would hide it from the update.
        return self._put(batch, {fields.WEIGHTS: response_to_nested(result.weights, nested_mask)})

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        actor = self.config.actor_rollout_ref.actor
        mini_batches = len(batch) // (actor.ppo_mini_batch_size * self.config.actor_rollout_ref.rollout.n)
        if self.settings.normalize_over == "batch":
            data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=[fields.WEIGHTS])
            batch.extra_info[fields.FIXED_NORMALIZER] = (
                data[fields.WEIGHTS].values().double().sum().item() / mini_batches
            )
        elif self.settings.normalize_over == "micro_batch":
            batch.extra_info[fields.NORMALIZE_MICRO_BATCHES] = True
        batch = super()._update_actor(batch, metrics)
        updates = mini_batches * actor.ppo_epochs
        metrics["actfocus/skipped_updates"] = round(metrics.pop(f"actor/{SKIPPED_METRIC}") * updates)
        return batch

    def _put(self, batch: KVBatchMeta, values: dict[str, torch.Tensor]) -> KVBatchMeta:
        return tq.kv_batch_put(
            keys=batch.keys, partition_id=batch.partition_id, fields=TensorDict(values, batch_size=len(batch.keys))
        )
