"""An environment that counts, a policy that answers by rote, and an episode of both through the agent loop."""

from __future__ import annotations

import threading

from omegaconf import OmegaConf
from verl.workers.rollout.replica import TokenOutput

from verl_actfocus import models
from verl_actfocus.envs.base import TextEnv, step_info

from ...episode_loops import play_episode

LIMITS = {"turns": 3, "actions_per_turn": 2, "actions": 6, "words": 40, "response_tokens": 40}


class CountingEnv(TextEnv):
    """Pays 1 per "Right"; solved after four of them; "Crash" raises."""

    @property
    def rules(self) -> str:
        return "Count."

    def legal_actions(self):
        return ["Right", "Crash"]

    def reset(self, *, seed=None, options=None):
        super(TextEnv, self).reset(seed=seed)
        self.count = 0
        self._running = True
        return "0 steps", {}

    def step(self, action):
        if action == "Crash":
            raise OSError("the disk is full")
        if action == "Hang":
            threading.Event().wait()
        valid = action == "Right"
        self.count += valid
        done = self.count >= 4
        self._running = not done
        return f"{self.count} steps", float(valid), done, False, step_info(valid=valid, effective=valid, success=done)


class ScriptedServer:
    """Answers each request with the next scripted text and remembers what it was asked."""

    def __init__(self, tokenizer, texts, cut=(), stop_reason="completed"):
        self.tokenizer, self.texts, self.cut, self.stop_reason = tokenizer, list(texts), set(cut), stop_reason
        self.prompts, self.answers, self.params = [], [], []

    async def generate(self, request_id, *, prompt_ids, sampling_params, **kwargs):
        turn = len(self.prompts)
        ids = self.tokenizer.encode(self.texts[turn], add_special_tokens=False)
        reason = self.stop_reason
        if turn in self.cut:
            reason = "length"
        else:
            ids.append(self.tokenizer.eos_token_id)
        self.prompts.append(list(prompt_ids))
        self.answers.append(ids)
        self.params.append(sampling_params)
        log_probs = [-0.5 - 0.01 * n for n in range(len(ids))]
        return TokenOutput(token_ids=ids, log_probs=log_probs, stop_reason=reason, extra_fields={"global_steps": 7})


def play(
    tokenizer,
    texts,
    *,
    env="counting",
    limits=LIMITS,
    prompt_length=200,
    response_length=500,
    server_class=ScriptedServer,
    trajectories=None,
    algorithm=None,
    validate=False,
    step=7,
    session=0,
    rollout=None,
    **server_options,
):
    server = server_class(tokenizer, texts, **server_options)
    rollout = {
        "full_determinism": False,
        "prompt_length": prompt_length,
        "response_length": response_length,
        "max_model_len": None,
        "name": "hf_cpu",
        "seed": 3,
        **(rollout or {}),
    }
    config = OmegaConf.create(
        {
            "actor_rollout_ref": {"rollout": rollout, "model": {"path": str(models.folder("frozenlake") / "model")}},
            "data": {},
            "algorithm": algorithm or ({} if trajectories is None else {"actfocus": {"trajectories": trajectories}}),
        }
    )
    row = {
        "name": env,
        "kwargs": {},
        "limits": limits,
        "phrasing": {"name": "brief", "worked_turn": None},
        "format_penalty": -0.1,
        "step_timeout": 0.5,
        "validate": validate,
        "seed": 5,
    }
    output = play_episode(
        config, server, tokenizer, row, sampling_params={"temperature": 1.0}, session_id=session, global_steps=step
    )
    return output, server
