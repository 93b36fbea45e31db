"""What a policy makes of the tokens of several modalities. Numbers of the published code: tests/golden."""

import pytest
import torch
from torch import Tensor

from tests import small
from tokenworlds.actor_critic.token_policy import SymbolEncoder, build_policy
from tokenworlds.config import (
    ImageTokenizerConfig,
    PolicyInput,
    Recurrence,
    Scalar,
    TokenizerNetwork,
    TokenPolicyConfig,
)
from tokenworlds.envs import (
    ActionSpec,
    ContinuousActions,
    DiscreteActions,
    EnvironmentSpec,
    GridSpec,
    ImageSpec,
    ModalitySpec,
    TokenSpec,
    VectorSpec,
)
from tokenworlds.tokenizers import observation
from tokenworlds.tokenizers.observation import ObservationTokenizer

MODALITIES: dict[str, ModalitySpec] = {
    "image": small.IMAGE,
    "vector": VectorSpec(3),
    "token": TokenSpec(2, 4),
    "token_2d": GridSpec(2, 2, (3, 5)),
}
SPEC = EnvironmentSpec(MODALITIES, DiscreteActions(small.ACTIONS))


def policy_config(fuser: list[int], token_dim: int = 4, separate_critic: bool = False) -> TokenPolicyConfig:
    return TokenPolicyConfig(
        Recurrence.lstm, fuser[-1], Scalar.hl_gauss, PolicyInput.tokens, True, fuser, token_dim, separate_critic
    )


def tokenizer_config(**changes: object) -> ImageTokenizerConfig:
    return small.image_tokenizer_config(network=TokenizerNetwork.conv, **changes)


@pytest.fixture
def tokenizer() -> ObservationTokenizer:
    made = observation.build(tokenizer_config(), SPEC)
    made.image.embedding.weight.data.normal_()
    return made


@pytest.fixture
def encoder(tokenizer: ObservationTokenizer) -> SymbolEncoder:
    return SymbolEncoder(policy_config([7, 6]), SPEC, tokenizer)


def symbols(tokenizer: ObservationTokenizer, count: int = 3, seed: int = 0) -> Tensor:
    return small.tokens(tokenizer.layout, count, seed=seed)


def test_every_symbol_matters(encoder: SymbolEncoder, tokenizer: ObservationTokenizer) -> None:
    given = symbols(tokenizer, 1)
    features = encoder(given)
    assert features.shape == (1, encoder.width) == (1, 6)
    for place in range(tokenizer.layout.num_symbols):
        other = given.clone()
        other[0, place] = 1 if given[0, place] == 0 else 0
        assert not torch.equal(encoder(other), features), place


def test_observations_do_not_meet(encoder: SymbolEncoder, tokenizer: ObservationTokenizer) -> None:
    given = symbols(tokenizer)
    torch.testing.assert_close(encoder(given[1:2]), encoder(given)[1:2])


def test_the_tokenizer_is_read_as_it_is_and_left_alone(encoder: SymbolEncoder, tokenizer: ObservationTokenizer) -> None:
    given = symbols(tokenizer)
    before = encoder(given)
    before.sum().backward()
    assert all(parameter.grad is None for parameter in tokenizer.parameters())
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    tokenizer.image.embedding.weight.data.add_(1)
    assert not torch.equal(encoder(given), before)
    ours = set(map(id, encoder.parameters()))
    assert not ours & set(map(id, tokenizer.parameters()))


def test_widths_of_the_modalities_add_up(encoder: SymbolEncoder) -> None:
    """4 tokens of a quarter of 8 channels, 3 numbers, 2 categories and 4 cells of width 4."""
    assert encoder.fuser[0].in_features == 4 * 2 + 3 + 2 * 4 + 4 * 4


def test_a_cell_is_the_mean_of_its_columns(encoder: SymbolEncoder) -> None:
    part = encoder.encoders["token_2d"]
    first, second = part.embedding.tables
    cells = torch.tensor([[[2, 4], [0, 1], [1, 3], [2, 0]]])
    expected = (first.weight[cells[0, :, 0]] + second.weight[cells[0, :, 1]]) / 2
    torch.testing.assert_close(part(cells), expected.flatten().unsqueeze(0))


def test_numbers_go_in_as_the_tokenizer_rounds_them(encoder: SymbolEncoder, tokenizer: ObservationTokenizer) -> None:
    numbers = tokenizer.part("vector").codes(tokenizer.part("vector").encode(torch.tensor([[0.0, -3.0, 1e3]])))
    assert torch.equal(encoder.encoders["vector"](numbers), numbers)


@pytest.mark.parametrize("separate_critic", [False, True])
def test_the_policy_over_tokens(tokenizer: ObservationTokenizer, separate_critic: bool) -> None:
    policy = build_policy(policy_config([7, 6], separate_critic=separate_critic), SPEC, tokenizer, levels=5)
    seen = symbols(tokenizer, 6).unflatten(0, (2, 3))
    actions, start = torch.zeros(2, 3, dtype=torch.int64), policy.initial_state(2)
    logits, outputs, last = policy.unroll(seen, actions, start)
    assert logits.shape == (2, 3, small.ACTIONS) and outputs.shape == (2, 3, 129)
    assert last.hidden.shape == (2, 12 if separate_critic else 6)
    assert not any(name.startswith("tokenizer") or "tokenizer" in name for name in policy.state_dict())


ATARI: dict[str, ModalitySpec] = {"image": ImageSpec(64, 64)}
WALKER: dict[str, ModalitySpec] = {"vector": VectorSpec(24)}
CRAFTAX: dict[str, ModalitySpec] = {
    "vector": VectorSpec(47),
    "token": TokenSpec(1, 4),
    "token_2d": GridSpec(9, 11, (37, 5, 40, 20)),
}


@pytest.mark.parametrize(
    ("modalities", "actions", "fuser", "separate_critic", "millions"),
    [
        (ATARI, DiscreteActions(18), [512], False, 4.65),
        (WALKER, ContinuousActions(6), [384], True, 2.56),
        (CRAFTAX, DiscreteActions(43), [512, 512], False, 5.78),
    ],
    ids=["atari", "walker-run", "craftax"],
)
def test_published_sizes(
    modalities: dict[str, ModalitySpec], actions: ActionSpec, fuser: list[int], separate_critic: bool, millions: float
) -> None:
    spec = EnvironmentSpec(modalities, actions)
    tokenizer = observation.build(tokenizer_config(embed_dim=256), spec)
    with torch.device("meta"):
        policy = build_policy(policy_config(fuser, 64, separate_critic), spec, tokenizer)
    assert round(sum(parameter.numel() for parameter in policy.parameters()) / 1e6, 2) == millions
