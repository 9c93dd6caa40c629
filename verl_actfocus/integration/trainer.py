"""The trainer mode `actfocus`: veRL's synchronous V1 trainer with token weights between advantage and update.

`ActFocusTrainer` overrides the steps of `verl/trainer/ppo/v1/trainer_base.py` where something has to be added and
calls veRL's own code for the rest. The weighting says which inputs it needs; which there are, and from which pass, is
the business of `verl_actfocus.weighting.inputs`; so it is with the estimator (`verl_actfocus.estimators`). What
concerns episodes rather than weights is its base `EpisodeTrainer`'s.

=========================  =============================================================================================
step                       what is added
=========================  =============================================================================================
`_init_tokenizer`          tokenizers that cannot write the tags are refused, and models that cannot share prompts, if
                           they shall
`_init_resource_pool_mgr`  the reference model, if the weighting needs it
`_balance_batch`         spans are tagged where the rollout did not
`_compute_old_log_prob`  what weighting and estimator need of the policy before the update
`_compute_ref_log_prob`  what they need of the reference model
`_compute_advantage`     after veRL's estimator what this package's makes of its advantages, then the token weights
`_update_actor`          what the loss is divided by, unless it is the weights of the mini-batch, and whether the
                         gradient is reported on
=========================  =============================================================================================
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
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

from verl_actfocus.config.compatibility import TRAINER_MODE, checked_settings
from verl_actfocus.estimators import computed_estimate
from verl_actfocus.integration import fields, nodes, registration
from verl_actfocus.integration.episode_trainer import EpisodeTrainer
from verl_actfocus.integration.micro_batch import nested
from verl_actfocus.integration.passes import complete_reference_settings, run_by_groups
from verl_actfocus.integration.policy_loss import SKIPPED_METRIC, actfocus_ppo_loss, normalizer_entries
from verl_actfocus.integration.response_tagger import ResponseTagger
from verl_actfocus.integration.shared_prompts import empty_cache
from verl_actfocus.integration.token_batch import fields_to_weight, token_batch, token_rows
from verl_actfocus.integration.trajectories import TRAJECTORIES_METRIC, TrajectoryLog, computed_signals
from verl_actfocus.integration.trajectory_batch import fields_to_estimate, trajectory_batch
from verl_actfocus.weighting import TokenBatch, compute_weights, share_metrics
from verl_actfocus.weighting.inputs import ROLLOUT_INPUTS, Model, engine_inputs, rollout_inputs

logger = logging.getLogger(__name__)

#: Metric: 1 for a step without any action token, though the weighting depends on them.
NO_ACTION_METRIC = "actfocus/steps_without_action_tokens"
#: Characters of a response that an error shows.
EXCERPT = 300


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
        if self.settings.estimator.base == "gae" and config.critic.enable is None:
            # veRL enables the critic for the estimator name "gae" only.
            with open_dict(config):
                config.critic.enable = True
            validate_config(config, use_reference_policy=False, use_critic=True)
        super().__init__(config, keep_groups=self.settings.keep_groups)
        of_reference = [name for name, one in self.settings.readers.items() if engine_inputs(one, Model.REFERENCE)]
        if of_reference and not self.use_reference_policy:
            what = " and ".join(of_reference)
            print(f"[actfocus] {what}: the frozen reference model's pass is switched on (no KL term is added)")
            self.use_reference_policy = True
            complete_reference_settings(config)
        self._bypass = bool((config.algorithm.get("rollout_correction") or {}).get("bypass_mode", False))
        played = config.data.get("environment")
        self._trajectories = TrajectoryLog(self.settings.trajectories, played and played.name)

    # ---- setup ------------------------------------------------------------------------------------------------

    def _init_tokenizer(self) -> None:
        super()._init_tokenizer()
        self._tagger = ResponseTagger(self.tokenizer, self.settings.tags)  # refuses some tokenizers
        if self.settings.share_prompts:
            empty_cache(omega_conf_to_dataclass(self.config.actor_rollout_ref.model).hf_config)  # refuses some models

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

    # ---- one step ---------------------------------------------------------------------------------------------

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> KVBatchMeta:
        # Afterwards: groups that are not kept need no spans, and padding is there.
        batch = super()._balance_batch(batch, metrics, *args, **kwargs)
        self._ensure_rollout_fields(batch)
        self._fit_padding(batch)
        return batch

    def _ensure_rollout_fields(self, batch: KVBatchMeta) -> None:
        """Tag the responses of agent loops that do not tag while they generate; nothing else can be made up for."""
        stored = [ROLLOUT_INPUTS[name].field for name in rollout_inputs(self.settings)]
        # One row tells: all agent loops of a run store the same fields, and TransferQueue refuses a batch of which
        # only some rows have one.
        first = KVBatchMeta(keys=batch.keys[:1], tags=batch.tags[:1], partition_id=batch.partition_id)
        data = self._get(first, fields.SPANS, *stored)
        for reader, one in self.settings.readers.items():
            missing = [name for name in rollout_inputs(one) if ROLLOUT_INPUTS[name].field not in data]
            if missing:
                raise ValueError(
                    f"{reader} needs {missing}, which this run's agent loop does not store; use this package's "
                    "(+actfocus/env=…), or choose another"
                )
        if fields.SPANS in data:
            return
        data = self._get(batch, "prompts", "responses", "response_mask")
        rows = zip(data["prompts"], data["responses"], data["response_mask"], strict=True)
        spans = [self._tagger.tag(prompt, response, mask) for prompt, response, mask in rows]
        self._put(batch, {fields.SPANS: nested(spans)})

    def _fit_padding(self, batch: KVBatchMeta) -> None:
        """Give veRL's synthetic rows fields of their own length: they were copied from a real trajectory."""
        keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if tag.get("is_padding", False)]
        if not keys:
            return
        empty = {fields.SPANS: torch.zeros(1, dtype=torch.long)}
        for one in (ROLLOUT_INPUTS[name] for name in rollout_inputs(self.settings)):
            empty[one.field] = torch.zeros(1, dtype=one.dtype)
        rows = KVBatchMeta(keys=keys, tags=[{}] * len(keys), partition_id=batch.partition_id)
        self._put(rows, {name: nested([value] * len(keys)) for name, value in empty.items()})

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        with self._inputs_requested(batch, Model.OLD_POLICY):
            return self._by_groups(super()._compute_old_log_prob, batch, metrics)

    def _compute_ref_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        with self._inputs_requested(batch, Model.REFERENCE):
            batch = self._by_groups(super()._compute_ref_log_prob, batch, metrics)
        # veRL leaves this flag on the batch; the critic's pass, which comes next, would look for adapters of its own.
        batch.extra_info.pop("no_lora_adapter", None)
        return batch

    @contextmanager
    def _inputs_requested(self, batch: KVBatchMeta, model: Model) -> Iterator[None]:
        """Ask the engine for what weights and advantages need of this model during its pass, and how it is run."""
        entries = {
            fields.INPUTS: ",".join(engine_inputs(self.settings, model)),
            fields.SHARE_PROMPTS: self.settings.share_prompts,
        }
        batch.extra_info.update(entries)
        try:
            yield
        finally:
            for name in entries:
                batch.extra_info.pop(name)

    def _by_groups(self, run: Callable[..., KVBatchMeta], batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        """Run a pass; where prompts are shared, groups stay together. The update keeps veRL's order."""
        if not self.settings.share_prompts:
            return run(batch, metrics)
        return run_by_groups(run, batch, metrics, self.actor_rollout_wg.world_size)

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        algorithm = self.config.algorithm
        name = algorithm.adv_estimator
        # veRL treats its own estimators by name (values for GAE, several outputs per session for GRPO).
        algorithm.adv_estimator = self.settings.estimator.base
        try:
            batch = super()._compute_advantage(batch, metrics)
        finally:
            algorithm.adv_estimator = name
        return self._weight_tokens(batch, metrics)

    def _weight_tokens(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        """Estimate and weigh: one read and one write for all that changes between veRL's advantages and the update."""
        weighting, estimator, algorithm = self.settings.weighting, self.settings.estimator, self.config.algorithm
        names = [
            *fields_to_estimate(estimator, algorithm, bypass=self._bypass),
            *fields_to_weight(weighting, bypass=self._bypass),
        ]
        data = self._get(batch, *dict.fromkeys(names))
        changed = {}
        read = trajectory_batch(batch.keys, data, estimator, algorithm, bypass=self._bypass)
        found = computed_estimate(estimator, read)
        if found is not None:
            changed = {"advantages": nested(found.advantages), "returns": nested(found.returns)}
            data["advantages"] = changed["advantages"]
            metrics.update({f"actfocus/{name}": value for name, value in found.metrics.items()})
        tokens = token_batch(data, weighting, bypass=self._bypass, by_rows=weighting.reads_rows)
        try:
            weights = compute_weights(weighting, tokens)
        except ValueError:
            # By rows, so that the error names the trajectory.
            compute_weights(weighting, token_batch(data, weighting, bypass=self._bypass, by_rows=True))
            raise
        self._weight_sum = weights.double().sum().item()
        lengths = data["response_mask"].offsets().diff()
        rows = nested(token_rows(weights, lengths))
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
        """Say that the weights cannot tell actions from the rest: an error in their first step, later a warning.

        Raises:
            ValueError: in the first step of these weights, where the tags and not the model are to blame.
        """
        name, action = self.settings.weighting.name, self.settings.tags.action
        tags = " … ".join(action) if isinstance(action, tuple) else f"none: all that is not reasoning ({action})"
        played = [row for row, tag in enumerate(batch.tags) if not tag.get("is_padding", False)]
        response = str(self.tokenizer.decode(self._get(batch, "responses")["responses"][played[0]].tolist()))
        message = (
            f"step {self.global_steps}: none of {len(played)} responses has an action token, so the weighting {name!r} "
            f"has nothing to tell apart; looked for: {tags}; a response begins: {response[:EXCERPT]!r}; set "
            "algorithm.actfocus.tags to what the model writes, or use +actfocus=uniform"
        )
        if self.global_steps == self._first_step:
            raise ValueError(message)
        logger.warning(message)

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        actor = self.config.actor_rollout_ref.actor
        mini_batches = len(batch) // (actor.ppo_mini_batch_size * self.config.actor_rollout_ref.rollout.n)
        batch.extra_info.update(normalizer_entries(self.settings.normalize_over, self._weight_sum, mini_batches))
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
