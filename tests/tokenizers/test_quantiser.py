"""The quantiser on the unit sphere: what a token is, who gets which gradient, how the codebook moves."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests import small
from tests.synchronisation import without_synchronisation
from tokenworlds.tokenizers.quantiser import SphericalQuantiser

VOCABULARY, EMBED_DIM, WIDTH = 32, 4, 6


def quantiser(revival_updates: int | None = 0, vocab_size: int = VOCABULARY, seed: int = 0) -> SphericalQuantiser:
    """With codes all over the sphere."""
    result = small.spread(SphericalQuantiser(vocab_size, EMBED_DIM, WIDTH, revival_updates), seed=seed)
    result.codebook.copy_(F.normalize(torch.randn(result.codebook.shape, generator=small.generator(seed)), dim=1))
    return result


def vectors(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, WIDTH, generator=small.generator(seed))


def directions(module: SphericalQuantiser, z: Tensor) -> Tensor:
    return F.normalize(module.project_in(z), dim=-1)


@torch.no_grad()
def test_the_token_is_the_code_of_the_largest_cosine() -> None:
    module, z = quantiser().eval(), vectors(5, 3)
    cosines = F.cosine_similarity(directions(module, z).unsqueeze(-2), module.codebook, dim=-1)
    quantised = module(z)
    assert torch.equal(quantised.tokens, cosines.argmax(dim=-1))
    assert torch.equal(module.tokens(z), quantised.tokens)
    torch.testing.assert_close(module.embed(quantised.tokens), quantised.codes)
    torch.testing.assert_close(quantised.codes, module.project_out(module.codebook[quantised.tokens]))


@torch.no_grad()
def test_the_first_of_equal_codes_is_chosen() -> None:
    module = quantiser().eval()
    module.codebook[:] = module.codebook[3]
    assert not module.tokens(vectors(10)).any()


def test_the_gradient_passes_straight_through() -> None:
    module, z = quantiser().eval(), vectors(7)
    codes = module.codebook[module.tokens(z)].clone().requires_grad_()
    module.project_out(codes).square().sum().backward()
    expected = torch.autograd.grad(directions(module, z), module.project_in.weight, codes.grad)[0]
    straight = torch.autograd.grad(module(z).codes.square().sum(), module.project_in.weight)[0]
    torch.testing.assert_close(straight, expected)


def test_commitment_pulls_the_vectors_alone() -> None:
    module, z = quantiser().eval(), vectors(7).requires_grad_()
    quantised = module(z)
    nearest = module.codebook[quantised.tokens]
    torch.testing.assert_close(quantised.commitment, (directions(module, z) - nearest).square().mean())
    quantised.commitment.backward()
    assert z.grad is not None and z.grad.any() and module.project_in.weight.grad is not None
    assert module.project_out.weight.grad is None


def test_in_evaluation_mode_nothing_moves() -> None:
    module = quantiser(None).eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    quantised = module(vectors(40))
    assert quantised.entropy == 0 and quantised.revived == 0
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_tokens_alone_never_move_the_codebook() -> None:
    module = quantiser(None).train()
    before = module.codebook.clone()
    module.tokens(vectors(40))
    assert torch.equal(module.codebook, before) and module.updates == 0


def test_a_code_follows_the_mean_direction_of_its_vectors() -> None:
    """Against the definition, code by code; one that nobody chose stays."""
    module, z = quantiser(0).train(), vectors(8, 3)
    codebook, frequencies = module.codebook.clone(), module.frequencies.clone()
    quantised = module(z)
    v, tokens = directions(module, z).detach().flatten(0, 1), quantised.tokens.flatten()
    assert 1 < len(tokens.unique()) < VOCABULARY
    for code in range(VOCABULARY):
        chosen = v[tokens == code]
        expected = codebook[code]
        if len(chosen):
            expected = F.normalize(0.99 * expected + 0.01 * F.normalize(chosen.mean(dim=0), dim=0), dim=0)
        torch.testing.assert_close(module.codebook[code], expected)
        share = len(chosen) / len(tokens)
        torch.testing.assert_close(module.frequencies[code], 0.98 * frequencies[code] + 0.02 * share)
    used = module.frequencies[module.frequencies > 0].double()
    torch.testing.assert_close(quantised.entropy.double(), -(used * used.log2()).sum(), rtol=1e-5, atol=1e-5)
    assert module.updates == 1 and quantised.revived == 0


def unused(module: SphericalQuantiser, used: int) -> SphericalQuantiser:
    """Only the first ``used`` codes have been chosen for long."""
    module.frequencies.zero_()
    module.frequencies[:used] = 1 / used
    return module


def moved_to(module: SphericalQuantiser, z: Tensor) -> tuple[Tensor, Tensor]:
    """Which codes an update has put on which vector (code, vector)."""
    before = module.codebook.clone()
    v = directions(module, z).detach()
    module(z)
    is_same = torch.isclose(module.codebook.unsqueeze(1), v, rtol=0, atol=1e-6).all(dim=-1)
    has_moved = ~torch.isclose(module.codebook, before, rtol=0, atol=1e-3).all(dim=-1)
    codes, places = (is_same & has_moved.unsqueeze(1)).nonzero(as_tuple=True)
    return codes, places


@pytest.mark.parametrize(
    ("revival_updates", "updates", "used", "is_revived"),
    [
        (None, 10**6, 4, True),
        (3, 2, 4, True),
        (3, 3, 4, False),  # the cap is reached
        (0, 0, 4, False),
        (0, 0, 1, True),  # below one bit in any case
        (None, 0, 16, False),  # not two bits below the largest entropy
    ],
)
def test_when_unused_codes_are_revived(revival_updates: int | None, updates: int, used: int, is_revived: bool) -> None:
    module = unused(quantiser(revival_updates).train(), used)
    module.updates.fill_(updates)
    revived = module(vectors(2).expand(64, 2, WIDTH)).revived  # two codes at the most get used by this batch
    assert (revived > 0) == is_revived
    assert module.updates == updates + 1


def test_revived_codes_are_vectors_of_the_batch_each_taken_once() -> None:
    module, z = unused(quantiser(None).train(), 4), vectors(100)
    z[1:] = z[1:] * 1e-3 + z[0]  # all of them near one another, so that few codes get used
    codes, places = moved_to(module, z)
    expired = (module.frequencies * VOCABULARY).isclose(torch.tensor(1.0))
    assert len(codes.unique()) == len(places.unique()) == len(codes) == expired.sum() > 20
    torch.testing.assert_close(module.frequencies[codes], torch.full((len(codes),), 1 / VOCABULARY))
    assert places.tolist() != sorted(places.tolist())
    torch.testing.assert_close(module.codebook.norm(dim=1), torch.ones(VOCABULARY))


def test_no_more_codes_are_revived_than_there_are_vectors() -> None:
    module, z = unused(quantiser(None).train(), 2), vectors(5)
    codes, _ = moved_to(module, z)
    assert len(codes) == 5
    module = unused(quantiser(None).train(), 2)
    assert module(z).revived == 5
    assert (module.frequencies == 1 / VOCABULARY).sum() == 5


def test_expired_codes_come_first_and_in_random_order() -> None:
    module = quantiser(None)
    is_expired = torch.arange(VOCABULARY) % 3 == 0
    count = int(is_expired.sum())
    orders = [module.revival_order(is_expired, 50) for _ in range(20)]
    for codes, places in orders:
        assert torch.equal(codes.sort().values, torch.arange(VOCABULARY))
        assert torch.equal(places.sort().values, torch.arange(50))
        assert is_expired[codes[:count]].all()
    assert len({tuple(codes[:count].tolist()) for codes, _ in orders}) == 20
    assert len({tuple(places.tolist()) for _, places in orders}) == 20


def test_an_update_does_not_wait_for_the_device() -> None:
    module = unused(quantiser(None).train(), 4)
    with without_synchronisation():
        module(vectors(40))


def test_the_codebook_moves_in_single_precision_under_autocast() -> None:
    """Same tokens, same codebook, whatever the precision of the networks; only similarities are rounded."""
    exact, rounded = quantiser(0).train(), quantiser(0).train()
    z = vectors(50)
    exact.project_in.weight.data = exact.project_in.weight.data.bfloat16().float()
    rounded.load_state_dict(exact.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        quantised = rounded(z.bfloat16())
    assert rounded.codebook.dtype == rounded.frequencies.dtype == quantised.commitment.dtype == torch.float32
    torch.testing.assert_close(rounded.codebook.norm(dim=1), torch.ones(VOCABULARY))
    agree = (quantised.tokens == exact(z.bfloat16().float()).tokens).float().mean()
    assert agree > 0.9
    counts = torch.bincount(quantised.tokens, minlength=VOCABULARY)
    torch.testing.assert_close(rounded.frequencies, 0.98 / VOCABULARY + 0.02 * counts / 50)
