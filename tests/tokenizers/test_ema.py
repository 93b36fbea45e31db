"""A codebook of moving averages: the public implementation with the same codes, and the replacement of dead ones."""

import pytest
import torch
from torch import Tensor
from vector_quantize_pytorch import VectorQuantize

from tests import small
from tests.synchronisation import without_synchronisation
from tokenworlds.config import MovingCodebookConfig, Quantiser
from tokenworlds.tokenizers.ema import MovingCodebook

WIDTH = 4


def codebook(vocab_size: int = 6, reset_after: int = 0, beta: float = 0.25) -> MovingCodebook:
    return MovingCodebook(vocab_size, WIDTH, beta, MovingCodebookConfig(reset_after=reset_after)).train()


def latents(seed: int, count: int = 3) -> Tensor:
    return torch.randn(count, WIDTH, 2, 2, generator=small.generator(seed))


def test_updates_are_those_of_the_public_implementation() -> None:
    ours = codebook()
    theirs = VectorQuantize(
        WIDTH, 6, decay=0.99, eps=1e-5, commitment_weight=0.25, threshold_ema_dead_code=0, accept_image_fmap=True
    ).train()
    theirs._codebook.embed.copy_(ours.weight[None])
    theirs._codebook.embed_avg.copy_(ours.weight[None])
    for seed in range(20):
        z = latents(seed).requires_grad_()
        quantised = ours.straight_through(z)
        codes, tokens, commitment = theirs(z)
        torch.testing.assert_close(quantised.codes, codes)
        torch.testing.assert_close(quantised.commitment, commitment.squeeze())
        torch.testing.assert_close(ours.weight, theirs._codebook.embed[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.counts, theirs._codebook.cluster_size[0])
    assert len(tokens.unique()) > 1


def test_the_gradient_passes_straight_through_and_the_codebook_has_none() -> None:
    quantiser, z = codebook(), latents(0).requires_grad_()
    quantised = quantiser.straight_through(z)
    (gradient,) = torch.autograd.grad(quantised.codes.sum(), z)
    assert torch.equal(gradient, torch.ones_like(z))
    assert not list(quantiser.parameters())


def test_tokens_are_those_of_the_nearest_codes_and_evaluation_changes_nothing() -> None:
    quantiser, z = codebook().eval(), latents(1)
    before = {name: value.clone() for name, value in quantiser.state_dict().items()}
    expected = torch.cdist(z.movedim(1, -1), quantiser.weight).argmin(dim=-1)
    assert torch.equal(quantiser.tokens(z), expected)
    torch.testing.assert_close(quantiser.straight_through(z).codes, quantiser(expected).movedim(-1, 1))
    assert all(torch.equal(value, before[name]) for name, value in quantiser.state_dict().items())


def test_codes_without_use_for_so_many_updates_are_replaced_by_latents_of_the_batch() -> None:
    quantiser = codebook(vocab_size=3, reset_after=3)
    quantiser.weight.copy_(torch.tensor([[1.0], [-50.0], [60.0]]).expand(-1, WIDTH))
    quantiser.sums.copy_(quantiser.weight)
    revived = []
    for seed in range(3):
        z = 1 + latents(seed) / 10
        if seed == 1:
            z[0, :, 0, 0] = 60.0  # a use, from which its updates are counted anew
        quantiser.weight[1:] = torch.tensor([[-50.0], [60.0]])
        revived.append(float(quantiser.straight_through(z).measured["codes_revived"]))
    assert revived == [0, 0, 1]
    batch = z.movedim(1, -1).flatten(0, 2)
    assert (batch == quantiser.weight[1]).all(dim=1).any() and torch.equal(quantiser.sums[1], quantiser.weight[1])
    assert quantiser.counts[1] == 1 and quantiser.unused.tolist() == [0, 0, 1]
    assert quantiser.weight[2, 0] > 10


@pytest.mark.parametrize("reset_after", [0, 2])
def test_updates_wait_for_nothing_and_draw_only_to_replace(reset_after: int) -> None:
    quantiser = codebook(reset_after=reset_after)
    torch.manual_seed(0)
    with without_synchronisation():
        quantiser.straight_through(latents(0))
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert (drawn == torch.rand(1)).item() == (reset_after == 0)


def test_a_tokenizer_learns_without_a_codebook_term() -> None:
    tokenizer = small.image_tokenizer(quantiser=Quantiser.ema, beta=0.25).train()
    frames = small.frames(2)
    z = tokenizer.latents(frames)
    codes = tokenizer.quantise(z)[1].clone()
    losses = tokenizer.loss(frames)
    torch.testing.assert_close(losses.commitment, 0.25 * (z - codes).square().mean())
    losses.total.backward()
    assert all(parameter.grad is not None for parameter in tokenizer.parameters())
    assert "embedding.weight" in tokenizer.state_dict()
