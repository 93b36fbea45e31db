"""REM's tokenizer against the golden vectors."""

import pytest
import torch

from tests.golden import rem_components
from tests.golden.support import load_case

CASES = ["tokenizer_8x8_style", "tokenizer_4x4_style"]
DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", DTYPES)
@torch.no_grad()
def test_encode_and_decode(name: str, dtype: torch.dtype) -> None:
    case = load_case("rem", name)
    tokenizer = rem_components.tokenizer(case.config, case.group("param.")).to(dtype)
    z = tokenizer.latents(case["in.observations"].flatten(0, 1).to(dtype))
    tokens, codes = tokenizer.quantise(z)
    case.assert_close(z, "out.z")
    case.assert_close(tokens, "out.tokens")
    case.assert_close(codes, "out.z_quantized")
    reconstruction = (tokenizer.decode_codes(codes) + 1) / 2
    case.assert_close(reconstruction, "out.reconstruction_postprocessed")
    torch.testing.assert_close(tokenizer.decode(tokens), reconstruction.clamp(0, 1))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_and_gradients(name: str, dtype: torch.dtype) -> None:
    case = load_case("rem", name)
    model = rem_components.tokenizer_model(case.config)
    tokenizer = rem_components.tokenizer(case.config, case.group("param.")).to(dtype)
    losses = tokenizer.loss(case["in.observations"].flatten(0, 1).to(dtype))
    losses.total.backward()
    case.assert_close(losses.total, "out.loss_total")
    for loss, value in losses.named().items():
        case.assert_close(value, f"out.{loss}_loss")
    gradients = rem_components.gradients(tokenizer, "tokenizer.parts.image.")
    expected = rem_components.renamed("tokenizer", case.group("grad."), model)
    rtol, atol = case.tolerance("out.z")
    assert gradients.keys() == expected.keys()
    for key, gradient in gradients.items():
        torch.testing.assert_close(
            gradient.float(), expected[key], rtol=rtol, atol=atol, msg=lambda t, k=key: f"{k}: {t}"
        )
