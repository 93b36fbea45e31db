"""IRIS's tokenizer and perceptual distance against the golden vectors."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from tests.golden import iris_components
from tests.golden.support import Case, load_case
from tokenworlds.tokenizers.image import TokenizerLosses
from tokenworlds.tokenizers.lpips import LPIPS, from_reference

CASES = ["tokenizer_a", "tokenizer_b"]
DTYPES = {"float32": "expected", "float64": "expected64"}


def flat(case: Case, key: str) -> torch.Tensor:
    return case[key].flatten(0, 1)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_encode(name: str, dtype: str) -> None:
    case = load_case("iris", name)
    group = DTYPES[dtype]
    tokenizer = iris_components.tokenizer(case.config, case.group("param.")).to(getattr(torch, dtype))
    frames = iris_components.floats(flat(case, "input.observations"), getattr(torch, dtype))
    z = tokenizer.latents(frames)
    tokens, codes = tokenizer.quantise(z)
    case.assert_close(z.view_as(case[f"{group}.encode.z"]), f"{group}.encode.z")
    case.assert_close(codes.view_as(case[f"{group}.encode.z_q"]), f"{group}.encode.z_q")
    case.assert_close(tokens.view_as(case["expected.encode.tokens"]), "expected.encode.tokens")
    margin = (
        torch.cdist(z.movedim(1, -1).reshape(-1, z.shape[1]), tokenizer.embedding.weight).square().sort(dim=1).values
    )
    assert (margin[:, 1] - margin[:, 0]).min() > 0.5 * case["expected.encode.token_margin"]


@pytest.mark.parametrize("name", CASES)
def test_decode(name: str) -> None:
    """In float64, within the float32 tolerance: the rounding of a float32 decoder depends on the convolution kernels of
    the processor, and reaches 1.8e-5 on some elements (the vectors' own float32 numbers are up to 1.5e-5 from the exact
    ones, against a tolerance of 1e-5)."""
    case = load_case("iris", name)
    tokenizer = iris_components.tokenizer(case.config, case.group("param.")).double()
    tokens = flat(case, "expected.encode.tokens")
    exact = tokenizer.decode_codes(tokenizer.codes(tokens))
    raw = exact.view_as(case["expected.decode.raw"])
    for key in ("expected.decode.raw", "expected64.decode.raw"):
        if key in case.tensors:
            case.assert_close(raw, key)
    case.assert_close((raw + 1) / 2, "expected.encode_decode.post")
    torch.testing.assert_close(tokenizer.decode(tokens), ((exact + 1) / 2).clamp(0, 1))
    single = tokenizer.float().decode_codes(tokenizer.codes(tokens))
    assert (single - exact).norm() < 1e-5 * exact.norm()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("perceptual", [True, False])
def test_losses_and_gradients(name: str, dtype: str, perceptual: bool) -> None:
    """Gradients in float64 also within the float32 tolerance: where an activation of the perceptual network is within
    its rounding of zero (one of 200,000 is 1.1e-6), the processor decides whether it passes a gradient."""
    case = load_case("iris", name)
    group = DTYPES[dtype]
    losses, gradients = differentiated(case, dtype, perceptual)
    has_perceptual = perceptual and f"{group}.losses.commitment_loss" in case.tensors
    key = f"{group}.losses" if has_perceptual else f"{group}.losses_noperc"
    case.assert_close(losses.total, f"{key}.total")
    for loss, value in losses.named().items():
        if f"{key}.{loss}_loss" in case.tensors:
            case.assert_close(value, f"{key}.{loss}_loss", dtype)
    if dtype == "float32":
        single, (_, gradients) = gradients, differentiated(case, "float64", perceptual)
        rests = torch.stack([(single[name] - exact).norm() for name, exact in gradients.items()])
        assert rests.norm() < 1e-3 * whole(gradients)
    if f"{key}.grad_norm" in case.tensors:
        case.assert_close(whole(gradients), f"{key}.grad_norm", dtype)
    if perceptual and dtype == "float32" and any(entry.startswith("grad.") for entry in case.tensors):
        expected = iris_components.renamed("tokenizer", case.group("grad."))
        rtol, atol = case.tolerance("expected.decode.raw")
        found = {name: gradients[name].float() for name in expected}  # the copy lacks some that are like others
        torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


def differentiated(case: Case, dtype: str, perceptual: bool) -> tuple[TokenizerLosses, dict[str, Tensor]]:
    """The losses of a case, and their gradients."""
    tokenizer = iris_components.tokenizer(case.config, case.group("param.")).to(getattr(torch, dtype))
    if not perceptual:
        tokenizer.lpips = None
    frames = flat(case, "input.observations")
    losses = tokenizer.loss(frames if dtype == "float32" else iris_components.floats(frames, torch.float64))
    losses.total.backward()
    return losses, iris_components.reference_gradients(tokenizer, "tokenizer", "tokenizer.parts.image.")


def whole(gradients: Mapping[str, Tensor]) -> Tensor:
    """The norm of all gradients together."""
    return torch.stack([gradient.double().norm() for gradient in gradients.values()]).norm()


@pytest.mark.parametrize("dtype", DTYPES)
def test_perceptual_distance(dtype: str) -> None:
    """Dropout of the heads is active in training mode only."""
    case = load_case("iris", "lpips_small")
    group, kind = DTYPES[dtype], getattr(torch, dtype)
    network = LPIPS(tuple(case.config["widths"]))
    network.load_state_dict(from_reference(case.group("param.")))
    network = network.eval().to(kind)
    x, y = case["input.x"].to(kind), case["input.y"].to(kind)
    masks = [case[f"input.mask{index}"].to(kind) for index in range(5)]
    case.assert_close(network(x, y).view(-1, 1, 1, 1), f"{group}.eval.value")
    case.assert_close(torch.stack([f.norm() for f in network.features(x)]), f"{group}.eval.feature_norms")
    case.assert_close(network(x, y, masks).view(-1, 1, 1, 1), f"{group}.train.value")
    assert torch.equal(network(x, y), network(x, y))
    assert not torch.equal(network.train()(x, y), network(x, y))
