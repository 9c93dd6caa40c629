"""Names under which this package's data travels through veRL: TransferQueue fields and batch entries.

All per-token fields have one value per response token of a trajectory.
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
#: Batch flag: comma-separated engine outputs that a forward pass shall add.
OUTPUTS = "actfocus_outputs"

# Engine outputs: per-token values of the raw logits (temperature 1) of whichever model runs the pass.
ENERGY = "actfocus_energy"
ENTROPY = "actfocus_entropy"
LOG_PROB = "actfocus_log_prob"

#: Prefix under which the inputs of a signal (`verl_actfocus.weighting.SIGNALS`) are stored.
SIGNAL_PREFIX = "actfocus_signal_"
