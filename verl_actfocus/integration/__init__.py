"""Everything that touches veRL 0.9.1.

Outside of this folder only `verl_actfocus.episodes.tokens` imports it, for model families whose prompts veRL builds.

Read in this order:

- `plugin`, loaded through the `verl.plugins` entry point, and `registration`: the way into veRL.
- `early`: what is refused there, before Ray is started.
- `trainer`: the V1 trainer with one step more, from rewards, spans and inputs to advantages and token weights
  (`verl_actfocus.estimators`, `verl_actfocus.weighting`; `trajectory_batch`, `token_batch`, `response_tagger`). Its
  bases: `episode_trainer` counts and selects what was played (`exclusions`, `metrics`, `selection`), `sync_trainer` is
  veRL's.
- `estimators`: what other trainers of veRL get under the same names.
- `engine`, `policy_loss`: how what weights and advantages are made of (`verl_actfocus.weighting.inputs`) leaves the
  model, and how weights reach the loss.
- `agent_loop`, `dataset`: episodes of an environment as veRL rollouts.
- `cpu`: platform, engines and rollout backend that make the same run work without an accelerator.
"""

from importlib import import_module

# veRL first: it loads `plugin`, which imports the modules of this package. Entered the other way round, by importing
# one of them before veRL, the plugin would find that module half-initialised, and veRL would swallow the error.
import_module("verl")
