"""How tokens of observations and of actions become vectors."""

import pytest
import torch
from torch import Tensor, nn

from tests import small
from tokenworlds.envs import ActionSpec, ContinuousActions, MultiDiscreteActions
from tokenworlds.tokenizers.layout import ModalityTokens
from tokenworlds.world_models.embeddings import (
    CodedTokenizer,
    CodeEmbedding,
    ColumnsEmbedding,
    LevelsEmbedding,
    MultiDiscreteEmbedding,
    ProjectedEmbedding,
    action_tokens,
    embed_action,
    embed_observation,
)

WIDTH = 6
ACTIONS: list[ActionSpec] = [small.DISCRETE, MultiDiscreteActions((3, 2)), ContinuousActions(1), ContinuousActions(4)]

every_action = pytest.mark.parametrize("actions", ACTIONS, ids=str)


@every_action
@pytest.mark.parametrize("tokenized", [True, False])
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 0)])
def test_actions_have_as_many_tokens_as_the_layout_is_told(
    actions: ActionSpec, tokenized: bool, shape: tuple[int, ...]
) -> None:
    embedded = embed_action(actions, WIDTH, 5, tokenized)(small.actions(actions, *shape, draws=small.generator()))
    assert embedded.shape == (*shape, action_tokens(actions, tokenized), WIDTH)


@every_action
def test_every_action_is_told_from_others(actions: ActionSpec) -> None:
    some, other = small.actions(actions, 2, draws=small.generator(1)).split(1)
    assert not torch.equal(some, other)
    for tokenized in (True, False):
        embedding = embed_action(actions, WIDTH, 51, tokenized)
        assert not torch.equal(embedding(some), embedding(other))


def test_each_component_of_several_choices_has_a_table_of_its_own() -> None:
    embedding = MultiDiscreteEmbedding((3, 2), WIDTH)
    embedded = embedding(torch.tensor([[2, 1], [1, 1]]))
    first, second = (table.weight for table in embedding.tables)
    assert len(first) == 3 and len(second) == 2
    assert torch.equal(embedded, torch.stack([first[[2, 1]], second[[1, 1]]], dim=1))


@pytest.mark.parametrize(
    ("levels", "value", "level"),
    [
        (3, -1.0, 0),
        (3, -0.51, 0),
        (3, -0.5, 1),  # between two: the upper one
        (3, 0.49, 1),
        (3, 0.5, 2),
        (3, 1.0, 2),
        (3, -7.0, 0),  # what a policy with noise may do
        (3, 7.0, 2),
        (2, 0.0, 1),
        (51, 0.0, 25),
        (51, 0.04, 26),
    ],
)
def test_numbers_are_the_nearest_of_even_levels(levels: int, value: float, level: int) -> None:
    embedding = LevelsEmbedding(levels, WIDTH)
    assert embedding.tokens(torch.tensor([value])).tolist() == [level]
    assert torch.equal(embedding(torch.tensor([value, value])), embedding.table.weight[[level, level]])


def test_numbers_of_any_precision_are_embedded() -> None:
    numbers = torch.rand(3, 2, generator=small.generator()) * 2 - 1
    for embedding in (LevelsEmbedding(5, WIDTH), ProjectedEmbedding(2, WIDTH)):
        expected = embedding(numbers)
        torch.testing.assert_close(embedding(numbers.double()), expected)
        torch.testing.assert_close(embedding.double()(numbers), expected.double(), check_dtype=False)
    assert not LevelsEmbedding(5, WIDTH).state_dict().keys() - {"table.weight"}


def test_a_whole_vector_is_one_token() -> None:
    embedding, numbers = ProjectedEmbedding(2, WIDTH), torch.tensor([[0.5, -1.0]])
    assert torch.equal(embedding(numbers), nn.functional.linear(numbers, embedding.weight, embedding.bias)[:, None])


# Observations


def test_a_token_of_several_symbols_is_the_mean_of_theirs() -> None:
    embedding = embed_observation(ModalityTokens("grid", 2, (4, 3)), WIDTH)
    assert isinstance(embedding, ColumnsEmbedding)
    first, second = (table.weight for table in embedding.tables)
    symbols = torch.tensor([[3, 0, 1, 2]])  # of two tokens
    expected = torch.stack([(first[3] + second[0]) / 2, (first[1] + second[2]) / 2])
    torch.testing.assert_close(embedding(symbols)[0], expected)


def codes() -> Tensor:
    return torch.randn(8, WIDTH, generator=small.generator()).requires_grad_()


def test_code_vectors_are_the_tokenizers_own_as_they_are_now() -> None:
    vectors, tokens = codes(), torch.tensor([[1, 7, 7]])
    embedding = CodeEmbedding(small.Codes(vectors), WIDTH)
    assert not embedding.state_dict() and torch.equal(embedding(tokens), vectors[tokens])
    with torch.no_grad():
        vectors.add_(1)
    assert torch.equal(embedding(tokens), vectors[tokens]) and not embedding(tokens).requires_grad


def test_code_vectors_are_mapped_to_another_width_without_a_gradient_of_their_own() -> None:
    vectors, tokens = codes(), torch.tensor([[1, 7, 7]])
    embedding = CodeEmbedding(small.Codes(vectors), 4)
    assert embedding.state_dict().keys() == {"project.weight", "project.bias"}
    embedded = embedding(tokens)
    assert torch.equal(embedded, embedding.project(vectors[tokens]))
    embedded.sum().backward()
    assert vectors.grad is None and embedding.project.weight.grad is not None


def test_the_tokenizer_of_pictures_is_coded_and_no_part_of_the_embedding() -> None:
    tokenizer = small.image_tokenizer()
    assert isinstance(tokenizer, CodedTokenizer)
    embedding = CodeEmbedding(tokenizer, tokenizer.embed_dim)
    assert not list(embedding.modules())[1:] or tokenizer not in embedding.modules()
    assert not list(embedding.parameters())
