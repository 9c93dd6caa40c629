"""The embedded tiny models: where they come from and how to make one again.

A noisy expert plays an environment through ``Episode`` and writes down its reasoning (``demonstrations``, ``tasks``);
a tokenizer is trained on those conversations (``tokenizer``), a Qwen2-architecture model of about a million parameters
learns to imitate them (``model``, ``train``), and ``evaluation`` measures the result with `verl_actfocus.evaluation`.
"""
