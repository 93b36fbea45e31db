"""M3's tokenizers against the golden vectors, and those of its later state (Simulus-A)."""

import pytest
import torch
from torch import Tensor

from tests.golden import m3_components
from tests.golden.support import Case, load_case
from tokenworlds.checkpoints import m3
from tokenworlds.config import TokenModelConfig
from tokenworlds.envs import VectorSpec
from tokenworlds.ops.symlog import symexp, symlog
from tokenworlds.tokenizers.fsq import FiniteScalars
from tokenworlds.tokenizers.image import ImageTokenizer
from tokenworlds.tokenizers.vector import VectorTokenizer


def test_symlog() -> None:
    case = load_case("m3", "symlog")
    x = case["in.x"]
    case.assert_close(symlog(x), "out.symlog")
    case.assert_close(symexp(symlog(x)), "out.symexp_of_symlog")
    case.assert_close(symexp(x.clamp(-12, 12)), "out.symexp")


def test_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    case = load_case("m3", "vector_tokenizer")
    tokenizer = VectorTokenizer(VectorSpec(case.config["input_dim"]))
    assert tokenizer.vocab_sizes == (case.config["vocab_size"],)
    assert torch.equal(tokenizer.support, case["const.support"])
    assert torch.equal(tokenizer.mid_points, case["const.mid_points"])
    raw = case["in.raw"]
    case.assert_close(symlog(raw), "in.symlog")
    tokens = tokenizer.encode(raw.flatten(0, 1))
    case.assert_close(tokens.unflatten(0, raw.shape[:2]), "out.tokens")
    case.assert_close(tokenizer.codes(tokens).unflatten(0, raw.shape[:2]), "out.z_quantized")
    monkeypatch.setattr("tokenworlds.tokenizers.vector.symlog", lambda x: x)  # the edges are given in symlog
    tokens = tokenizer.encode(case["in.edge"][None])
    case.assert_close(tokens[0], "out.edge_tokens")
    case.assert_close(tokenizer.codes(tokens)[0], "out.edge_values")


def test_finite_scalars() -> None:
    case = load_case("m3", "simulus_fsq")
    scalars, z = FiniteScalars(case.config["levels"]), case["in.z"].requires_grad_()
    case.assert_close(scalars.bound(z), "out.bounded")
    codes, tokens = scalars(z), scalars.tokens(z)
    case.assert_close(codes, "out.codes")
    case.assert_close(tokens, "out.indices")
    case.assert_close(scalars.scalars(tokens), "out.codes_of_indices")
    case.assert_close(torch.autograd.grad(codes.sum(), z)[0], "out.grad_of_sum")


def renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Reference tensors of the image tokenizer under our names."""
    published = {f"tokenizer.tokenizers.image.{key}": value for key, value in tensors.items()}
    ours = m3.from_reference(published, TokenModelConfig(), num_tokens=0)
    return {key.removeprefix("tokenizer.parts.image."): value for key, value in ours.items()}


def image_tokenizer(case: Case) -> ImageTokenizer:
    """In training mode."""
    assert case.config["downsample_use_conv"]
    config = m3_components.tokenizer_config({"image": case.config}, is_later=case.json["method"] != "m3")
    tokenizer = ImageTokenizer(config, case.config["input_resolution"][0])
    tokenizer.load_state_dict(renamed(case.group("param.")))
    return tokenizer


def assert_gradients_close(tokenizer: ImageTokenizer, case: Case) -> None:
    expected = renamed(case.group("grad."))
    found = {name: parameter.grad for name, parameter in tokenizer.named_parameters()}
    rtol, atol = case.tolerance("in.x")
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


@torch.no_grad()
def assert_codes_close(tokenizer: ImageTokenizer, case: Case, prefix: str) -> None:
    """Encoded and decoded frames in evaluation mode; the reference has a dimension of time."""
    tokenizer.eval()
    shape = case["in.x"].shape[:2]
    z = tokenizer.latents(case["in.x"].flatten(0, 1))
    tokens, codes = tokenizer.quantise(z)
    case.assert_close(z.unflatten(0, shape), f"{prefix}z")
    case.assert_close(tokens.unflatten(0, shape), f"{prefix}tokens")
    case.assert_close(codes.unflatten(0, shape), f"{prefix}z_quantized")
    case.assert_close(tokenizer.codes(tokens).unflatten(0, shape), f"{prefix}codes_of_tokens")
    decoded = (tokenizer.decode_codes(codes) + 1) / 2
    case.assert_close(decoded.unflatten(0, shape), f"{prefix}reconstruction")
    torch.testing.assert_close(tokenizer.decode(tokens), decoded.clamp(0, 1))


def test_images() -> None:
    case = load_case("m3", "image_tokenizer")
    tokenizer = image_tokenizer(case)
    losses = tokenizer.loss(case["in.x"].flatten(0, 1))
    for name, loss in losses.named().items():
        case.assert_close(loss, f"out.train.{name}_loss")
    losses.total.backward()
    assert_gradients_close(tokenizer, case)
    for kind in ("mean", "var"):
        found = getattr(tokenizer.decoder.norm_in, f"running_{kind}")
        case.assert_close(found, f"out.after_train_step.decoder.cnn.0.0.running_{kind}")
    assert_codes_close(tokenizer, case, "out.eval.")


def test_images_of_finite_scalars() -> None:
    case = load_case("m3", "simulus_image_tokenizer_fsq")
    tokenizer = image_tokenizer(case)
    losses = tokenizer.loss(case["in.x"].flatten(0, 1))
    case.assert_close(losses.reconstruction, "out.reconstruction_loss")
    assert losses.commitment == losses.perceptual == 0
    losses.total.backward()
    assert_gradients_close(tokenizer, case)
    assert_codes_close(tokenizer, case, "out.")
