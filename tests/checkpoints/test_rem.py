"""The layout of published REM checkpoints: every tensor has its place in our agent, and shapes give the
configuration."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tokenworlds import config, methods
from tokenworlds.checkpoints import layout, rem
from tokenworlds.config import RunConfig, TokenQuirks
from tokenworlds.envs import DiscreteActions, EnvironmentSpec, ImageSpec

ACTIONS = 18


def published(*overrides: str) -> RunConfig:
    return config.load(["method=rem", "task=atari/Breakout", "model.tokenizer.perceptual=none", *overrides])


def both(key: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{key}.weight": shape, f"{key}.bias": shape[:1]}


def published_shapes(
    halvings: int = 3, *, pop: bool = True, pixels: bool = False, gates: int = 4
) -> dict[str, tuple[int, ...]]:
    """Keys and shapes as the specification lists them, at published size."""
    tokens = (64 // 2**halvings) ** 2
    shapes: dict[str, tuple[int, ...]] = {}
    t, w, a = "tokenizer", "world_model", "actor_critic"
    shapes |= both(f"{t}.encoder.in_conv", 32, 3, 3, 3)
    up = [max(256 // 2**i, 32) for i in range(halvings + 1)]
    for i in range(halvings):
        narrow, wide = 32 * 2**i, 64 * 2**i
        shapes |= both(f"{t}.encoder.blocks.{i}.0", narrow)
        shapes |= both(f"{t}.encoder.blocks.{i}.2.conv", wide, narrow, 3, 3)
        shapes |= both(f"{t}.encoder.blocks.{i}.3", wide, wide, 3, 3)
        shapes |= both(f"{t}.decoder.blocks.{i}.0", up[i])
        shapes |= both(f"{t}.decoder.blocks.{i}.2.conv", up[i + 1], up[i], 3, 3)
        shapes |= both(f"{t}.decoder.blocks.{i}.3", up[i + 1], up[i + 1], 3, 3)
    shapes |= both(f"{t}.encoder.out_conv.0", 32 * 2**halvings)
    shapes |= both(f"{t}.encoder.out_conv.2", 256, 32 * 2**halvings, 3, 3)
    shapes |= both(f"{t}.pre_quant_conv", 256, 256, 1, 1) | both(f"{t}.post_quant_conv", 256, 256, 1, 1)
    shapes |= {f"{t}.embedding.weight": (512, 256)}
    shapes |= both(f"{t}.decoder.in_conv", 256, 256, 3, 3)
    shapes |= both(f"{t}.decoder.out_block.0", 32) | both(f"{t}.decoder.out_block.2", 3, 32, 3, 3)
    for head, classes in (("observations", 512), ("rewards", 3), ("ends", 2)):
        shapes |= both(f"{w}.head_{head}.0", 256, 256) | both(f"{w}.head_{head}.2", classes, 256)
    shapes |= {f"{w}.embedding.weight": (512 + ACTIONS + 1, 256)}
    if pop:
        shapes |= {f"{w}.placeholder_embeddings.weight": (tokens + 1, 256)}
    for i in range(5):
        shapes |= both(f"{w}._model.layers.{i}.norm1", 256) | both(f"{w}._model.layers.{i}.norm2", 256)
        shapes |= {f"{w}._model.layers.{i}.retention.thetas": (64,)}
        for part in ("q", "k", "v", "g", "out"):
            shapes |= both(f"{w}._model.layers.{i}.retention.{part}_proj", 256, 256)
        shapes |= both(f"{w}._model.layers.{i}.linear1", 1024, 256)
        shapes |= both(f"{w}._model.layers.{i}.linear2", 256, 1024)
    widths, cell, inputs = [3, 32, 32, 64, 64], "lstm", 1024
    if pixels:
        for i in range(4):
            shapes |= both(f"{a}.conv{i + 1}", widths[i + 1], widths[i], 3, 3)
    else:
        cell, inputs = "rnn", 512
        shapes |= both(f"{a}.convs.0.0", 128, 256, 3, 3) | both(f"{a}.convs.1.0", 64, 128, 3, 3)
        shapes |= both(f"{a}.dense.0", 512, 64 * tokens)
        shapes |= {f"{a}.actions_embeddings.weight": (ACTIONS, 512)}
    rows = gates * 512
    shapes |= {f"{a}.{cell}.weight_ih": (rows, inputs), f"{a}.{cell}.weight_hh": (rows, 512)}
    shapes |= {f"{a}.{cell}.bias_ih": (rows,), f"{a}.{cell}.bias_hh": (rows,)}
    return shapes | both(f"{a}.actor_linear", ACTIONS, 512) | both(f"{a}.critic_linear", 1, 512)


def published_state(**changes: Any) -> dict[str, Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in published_shapes(**changes).items()}


VARIANTS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "published": ([], {}),
    "4x4 tokens": (["variant=4x4-tokenizer"], {"halvings": 4}),
    "pixels": (["variant=no-latent-ac"], {"pixels": True}),
    "no actions": (["variant=no-action-input"], {}),  # the published state holds their unused embeddings
    "own embeddings": (["variant=separate-embeddings"], {}),
    "without prediction tokens": (["variant=no-pop"], {"pop": False}),
    "gru": (["model.policy.recurrence=gru"], {"gates": 3}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_published_layout_is_ours_under_other_names(name: str) -> None:
    overrides, changes = VARIANTS[name]
    settings = published(*overrides)
    spec = EnvironmentSpec({"image": ImageSpec(64, 64)}, DiscreteActions(ACTIONS))
    with torch.device("meta"):
        agent = methods.get("rem").build_agent(settings, spec)
    renamed = rem.from_reference(published_state(**changes), settings.model)
    assert {key: value.shape for key, value in renamed.items()} == {
        key: value.shape for key, value in agent.state_dict().items()
    }


@pytest.mark.parametrize("name", VARIANTS)
def test_shapes_give_the_configuration(name: str) -> None:
    """As far as they show it: what is left has to be said."""
    overrides, changes = VARIANTS[name]
    hidden = [part for part in overrides if name in ("no actions", "own embeddings")]
    inferred = layout.overrides(rem.infer_model(published_state(**changes)))
    assert published(*inferred, *hidden).model == published(*overrides).model


def test_rows_of_the_published_table_go_to_actions_and_observations() -> None:
    table = torch.arange(512 + ACTIONS + 1.0).unsqueeze(1)
    model = published("variant=separate-embeddings").model
    renamed = rem.from_reference({"world_model.embedding.weight": table}, model)
    assert torch.equal(renamed["world_model.embed_observation.image.weight"], table[:512])
    assert torch.equal(renamed["world_model.embed_action.weight"], table[512:-1])


@pytest.mark.parametrize("is_shared", [True, False])
def test_prediction_tokens_are_the_rows_that_are_used(is_shared: bool) -> None:
    table = torch.arange(65.0).unsqueeze(1)
    quirks = TokenQuirks(shared_prediction_token=is_shared)
    renamed = rem.from_reference({"world_model.placeholder_embeddings.weight": table}, published().model, quirks=quirks)
    assert torch.equal(renamed["world_model.prediction_tokens.weight"], table[: 1 if is_shared else 64])


def test_projections_are_fused_head_by_head_in_the_order_query_key_value() -> None:
    prefix, heads = "world_model._model.layers.3.retention.", 4
    widths = {"q": 1, "k": 1, "v": 2, "g": 2}  # of a head
    state = {
        f"{prefix}{part}_proj.bias": torch.arange(float(heads * widths[part])) + 10 * i for i, part in enumerate("gvkq")
    }
    renamed = rem.from_reference(state, published(f"model.world_model.retnet.num_heads={heads}").model)
    ours = "world_model.backbone.layers.3"
    fused = [symbol for h in range(heads) for symbol in (30 + h, 20 + h, 10 + 2 * h, 11 + 2 * h)]
    assert {key: value.tolist() for key, value in renamed.items()} == {
        f"{ours}.query_key_value.bias": fused,
        f"{ours}.gate.bias": list(range(2 * heads)),
    }
