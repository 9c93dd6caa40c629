"""Generation with a Hugging Face model, free of veRL: what stands where vLLM stands on a GPU.

- `batch`: continuous batching; `cache`: the keys and values that it works on; `background`: a batch to wait for.
- `passes`: forward passes, and why a response does not depend on its company.
- `sampling`: one token from its logits, and the seeds of responses.
- `turn_ends`: which tokens end a turn, and whether a response ended or was cut off.

The rollout server of the CPU path, `actfocus eval` and `actfocus play` all generate with it.
"""
