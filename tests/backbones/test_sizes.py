"""Backbones at the sizes of the experiments: comparable numbers of weights."""

from typing import Any

import pytest
import torch

from tests import small
from tests.pipeline.support import backbones_of
from tokenworlds import backbones
from tokenworlds.backbones import memory
from tokenworlds.config import (
    Attention,
    Backbone,
    CfCConfig,
    LlamaConfig,
    MambaConfig,
    RecurrentConfig,
    RetNetConfig,
    TransformerConfig,
    TransformerXLConfig,
    load,
)


def build(
    name: Backbone,
    max_blocks: int,
    block_size: int,
    lead: int = 0,
    *,
    embed_dim: int = 256,
    device: str = "meta",
    **sections: Any,
) -> backbones.Backbone[Any]:
    """On meta without memory for its weights."""
    config = small.world_model_config(max_blocks=max_blocks, embed_dim=embed_dim, **sections)
    with torch.device(device):
        return backbones.build(name, config, block_size, lead)


def num_weights(*args: Any, **settings: Any) -> int:
    """Arguments as of ``build``."""
    return sum(parameter.numel() for parameter in build(*args, **settings).parameters())


def retnet_weights(layers: int, width: int, values: int, hidden: int) -> int:
    """Matrices, biases, norms."""
    matrices = 2 * width**2 + 3 * width * values + 2 * width * hidden
    return layers * (matrices + (2 * width + 2 * values + width) + (hidden + width) + 4 * width)


def cfc_weights(width: int, inter: int, command: int) -> int:
    """Four matrices and biases a stage, a norm; positions in a block of 17."""
    stages = (width + inter + 1) * inter + (inter + command + 1) * command + (command + width + 1) * width
    return 4 * stages + 2 * width + 17 * width


IRIS = ["method=iris", "task=atari/Breakout", "model.tokenizer.perceptual=none"]
IRIS_SIZED = {
    "transformer": TransformerConfig(10, 4, Attention.causal, 0.1, 0.1, 0.1),
    "retnet": RetNetConfig(10, 4, value_dim=512, hidden_dim=512, dropout=0.1),
    "lstm": RecurrentConfig(num_layers=2, hidden_dim=688),
    "gru": RecurrentConfig(num_layers=2, hidden_dim=784),
    "transformer_xl": TransformerXLConfig(9, 4, 0.1, 0.1, 0.1),
    "mamba": MambaConfig(num_layers=18, expand=2, state_dim=16, conv_width=4, step_rank=16),
    "cfc": CfCConfig(num_layers=1, hidden_dim=1424, dropout=0.1),
    "llama": LlamaConfig(num_layers=10, num_heads=4, num_kv_heads=2, hidden_dim=768),
}
TRUNK = 7_898_112  # of IRIS, without positions
WEIGHTS = {
    Backbone.transformer: TRUNK + 340 * 256,
    Backbone.retnet: retnet_weights(10, 256, values=512, hidden=512),
    Backbone.lstm: 7_937_712,
    Backbone.gru: 7_787_728,
    Backbone.transformer_xl: 7_702_784,
    Backbone.mamba: 7_884_544,
    Backbone.cfc: cfc_weights(256, inter=855, command=569),
    Backbone.llama: 10 * (3 * 256**2 + 3 * 256 * 768 + 2 * 256) + 256,
}
STATES = {  # numbers of an environment
    Backbone.transformer: 2 * 10 * 340 * 256,
    Backbone.retnet: 10 * 256 * 512 // 4,
    Backbone.lstm: 2 * 2 * 688,
    Backbone.gru: 2 * 784,
    Backbone.transformer_xl: 2 * 9 * 340 * 256,
    Backbone.mamba: 18 * 512 * (16 + 3),
    Backbone.cfc: 1424 + 256,
    Backbone.llama: 2 * 10 * 340 * 128,
}


@pytest.mark.parametrize("name", list(Backbone), ids=lambda name: name.name)
def test_backbones_in_the_place_of_iris_have_as_many_weights(name: Backbone) -> None:
    count = num_weights(name, 20, 17, **IRIS_SIZED)
    assert count == WEIGHTS[name]
    assert count == pytest.approx(TRUNK, rel=0.05)


@pytest.mark.parametrize("name", list(STATES), ids=lambda name: name.name)
def test_the_state_in_the_place_of_iris_has_its_size(name: Backbone) -> None:
    backbone = build(name, 20, 17, device="cpu", **IRIS_SIZED)
    assert memory.bytes_per_environment(backbone) == 4 * STATES[name]


@pytest.mark.parametrize("name", backbones_of("iris"), ids=lambda name: name.name)
def test_the_shipped_sizes_of_iris_are_these(name: Backbone) -> None:
    config = load([*IRIS, f"model.backbone={name.name}"])
    assert getattr(config.model.world_model, name.name) == IRIS_SIZED[name.name]


def test_the_wired_cells_of_the_seed_study_have_512_units_of_which_256_are_outputs() -> None:
    config = load([*IRIS, "variant=ncp-token"]).model.world_model
    assert config.cfc == CfCConfig(1, 256, 0.5, 22222, 0.1, True)
    count = num_weights(Backbone.cfc, 20, 17, cfc=config.cfc)
    assert count == cfc_weights(256, inter=154, command=102)


def test_the_transformer_of_delta_iris_has_the_published_number_of_weights() -> None:
    """On Crafter. Without frame tokens: one position more at the start, one less in every block."""
    transformer = TransformerConfig(3, 8, Attention.causal, 0.0, 0.0, 0.0)
    settings = {"embed_dim": 512, "transformer": transformer}
    with_frames, without = (num_weights(Backbone.transformer, 21, *layout, **settings) for layout in ((6,), (5, 1)))
    assert with_frames == 9_522_688 and with_frames - without == (21 - 1) * 512


def test_the_stack_of_rem_has_the_published_number_of_weights() -> None:
    """World model with 18 actions: 4 760 581, less heads, a table of 512 + 18 + 1 tokens and 65 prediction tokens."""
    retnet = RetNetConfig(5, 4, value_dim=256, hidden_dim=1024, dropout=0.1)
    heads = 3 * (256 * 256 + 256) + (256 + 1) * (512 + 3 + 2)
    assert num_weights(Backbone.retnet, 10, 65, retnet=retnet) == 4_760_581 - heads - (512 + 18 + 1 + 65) * 256
