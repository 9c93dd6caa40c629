"""The embedded tiny models: where they come from and how to make one again.

What an environment's folder demonstrates is played through `Episode` (`demonstrations`); a tokenizer is trained on
those conversations (`tokenizer`), a Qwen2-architecture model of about a million parameters learns to imitate them
(`model`, `train`), and `evaluation` measures the result with `verl_actfocus.evaluation`.
"""
