"""Batched sampling: the same as one prompt at a time, and faithful to the turn protocol."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from verl_actfocus.interaction import Episode, StopReason
from verl_actfocus.warmstart.encoding import TurnEncoder
from verl_actfocus.warmstart.evaluation import evaluate
from verl_actfocus.warmstart.model import build_model
from verl_actfocus.warmstart.sampling import choose_tokens, play_episodes, sample_responses
from verl_actfocus.warmstart.tasks import TASKS

FROZENLAKE = TASKS["frozenlake"]


@pytest.fixture(scope="module")
def model(small_tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    return build_model(small_tokenizer, seed=1).eval()


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_temperature_divides_the_logits_and_zero_is_greedy() -> None:
    logits_BV = torch.log(torch.tensor([[0.1, 0.6, 0.3]])).repeat(20_000, 1)
    assert choose_tokens(logits_BV, 0, generator()).unique().tolist() == [1]
    for temperature in (1.0, 0.5):
        weights = torch.tensor([0.1, 0.6, 0.3]) ** (1 / temperature)
        shares = torch.bincount(choose_tokens(logits_BV, temperature, generator()), minlength=3) / 20_000
        assert torch.allclose(shares, weights / weights.sum(), atol=0.015)
    with pytest.raises(ValueError, match="temperature"):
        choose_tokens(logits_BV, -1.0, generator())


def test_a_batch_of_unequal_prompts_continues_each_as_if_it_were_alone(model: Qwen2ForCausalLM) -> None:
    prompts = [[7, 8, 9], [20, 21, 22, 23, 24, 25, 26], [40]]
    with torch.no_grad():
        alone = []
        for prompt in prompts:
            ids = list(prompt)
            for _ in range(6):
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
            alone.append(ids[len(prompt) :])
    end_id = alone[1][2]  # one row ends early and leaves the batch
    alone = [row[: row.index(end_id) + 1] if end_id in row else row for row in alone]
    samples = sample_responses(model, prompts, temperature=0, max_new_tokens=6, end_id=end_id, generator=generator())
    assert [sample.ids for sample in samples] == alone
    assert [sample.cut_off for sample in samples] == [end_id not in row for row in alone]
    assert len({len(row) for row in alone}) > 1


def test_untrained_models_are_cut_off_and_pay_for_it(
    model: Qwen2ForCausalLM, small_tokenizer: PreTrainedTokenizerFast
) -> None:
    played = play_episodes(
        model, small_tokenizer, FROZENLAKE.make_env, FROZENLAKE.limits, range(3), temperature=0, batch_size=2
    )
    assert [one.seed for one in played] == [0, 1, 2]
    for one in played:
        assert one.stop_reason is StopReason.RESPONSE_CUT
        assert one.total_reward == -0.1 and one.valid_turns == 0 and not one.success
        assert one.response_tokens == FROZENLAKE.limits.response_tokens


class Scripted(torch.nn.Module):
    """Stands in for a model: whatever the prompt, its logits spell out one response."""

    def __init__(self, like: Qwen2ForCausalLM, ids: list[int]) -> None:
        super().__init__()
        self.config, self.ids = like.config, ids
        self.prompts: list[list[int]] = []
        self.at = 0

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: object) -> object:
        if input_ids.shape[1] > 1:
            self.at = 0
            self.prompts += [row[mask == 1].tolist() for row, mask in zip(input_ids, attention_mask, strict=True)]
        logits = torch.zeros(len(input_ids), 1, self.config.vocab_size)
        logits[:, :, self.ids[self.at]] = 1.0
        self.at += 1
        return type("Output", (), {"logits": logits})


def test_played_turns_follow_the_episode_and_prompts_are_only_ever_appended_to(
    model: Qwen2ForCausalLM, small_tokenizer: PreTrainedTokenizerFast
) -> None:
    encoder = TurnEncoder(small_tokenizer)
    text = " I stay.</think><answer> Up || Up</answer>"
    scripted = Scripted(model, encoder.response(text))
    seed = next(s for s in range(50) if len(_respond_until_over(s, text)) == 3)
    (played,) = play_episodes(
        scripted,
        small_tokenizer,
        FROZENLAKE.make_env,
        FROZENLAKE.limits,
        [seed],
        temperature=0,
    )
    assert played.responses == [text] * 3
    assert played.valid_turns == 3
    assert played.response_tokens == 3 * len(encoder.response(text))
    rewards = _respond_until_over(seed, text)
    assert played.total_reward == sum(rewards)
    first, second, third = scripted.prompts
    assert second[: len(first) + len(scripted.ids)] == first + scripted.ids
    assert third[: len(second) + len(scripted.ids)] == second + scripted.ids


def test_a_turn_that_the_environment_refuses_is_well_formed_and_not_valid(
    model: Qwen2ForCausalLM, small_tokenizer: PreTrainedTokenizerFast
) -> None:
    scripted = Scripted(model, TurnEncoder(small_tokenizer).response(" I fly.</think><answer> Fly</answer>"))
    (played,) = play_episodes(
        scripted,
        small_tokenizer,
        FROZENLAKE.make_env,
        FROZENLAKE.limits,
        [0],
        temperature=0,
    )
    assert (len(played.responses), played.well_formed_turns, played.valid_turns) == (3, 3, 0)


def _respond_until_over(seed: int, text: str) -> list[float]:
    episode = Episode(FROZENLAKE.make_env(), FROZENLAKE.limits)
    episode.reset(seed)
    while not episode.done:
        episode.respond(text)
    return episode.turn_rewards


def test_the_same_seed_plays_the_same_episodes(
    model: Qwen2ForCausalLM, small_tokenizer: PreTrainedTokenizerFast
) -> None:
    plays = [
        play_episodes(
            model,
            small_tokenizer,
            FROZENLAKE.make_env,
            FROZENLAKE.limits,
            range(2),
            temperature=1.0,
            sampling_seed=seed,
        )
        for seed in (4, 4, 5)
    ]
    assert plays[0] == plays[1]
    assert plays[0] != plays[2]


def test_an_evaluation_reports_what_was_played(
    model: Qwen2ForCausalLM, small_tokenizer: PreTrainedTokenizerFast
) -> None:
    (greedy,) = evaluate(model, small_tokenizer, FROZENLAKE, episodes=2, temperatures=[0.0])
    assert (greedy.episodes, greedy.success, greedy.turns) == (2, 0.0, 1.0)
    assert (greedy.well_formed, greedy.valid) == (0.0, 0.0)
    assert greedy.stop_reasons == {"response_cut": 2}
    assert greedy.response_tokens == FROZENLAKE.limits.response_tokens
    with pytest.raises(ValueError, match="episodes"):
        evaluate(model, small_tokenizer, FROZENLAKE, episodes=0)
