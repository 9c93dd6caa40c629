"""Names under which this package's data travels through veRL: TransferQueue fields and batch entries.

All per-token fields but the engine's have one value per response token of a trajectory.
"""

#: `verl_actfocus.weighting.Span` of each response token, int64.
SPANS = "actfocus_spans"
#: Reward of each turn on the last token of the turn, float32.
TURN_REWARDS = "actfocus_turn_rewards"
#: Weight of each response token, float32.
WEIGHTS = "actfocus_weights"
#: Batch entry: sum of the weights over the optimizer step's global mini-batch.
WEIGHT_SUM = "actfocus_weight_sum"
#: Batch entry: what the loss is divided by instead, the same for every mini-batch of a training step.
FIXED_NORMALIZER = "actfocus_fixed_normalizer"
#: Batch flag: every micro-batch is normalised by its own weights.
NORMALIZE_MICRO_BATCHES = "actfocus_normalize_micro_batches"
#: Batch entry: micro-batches of the global mini-batch over all ranks, if each is normalised by its own weights.
MICRO_BATCHES = "actfocus_micro_batches"
#: Batch entry: training step whose first mini-batch the engine shall report the gradients of.
GRADIENT_REPORT = "actfocus_gradient_report"
#: Batch flag: the loss is the policy loss without entropy and KL terms.
POLICY_LOSS_ALONE = "actfocus_policy_loss_alone"
#: Batch flag: comma-separated inputs (`verl_actfocus.integration.inputs.ENGINE_INPUTS`) that a forward pass shall add.
INPUTS = "actfocus_inputs"
#: Prefix under which the engine stores an input, over prompt and response like veRL's `log_probs`.
INPUT_PREFIX = "actfocus_input_"
