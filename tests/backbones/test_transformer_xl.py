"""What only Transformer-XL has: scores of distances."""

import torch

from tests.backbones.test_law import build, inputs
from tokenworlds.backbones.transformer_xl import RelativeAttention, TransformerXLBackbone
from tokenworlds.config import Backbone


def waves_of(distance: int, width: int) -> torch.Tensor:
    """Cosine and sine of minus the distance, at the frequencies of Vaswani et al. 2017."""
    angles = -distance * 10_000.0 ** (-2 / width * torch.arange(width // 2, dtype=torch.float64))
    return torch.cat([angles.cos(), angles.sin()])


@torch.no_grad()
def test_scores_are_the_four_terms_of_the_paper() -> None:
    """Dai et al. 2019, section 3.3, query by query and key by key."""
    backbone, x = build(Backbone.transformer_xl, torch.float64), inputs(6, torch.float64)
    assert isinstance(backbone, TransformerXLBackbone)
    attention = backbone.blocks[0].attention
    assert isinstance(attention, RelativeAttention)
    heads, width = 2, 8
    q, k, v = attention.query_key_value(x).view(2, 6, 3, heads, width // heads).unbind(2)
    u, bias = attention.content_bias.view(heads, -1), attention.distance_bias.view(heads, -1)
    scores = torch.full((2, heads, 6, 6), -torch.inf, dtype=torch.float64)
    for i in range(6):
        for j in range(i + 1):
            r = attention.distance(waves_of(i - j, width)).view(heads, -1)
            terms = q[:, i] * k[:, j] + q[:, i] * r + u * k[:, j] + bias * r
            scores[:, :, i, j] = terms.sum(dim=-1) / (width // heads) ** 0.5
    mixed = torch.einsum("bhij,bjhd->bihd", scores.softmax(dim=-1), v).flatten(2)
    found = attention(x, None, backbone.positions.weight[:6], None)
    torch.testing.assert_close(found, attention.projection(mixed), rtol=1e-6, atol=1e-6)  # waves are float32


@torch.no_grad()
def test_where_a_sequence_is_does_not_matter() -> None:
    """Without other tokens before it: attention knows distances alone."""
    backbone, x = build(Backbone.transformer_xl), inputs(5)
    assert isinstance(backbone, TransformerXLBackbone)
    positions = backbone.positions.weight
    here, there = (backbone._run(x, positions[start : start + 5], None) for start in (0, 9))
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_initial_biases_of_queries_are_small() -> None:
    backbone = build(Backbone.transformer_xl)
    backbone.initialise()
    assert isinstance(backbone, TransformerXLBackbone)
    for block in backbone.blocks:
        for bias in (block.attention.content_bias, block.attention.distance_bias):
            assert 0 < bias.abs().max() < 0.1
