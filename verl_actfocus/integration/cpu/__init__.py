"""The CPU path: the same trainer, engines and agent loop as on a GPU, with gloo and a Hugging Face server.

- `platform`: the CPU as a device of veRL's.
- `engines`: veRL's FSDP engines without their assumptions about accelerators.
- `rollout`: the rollout backend `hf_cpu` around `verl_actfocus.generation`.

Selected by `VERL_PLATFORM=cpu` and the configuration group `+actfocus/device=cpu`. The rollout backend computes where
veRL's platform does: `+actfocus/device=cuda` has it on one GPU.
"""
