"""A response is the same to the last bit, whoever shares its forward passes and in whatever order requests arrive."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from verl_actfocus.generation.batch import ContinuousBatch, Generated
from verl_actfocus.generation.sampling import SamplingParams

VOCABULARY = 417
GROUPS, MEMBERS, TURNS = 5, 3, 3


@pytest.fixture(scope="module", params=["as many key heads", "fewer key heads"])
def model(request):
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4 if request.param == "as many key heads" else 2,
        max_position_embeddings=512,
        initializer_range=0.1,
    )
    return Qwen2ForCausalLM(config).eval()


@pytest.fixture(autouse=True)
def one_thread():
    """As in the rollout server: more threads share a product in parts of other shapes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def play(model, slots: int, rng: random.Random, episodes: list[str], parked: int = 10_000) -> dict[str, Generated]:
    """Play episodes of several turns whose requests arrive in an order and at moments that `rng` draws.

    What is asked and drawn depends on the episode alone, and is the same of twins (`0-1`, `0-1'`, `0-1''`); returns
    every response by episode and turn.
    """
    batch = ContinuousBatch(
        model, slots=slots, max_model_len=300, turn_ends=[0], token_ids=range(VOCABULARY), parked=parked
    )

    def tokens(count: int, *names: object) -> list[int]:
        own = random.Random(repr([str(name).replace("'", "") for name in names]))
        return [own.randrange(1, VOCABULARY) for _ in range(count)]

    prompts = {episode: tokens(20 + 9 * int(episode[0]), "prompt", episode[0]) for episode in episodes}
    turns = dict.fromkeys(episodes, 0)
    ready = list(episodes)
    responses = {}
    while ready or batch.busy:
        rng.shuffle(ready)
        for episode in [ready.pop() for _ in range(rng.randrange(len(ready) + 1))]:
            name = f"{episode} {turns[episode]}"
            seed = random.Random(name.replace("'", "")).randrange(2**60)
            limit = 5 + seed % 40
            batch.add(name, prompts[episode], SamplingParams(max_tokens=limit, seed=seed))
        for name, response in batch.step().items():
            responses[name] = response
            episode = name.split()[0]
            turns[episode] += 1
            prompts[episode] = prompts[episode] + response.token_ids + tokens(11, "message", name)
            if turns[episode] < TURNS:
                ready.append(episode)
    return responses


EPISODES = [f"{group}-{member}" for group in range(GROUPS) for member in range(MEMBERS)]


def test_tokens_and_log_probabilities_are_those_of_the_episode_played_alone(model):
    alone = {}
    for episode in EPISODES:
        alone.update(play(model, 1, random.Random(0), [episode]))
    assert len(alone) == len(EPISODES) * TURNS
    assert len({tuple(response.token_ids) for response in alone.values()}) == len(alone)
    for seed, slots in enumerate([15, 15, 32, 9]):  # room for all, for more, and for not nearly all
        together = play(model, slots, random.Random(seed), EPISODES)
        assert together == alone  # ids, log-probabilities (bit by bit) and stop reasons


@pytest.mark.parametrize("slots", [45, 18, 9])
def test_siblings_that_write_the_same_find_their_own_keys_and_values_again(model, slots):
    alone = {}
    for episode in EPISODES[:9]:
        alone.update(play(model, 1, random.Random(0), [episode]))
    together = play(
        model, slots, random.Random(slots), [episode + twin for episode in EPISODES[:9] for twin in ("", "'", "''")]
    )
    assert len(together) == 3 * len(alone)
    for name, response in together.items():
        assert response == alone[name.replace("'", "")], name


def test_with_fewer_slots_than_episodes_what_is_not_kept_is_computed_again_and_nearly_equal(model):
    kept = play(model, 4, random.Random(1), EPISODES)
    forgotten = play(model, 4, random.Random(1), EPISODES, parked=0)
    assert kept.keys() == forgotten.keys()
    first = [name for name in kept if name.endswith(" 0")]
    for name in first:
        assert kept[name] == forgotten[name]
    same = [name for name in kept if kept[name].token_ids == forgotten[name].token_ids]
    assert len(same) > 0.9 * len(kept)
    for name in same:
        expected = torch.tensor(kept[name].log_probs)
        torch.testing.assert_close(torch.tensor(forgotten[name].log_probs), expected, atol=1e-4, rtol=0)
