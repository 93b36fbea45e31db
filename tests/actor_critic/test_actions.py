"""Distributions over the kinds of actions: probabilities add up, draws have them, numbers are averaged. Numbers of the
published code: tests/golden."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from tests import small
from tests.synchronisation import without_synchronisation
from tokenworlds.actor_critic import ActionHead, action_embedding, action_head
from tokenworlds.envs import ActionSpec, ContinuousActions, DiscreteActions, MultiDiscreteActions
from tokenworlds.ops.categorical import sample_categorical

LEVELS = 5
SPECS = [DiscreteActions(4), MultiDiscreteActions((3, 2)), ContinuousActions(2)]


@pytest.fixture(params=SPECS, ids=lambda spec: type(spec).__name__)
def spec(request: pytest.FixtureRequest) -> ActionSpec:
    return request.param


@pytest.fixture
def head(spec: ActionSpec) -> ActionHead:
    return action_head(spec, LEVELS)


def outputs(head: ActionHead, *shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, head.width, generator=small.generator(seed))


def uniforms(head: ActionHead, *shape: int, seed: int = 0) -> Tensor:
    return torch.rand(head.draws, *shape, generator=small.generator(seed))


def all_actions(spec: ActionSpec) -> Tensor:
    """Every one that a policy can choose."""
    match spec:
        case DiscreteActions(count=count):
            return torch.arange(count)
        case MultiDiscreteActions(counts=counts):
            return torch.tensor(list(product(*map(range, counts))))
        case ContinuousActions(size=size):
            return torch.tensor(list(product(torch.linspace(-1, 1, LEVELS).tolist(), repeat=size)))


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_shapes(spec: ActionSpec, head: ActionHead, shape: tuple[int, ...]) -> None:
    logits = outputs(head, *shape)
    actions = head.sample(logits, uniforms(head, *shape))
    assert actions.shape == (*shape, *spec.shape)
    assert actions.numpy().dtype == spec.dtype
    assert head.log_probability(logits, actions).shape == head.entropy(logits).shape == shape


def test_actions_are_drawn_in_their_proportions(spec: ActionSpec, head: ActionHead) -> None:
    """The uniforms are a grid; a policy's numbers are independent, their log-probability is a mean."""
    steps = 100
    grid = torch.cartesian_prod(*[(torch.arange(steps) + 0.5) / steps] * head.draws).view(-1, head.draws).T
    logits = outputs(head, 1)
    drawn = head.sample(logits.expand(grid.shape[1], -1), grid)
    numbers = head.draws if isinstance(spec, ContinuousActions) else 1
    for action in all_actions(spec):
        share = (drawn == action).view(len(drawn), -1).all(dim=1).float().mean()
        probability = (numbers * head.log_probability(logits, action.unsqueeze(0))).exp()
        torch.testing.assert_close(share, probability.squeeze(0), atol=0.03, rtol=0)


def test_entropy_is_the_mean_of_negative_log_probabilities(spec: ActionSpec, head: ActionHead) -> None:
    actions = all_actions(spec)
    logits = outputs(head, 1, seed=1)
    log_probabilities = head.log_probability(logits.expand(len(actions), -1), actions)
    numbers = head.draws if isinstance(spec, ContinuousActions) else 1
    probabilities = (numbers * log_probabilities).exp()
    torch.testing.assert_close(probabilities.sum(), torch.tensor(1.0))
    torch.testing.assert_close(-(probabilities * log_probabilities).sum(), head.entropy(logits)[0])


@pytest.mark.parametrize("spec", SPECS[1:], ids=lambda spec: type(spec).__name__)
def test_every_component_has_a_uniform_of_its_own(spec: ActionSpec) -> None:
    head = action_head(spec, LEVELS)
    logits, given = torch.zeros(1, head.width), torch.full((head.draws, 1), 0.01)
    first = head.sample(logits, given)[0]
    for index in range(head.draws):
        other = given.clone()
        other[index] = 0.99
        assert ((head.sample(logits, other)[0] != first) == (torch.arange(head.draws) == index)).all()


def test_nothing_waits_for_the_device(head: ActionHead) -> None:
    logits, given = outputs(head, 3), uniforms(head, 3)
    with without_synchronisation():
        actions = head.sample(logits, given)
        head.log_probability(logits, actions)
        head.entropy(logits)


def test_a_discrete_action_is_one_draw() -> None:
    head = action_head(small.DISCRETE, LEVELS)
    logits, given = outputs(head, 7), uniforms(head, 7)
    assert torch.equal(head.sample(logits, given), sample_categorical(logits, given[0]))


def test_a_number_between_two_levels_counts_as_the_nearest() -> None:
    head = action_head(ContinuousActions(1), LEVELS)
    logits, numbers = outputs(head, 1), torch.tensor([-3.0, -0.74, -0.3, 0.1, 0.4, 2.0])
    nearest = torch.tensor([-1.0, -0.5, -0.5, 0.0, 0.5, 1.0])
    found, expected = (head.log_probability(logits.expand(6, -1), some.unsqueeze(1)) for some in (numbers, nearest))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("levels", [2, 11, 51])
def test_levels_are_even_and_found_again(levels: int) -> None:
    head = action_head(ContinuousActions(levels), levels)
    sure = 1e4 * torch.eye(levels).flatten().unsqueeze(0)  # dimension i takes level i
    values = head.sample(sure, torch.full((levels, 1), 0.5))
    torch.testing.assert_close(values[0], torch.linspace(-1, 1, levels))
    assert head.log_probability(sure, values) == 0


# As inputs


def test_embeddings(spec: ActionSpec, head: ActionHead) -> None:
    module = action_embedding(spec, 6)
    actions = head.sample(outputs(head, 2, 3), uniforms(head, 2, 3))
    assert module(actions).shape == (2, 3, 6)
    assert module.double()(actions).dtype is torch.float64


def test_the_embedding_of_several_choices_is_the_mean_of_theirs() -> None:
    module = action_embedding(MultiDiscreteActions((3, 2)), 6)
    first, second = (table for table in module.modules() if isinstance(table, nn.Embedding))
    assert (first.num_embeddings, second.num_embeddings) == (3, 2)
    expected = (first.weight[2] + second.weight[1]) / 2
    torch.testing.assert_close(module(torch.tensor([[2, 1]]))[0], expected)
