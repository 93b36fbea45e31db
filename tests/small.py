"""Small components that many tests share: pictures of 16 pixels, 4 tokens an observation, everything in
milliseconds."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tokenworlds import backbones
from tokenworlds.actor_critic import PixelPolicy
from tokenworlds.agent import Agent
from tokenworlds.config import Attention, Backbone, ImageTokenizerConfig, Perceptual, Reconstruction, WorldModelConfig
from tokenworlds.imagination import ImaginationNoise
from tokenworlds.replay import ReplayBuffer
from tokenworlds.tokenizers import ImageTokenizer, ModalityTokens, ObservationTokenizer, TokenLayout
from tokenworlds.world_models import StepNoise, TokenWorldModel

RESOLUTION = 16
ACTIONS = 3
CPU = torch.device("cpu")

Module = TypeVar("Module", bound=nn.Module)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spread(module: Module, std: float = 0.3, seed: int = 0) -> Module:
    """The module with parameters so far from zero that every one of them matters."""
    draws = generator(seed)
    for parameter in module.parameters():
        parameter.data = (torch.randn(parameter.shape, generator=draws) * std).to(parameter)
    return module


def image_tokenizer(levels: int = 4, vocab_size: int = 8, seed: int = 0, **changes: Any) -> ImageTokenizer:
    """(16 / 2^(levels - 1))^2 tokens; codes far apart, so that different frames get different tokens."""
    values: dict[str, Any] = {
        "vocab_size": vocab_size,
        "embed_dim": 6,
        "z_channels": 5,
        "ch": 32,
        "ch_mult": [1] * levels,
        "num_res_blocks": 1,
        "attn_resolutions": [4],
        "dropout": 0.0,
        "beta": 1.0,
        "reconstruction": Reconstruction.l1,
        "perceptual": Perceptual.none,
    }
    config = ImageTokenizerConfig(**(values | changes))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = ImageTokenizer(config, RESOLUTION).eval()
        tokenizer.embedding.weight.data.normal_(std=0.3)
    return tokenizer


def world_model_config(**changes: Any) -> WorldModelConfig:
    values: dict[str, Any] = {
        "max_blocks": 4,
        "num_layers": 2,
        "num_heads": 2,
        "embed_dim": 8,
        "attention": Attention.causal,
        "embed_dropout": 0.0,
        "residual_dropout": 0.0,
        "attention_dropout": 0.0,
    }
    return WorldModelConfig(**(values | changes))


def layout_of(**modalities: tuple[int, int]) -> TokenLayout:
    """name=(tokens, vocabulary)."""
    return TokenLayout(tuple(ModalityTokens(name, *sizes) for name, sizes in modalities.items()))


def world_model(layout: TokenLayout, seed: int = 0, **changes: Any) -> TokenWorldModel:
    config = world_model_config(**changes)
    backbone = backbones.build(Backbone.transformer, config, layout.block_size)
    return spread(TokenWorldModel(backbone, layout, ACTIONS, config.embed_dim), seed=seed).eval()


def agent(seed: int = 0, **changes: Any) -> Agent:
    tokenizer = ObservationTokenizer({"image": image_tokenizer(seed=seed)})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        policy = PixelPolicy(ACTIONS, 8, RESOLUTION)
        policy.actor.weight.data.mul_(10)  # actions that depend on what is seen
    return Agent(tokenizer, world_model(tokenizer.layout, seed, **changes), policy).eval()


def frames(*shape: int, seed: int = 0) -> Tensor:
    """Random uint8 pictures of leading dimensions ``shape``."""
    return torch.randint(0, 256, (*shape, 3, RESOLUTION, RESOLUTION), generator=generator(seed), dtype=torch.uint8)


def tokens(layout: TokenLayout, *shape: int, seed: int = 0) -> Tensor:
    """Random tokens (*shape, K), every modality below its vocabulary."""
    draws = generator(seed)
    parts = [torch.randint(m.vocab_size, (*shape, m.count), generator=draws) for m in layout.modalities]
    return torch.cat(parts, dim=-1)


def step_noise(layout: TokenLayout, batch: int, seed: int = 0) -> StepNoise:
    return ImaginationNoise.draw(1, layout.num_tokens, batch, generator(seed)).step(0)


def buffer(lengths: list[int], capacity: int | None = None, seed: int = 0, is_open: bool = False) -> ReplayBuffer:
    """Episodes of random steps; each ends with an end flag, the last one goes on if ``is_open``."""
    result = ReplayBuffer({"image": (3, RESOLUTION, RESOLUTION)}, capacity or sum(lengths), CPU)
    draws = generator(seed)
    for index, length in enumerate(lengths):
        ends = torch.zeros(length, dtype=torch.bool)
        ends[-1] = not (is_open and index == len(lengths) - 1)
        result.extend(
            {"image": frames(length, seed=seed + index)},
            torch.randint(ACTIONS, (length,), generator=draws),
            torch.randn(length, generator=draws),
            ends,
        )
    return result
