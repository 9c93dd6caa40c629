"""Evaluation on its own: a model plays the tasks of a training run's evaluation, outside of training.

- `settings`: what is played and how responses are sampled; by default the paper's, or a training run's.
- `checkpoints`: what a user may name as a model, and how veRL's checkpoints become one.
- `tokenizers`: which tokenizer a model has.
- `policy`, `local`, `endpoint`: who answers: a Hugging Face model on this machine, or an OpenAI-compatible server.
- `server`: requests to such a server, and what may go wrong with them.
- `runner`: drives the players of many episodes at once (`verl_actfocus.episodes.player`).
- `records`: where episodes are kept on disk, and which folder may be continued.
- `figures`, `table`: what is reported, with confidence intervals.

Nothing here needs veRL, except that a model whose family is not Qwen's has its prompts built by veRL itself.
"""
