"""Delta-IRIS's convolutional stacks, quantiser and tokenizer against the golden vectors."""

import re

import pytest
import torch
from torch import Tensor

from tests.golden import delta_components
from tests.golden.support import Case, load_case
from tokenworlds.ops.convolutions import FrameDecoder, FrameEncoder
from tokenworlds.tokenizers.delta import DeltaTokenizer, DeltaTokenizerLosses
from tokenworlds.tokenizers.quantiser import SphericalQuantiser

DTYPES = {"float32": "expected", "float64": "expected64"}


def transitions(case: Case, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    frames = delta_components.floats(case, dtype=dtype)
    return frames[:, :-1].flatten(0, 1), case["input.actions"][:, :-1].flatten(), frames[:, 1:].flatten(0, 1)


def assert_close(case: Case, actual: Tensor, key: str) -> None:
    """With the leading dimensions of the expected tensor merged or not."""
    case.assert_close(actual.reshape(case[key].shape), key)


@pytest.mark.golden("delta_iris/convnets")
@pytest.mark.parametrize("dtype", DTYPES)
@torch.no_grad()
def test_convolutional_stacks(dtype: str) -> None:
    case, kind = load_case("delta_iris", "convnets"), getattr(torch, dtype)
    x = case["input.x"].flatten(0, 1).to(kind)
    settings, mirrored = case.config["encoder"], case.config["decoder"]
    encoder = FrameEncoder(delta_components.encoder(settings), x.shape[-1], settings["image_channels"])
    decoder = FrameDecoder(delta_components.stack(mirrored), mirrored["latent_dim"], mirrored["image_channels"])
    delta_components.load(encoder, "tokenizer.encoder", case.group("param.enc."))
    delta_components.load(decoder, "tokenizer.decoder", case.group("param.dec."))
    z = encoder.to(kind)(x)
    assert z.shape[-1] == encoder.grid
    assert_close(case, z, f"{DTYPES[dtype]}.z")
    assert_close(case, decoder.to(kind)(z), f"{DTYPES[dtype]}.r")


@torch.no_grad()
def test_encode_and_decode() -> None:
    case = load_case("delta_iris", "tokenizer")
    tokenizer = delta_components.tokenizer(case)
    frames, actions, following = transitions(case)
    z = tokenizer.latents(frames, actions, following)
    quantised = tokenizer.quantiser(z)
    assert_close(case, tokenizer.join(z), "expected.z")
    assert_close(case, quantised.tokens, "expected.tokens")
    assert_close(case, tokenizer.encode(frames, actions, following), "expected.tokens")
    assert_close(case, quantised.codes, "expected.q")
    assert_close(case, tokenizer.join(quantised.codes), "expected.q_map")
    assert_close(case, tokenizer.quantiser.embed(quantised.tokens), "expected.embed")
    assert_close(case, tokenizer.reconstruct(frames, actions, quantised.codes), "expected.rec")


@torch.no_grad()
def test_reconstruction_in_double_precision() -> None:
    case = load_case("delta_iris", "tokenizer")
    tokenizer = delta_components.tokenizer(case).double()
    frames, actions, following = transitions(case, torch.float64)
    codes = tokenizer.quantiser(tokenizer.latents(frames, actions, following)).codes
    assert_close(case, tokenizer.reconstruct(frames, actions, codes), "expected64.rec")


@pytest.mark.parametrize("key", ["expected.rec_clamped", "expected.encode_decode"])
@torch.no_grad()
def test_decoded_frames_have_eight_bits(key: str) -> None:
    """A value within 1e-4 of a tie may be rounded to the other side."""
    case = load_case("delta_iris", "tokenizer")
    tokenizer = delta_components.tokenizer(case)
    frames, actions, following = transitions(case)
    tokens = tokenizer.encode(frames, actions, following)
    levels = tokenizer.decode(frames, actions, tokens) * 255
    expected = case[key].flatten(0, 1) * 255
    exact = tokenizer.reconstruct(frames, actions, tokenizer.quantiser.embed(tokens)).clamp(0, 1) * 255
    is_tie = ((exact - exact.floor()) - 0.5).abs() < 1e-4 * 255
    torch.testing.assert_close(levels[~is_tie], expected[~is_tie], rtol=0, atol=1e-3)
    torch.testing.assert_close(levels, expected, rtol=0, atol=1 + 1e-3)
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)


def losses_of(case: Case, tokenizer: DeltaTokenizer, dtype: torch.dtype) -> DeltaTokenizerLosses:
    frames = case["input.observations"]
    frames = frames if dtype == torch.float32 else frames.to(dtype) / 255
    return tokenizer.loss(frames, case["input.actions"], case["input.mask_padding"].bool())


@pytest.mark.parametrize("dtype", DTYPES)
def test_losses(dtype: str) -> None:
    case, group, kind = load_case("delta_iris", "tokenizer"), DTYPES[dtype], getattr(torch, dtype)
    losses = losses_of(case, delta_components.tokenizer(case).to(kind), kind)
    assert_close(case, losses.total, f"{group}.loss_total")
    assert_close(case, losses.commitment, f"{group}.commitment_loss")
    assert_close(case, losses.l1, f"{group}.reconstruction_loss_l1")
    assert_close(case, losses.l2, f"{group}.reconstruction_loss_l2")
    assert_close(case, losses.worst_pixel, f"{group}.reconstruction_loss_l2_worst_pixel")


def test_gradients() -> None:
    case = load_case("delta_iris", "tokenizer")
    tokenizer = delta_components.tokenizer(case)
    losses_of(case, tokenizer, torch.float32).total.backward()
    delta_components.assert_gradients(case, tokenizer, "tokenizer")


class Prescribed(SphericalQuantiser):
    """Revives in the orders of a golden case."""

    orders: tuple[Tensor, Tensor] | None = None

    def revival_order(self, is_expired: Tensor, count: int) -> tuple[Tensor, Tensor]:
        if self.orders is None:  # nothing may be revived
            return super().revival_order(is_expired, count)
        expired, others = is_expired.nonzero()[:, 0], (~is_expired).nonzero()[:, 0]
        return torch.cat([expired[self.orders[0]], others]), self.orders[1]


@pytest.mark.parametrize("name", ["quantizer_revival", "quantizer_no_revival"])
def test_updates_of_the_codebook(name: str) -> None:
    case = load_case("delta_iris", name)
    config = case.config
    quantiser = Prescribed(
        config["codebook_size"],
        config["codebook_dim"],
        config["input_dim"],
        config["max_codebook_updates_with_revival"],
    )
    delta_components.load(quantiser, "tokenizer.quantizer", case.group("param."))
    calls = sum(bool(re.fullmatch(r"input\.\d+\.z", key)) for key in case.tensors)
    assert calls
    for call in range(calls):
        keys = [f"input.{call}.perm_{index}" for index in (0, 1)]
        quantiser.orders = (case[keys[0]], case[keys[1]]) if keys[0] in case.tensors else None
        z = case[f"input.{call}.z"].requires_grad_()
        quantised = quantiser(z)
        assert_close(case, quantised.tokens, f"expected.{call}.tokens")
        assert_close(case, quantised.codes, f"expected.{call}.q")
        assert_close(case, 0.02 * quantised.commitment, f"expected.{call}.commitment_loss")
        assert_close(case, quantised.entropy, f"expected.{call}.entropy")
        assert_close(case, quantised.revived, f"expected.{call}.revived")
        assert_close(case, quantiser.codebook, f"expected.{call}.codebook")
        assert_close(case, quantiser.frequencies, f"expected.{call}.codewords_freqs")
        assert_close(case, quantiser.updates, f"expected.{call}.num_codebook_updates")
        (gradient,) = torch.autograd.grad(quantised.codes.square().sum(), z)
        rtol, atol = case.tolerance("grad", "grad")
        torch.testing.assert_close(gradient, case[f"expected.{call}.grad_z_of_sum_q2"], rtol=rtol, atol=atol)
