"""The ensemble: who learns from what, its disagreement, and the reward that it is."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests import small
from tests.synchronisation import without_synchronisation
from tests.world_models.test_parallel import model, start
from tests.world_models.test_token import BLOCKS, LAYOUTS, batch
from tokenworlds.config import CuriosityConfig, Decoding, ReadOut
from tokenworlds.world_models.curiosity import Ensemble
from tokenworlds.world_models.token import CuriousLosses, TokenWorldModel

MEMBERS, WIDTH, VOCABULARY = 4, 6, 5
LAYOUT = LAYOUTS["all modalities, three numbers an action"]
EVEN = torch.ones(MEMBERS, BLOCKS, dtype=torch.bool)


def ensemble(members: int = MEMBERS) -> Ensemble:
    return small.spread(Ensemble(members, WIDTH, VOCABULARY), std=0.5)


def outputs(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, WIDTH, generator=small.generator(seed))


def member(of: Ensemble, index: int) -> nn.Sequential:
    """One of the networks, with modules of torch's."""
    hidden = 2 * WIDTH
    network = nn.Sequential(
        nn.Linear(WIDTH, hidden), nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, VOCABULARY)
    ).requires_grad_(False)
    parts = (of.weight1, of.bias1, of.norm_weight, of.norm_bias, of.weight2, of.bias2)
    for parameter, stacked in zip(network.parameters(), parts, strict=True):
        parameter.copy_(stacked[index])
    return network


@torch.no_grad()
def test_members_are_networks_side_by_side() -> None:
    networks, x = ensemble(), outputs(7)
    together = networks(x.unsqueeze(0))
    own = networks(torch.stack([outputs(7, seed=seed) for seed in range(MEMBERS)]))
    for index in range(MEMBERS):
        torch.testing.assert_close(together[index], member(networks, index)(x))
        torch.testing.assert_close(own[index], member(networks, index)(outputs(7, seed=index)))


def test_members_start_as_different_linear_layers_of_torch() -> None:
    fresh = Ensemble(3, 64, 8)
    for weight, bias, fan_in in ((fresh.weight1, fresh.bias1, 64), (fresh.weight2, fresh.bias2, 128)):
        for part in (weight, bias):
            assert part.abs().max() <= fan_in**-0.5
            assert not torch.equal(part[0], part[1])
        assert weight.std().item() == pytest.approx((3 * fan_in) ** -0.5, rel=0.05)
    assert (fresh.norm_weight == 1).all() and not fresh.norm_bias.any()


@pytest.mark.parametrize(
    ("batch", "owners"),
    [
        (8, [0, 0, 1, 1, 2, 2, 3, 3]),
        (5, [0, 0, 1, 1, 2]),  # the last batch of an evaluation
        (3, [0, 1, 2]),
        (9, [0, 0, 0, 1, 1, 1, 2, 2, 2]),
    ],
)
def test_each_member_predicts_its_own_part_of_a_batch(batch: int, owners: list[int]) -> None:
    networks, x = ensemble(), outputs(batch, 3)
    split = networks.split(x)
    assert split.shape == (batch, 3, VOCABULARY)
    with torch.no_grad():
        for row, owner in enumerate(owners):
            torch.testing.assert_close(split[row], member(networks, owner)(x[row]))


@pytest.mark.parametrize("row", range(8))
def test_a_member_learns_from_its_own_part_alone(row: int) -> None:
    networks = ensemble()
    F.cross_entropy(networks.split(outputs(8, 3))[row], torch.tensor([0, 1, 4])).backward()
    for name, parameter in networks.named_parameters():
        learned = parameter.grad.flatten(1).abs().sum(dim=1) > 0
        assert learned.tolist() == [index == row // 2 for index in range(MEMBERS)], name


@torch.no_grad()
def test_equal_members_agree_and_others_do_not() -> None:
    networks, x = ensemble(), outputs(6, 3)
    found = networks.disagreement(x)
    assert found.shape == (6, 3) and (found > 1e-3).all() and (found < math.log(MEMBERS)).all()
    for parameter in networks.parameters():
        parameter.copy_(parameter[:1].expand_as(parameter).clone())
    torch.testing.assert_close(networks.disagreement(x), torch.zeros(6, 3), rtol=0, atol=1e-6)


@torch.no_grad()
def test_disagreement_is_the_mean_divergence_from_the_mean_prediction() -> None:
    """Of Kullback and Leibler, in nats."""
    networks, x = ensemble(), outputs(6)
    p = torch.stack([member(networks, index)(x).softmax(dim=-1) for index in range(MEMBERS)])
    mean = p.mean(dim=0)
    expected = (p * (p / mean).log()).sum(dim=-1).mean(dim=0)
    torch.testing.assert_close(networks.disagreement(x), expected)


# In a world model


def curious(members: int = MEMBERS, real: float = 1.0, intrinsic: float = 1.0, **changes: object) -> TokenWorldModel:
    settings = {"read_out": ReadOut.prediction, "curiosity": CuriosityConfig(members, real, intrinsic)} | changes
    return model(LAYOUT, **settings)


def plain(world_model: TokenWorldModel) -> TokenWorldModel:
    """The same without an ensemble."""
    other = curious(members=0)
    state = {key: value for key, value in world_model.state_dict().items() if not key.startswith("ensemble.")}
    other.load_state_dict(state)
    return other


@torch.no_grad()
def test_the_loss_is_that_of_each_members_own_segments() -> None:
    """The mean over all tokens that count, each summed over its symbols: for a member, one vocabulary of all columns is
    split for the loss as for the heads."""
    world_model, mask = curious(), torch.arange(BLOCKS) < torch.tensor([4, 3, 2, 4])[:, None]
    data = batch(LAYOUT, mask)
    losses = world_model.loss(**data)
    assert isinstance(losses, CuriousLosses)
    assert list(losses.named()) == ["observations", "rewards", "ends", "curiosity"]
    assert losses.total == losses.observations + losses.rewards + losses.ends + losses.curiosity
    predicting, _ = world_model.outputs(data["tokens"], data["actions"])
    errors = []
    for b, t in mask.nonzero().tolist():
        for index in range(LAYOUT.num_tokens if t >= world_model.unscored_blocks else 0):
            modality, where = LAYOUT.place(index)
            logits = world_model.ensemble[modality.name](predicting[b, t, index].view(1, 1, -1))[b, 0]
            columns = logits.split(list(modality.vocab_sizes))
            errors.append(sum(map(F.cross_entropy, columns, data["tokens"][b, t, where])))
    torch.testing.assert_close(losses.curiosity, torch.stack(errors).mean())


def test_the_ensemble_leaves_the_rest_alone() -> None:
    world_model, data = curious(), batch(LAYOUT, EVEN)
    world_model.loss(**data).curiosity.backward()
    for name, parameter in world_model.named_parameters():
        assert (parameter.grad is not None) == name.startswith("ensemble."), name
    world_model.zero_grad()
    other = plain(world_model)
    world_model.loss(**data).total.backward()
    other.loss(**data).total.backward()
    for name, parameter in other.named_parameters():
        torch.testing.assert_close(world_model.get_parameter(name).grad, parameter.grad)


@pytest.mark.parametrize("rows", [1, 3, 5])
@torch.no_grad()
def test_batches_of_any_size_can_be_evaluated(rows: int) -> None:
    mask = torch.ones(rows, BLOCKS, dtype=torch.bool)
    assert curious().loss(**batch(LAYOUT, mask)).curiosity > 0


def test_an_update_waits_for_nothing() -> None:
    world_model, data = curious(), batch(LAYOUT, EVEN)
    world_model.loss(**data)  # what is made once
    with without_synchronisation():
        world_model.loss(**data).total.backward()


@pytest.mark.parametrize("decoding", small.TOKENWISE, ids=lambda decoding: decoding.name)
@torch.no_grad()
def test_disagreement_is_added_to_the_reward_with_its_weight(decoding: Decoding) -> None:
    """Summed over the modalities, of each the mean over its tokens."""
    read_out = ReadOut.action if decoding is Decoding.autoregressive else ReadOut.prediction
    found, predicted = {}, []
    for weights in ((1.0, 0.0), (0.0, 1.0), (3.0, 10.0)):
        world_model = curious(real=weights[0], intrinsic=weights[1], decoding=decoding, read_out=read_out)
        predict = world_model.predict

        def watched(*given: object, predict: object = predict) -> object:
            predicted.append(predict(*given))
            return predicted[-1]

        world_model.predict = watched
        state, actions, noise = start(world_model, 1)
        _, found[weights], _ = world_model.step(state, actions[:, 0], noise.step(0))
    real, intrinsic = found[1.0, 0.0], found[0.0, 1.0]
    assert set(real.tolist()) <= {-1.0, 0.0, 1.0} and real.any()
    torch.testing.assert_close(found[3.0, 10.0], 3 * real + 10 * intrinsic)
    expected = torch.zeros_like(intrinsic)
    for modality in LAYOUT.modalities:
        tokens = [index for index in range(LAYOUT.num_tokens) if LAYOUT.place(index)[0] is modality]
        disagreement = world_model.ensemble[modality.name].disagreement
        expected += torch.stack([disagreement(predicted[-1].token_outputs[:, index]) for index in tokens]).mean(dim=0)
    torch.testing.assert_close(intrinsic, expected)
    assert (intrinsic > 0).all()


@torch.no_grad()
def test_certain_members_disagree_by_the_entropy_of_their_votes() -> None:
    networks = ensemble(2)
    networks.weight2.zero_()
    networks.bias2.zero_()
    networks.bias2[0, 0] = networks.bias2[1, 3] = 1e4
    torch.testing.assert_close(networks.disagreement(outputs(3)), torch.full((3,), math.log(2)))
