"""The warm start trains on the token sequences that a veRL rollout builds."""

from __future__ import annotations

from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

from verl_actfocus import envs
from verl_actfocus.episodes import Episode
from verl_actfocus.generation.encoding import TurnEncoder
from verl_actfocus.warmstart.demonstrations import demonstrate
from verl_actfocus.warmstart.tokenizer import build_tokenizer


def test_a_three_turn_episode_has_the_tokens_that_verls_builder_gives_it() -> None:
    task = envs.miniature("frozenlake")
    env = task.make_env()
    tokenizer = build_tokenizer([demonstrate(task, env, seed=0, index=i).messages for i in range(200)])
    encoder = TurnEncoder(tokenizer)
    builder = create_continuous_token_builder(tokenizer, hf_model_type="qwen2", allowed_append_roles=["user"])
    assert type(builder).__name__ == "QwenContinuousTokenBuilder"
    prefill = tokenizer.encode("<think>", add_special_tokens=False)

    # Words that no demonstration holds, so that the responses go through the byte level too.
    texts = [" Grüße, ich warte.\n</think><answer> Up</answer>", " ?</think><answer>Up || Up</answer>", " x"]
    episode = Episode(env, task.limits)
    messages = episode.reset(seed=_seed_that_survives(texts))
    ours = encoder.initial(messages)
    theirs = builder.build_initial_tokens(messages) + prefill
    assert ours == theirs
    for turn, text in enumerate(texts):
        response_ids = encoder.response(text)
        assert tokenizer.decode(response_ids, skip_special_tokens=True) == text
        theirs = builder.merge_assistant_tokens(theirs, response_ids).token_ids
        ours = ours + response_ids
        result = episode.respond(text)
        previous = [*messages, {"role": "assistant", "content": text}]
        if result.next_message is None:
            assert turn == 2
            break
        messages = [*previous, result.next_message]
        theirs = builder.merge_context_tokens(previous, messages, theirs).token_ids + prefill
        ours = ours + encoder.next_turn(result.next_message)
        assert ours == theirs
    assert ours == theirs
    assert encoder.conversation([*messages, {"role": "assistant", "content": texts[-1]}])[0] == theirs


def _seed_that_survives(texts: list[str]) -> int:
    task = envs.miniature("frozenlake")
    for seed in range(100):
        episode = Episode(task.make_env(), task.limits)
        episode.reset(seed)
        for text in texts:
            if not episode.done:
                episode.respond(text)
        if episode.turn == len(texts):
            return seed
    raise AssertionError("no map on which moving up twice is harmless")
