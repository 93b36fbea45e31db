"""Combinations of values that cannot work, refused before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any, cast

from tokenworlds.config.schema import (
    Backbone,
    Embeddings,
    ImageTokenizerConfig,
    Perceptual,
    RunConfig,
    TokenizerNetwork,
)
from tokenworlds.errors import UserError

AT_LEAST = {
    "collection.train.steps": 1,
    "collection.train.stop_after_epochs": 1,
    "collection.train.burn_in": 0,
    "collection.test.num_envs": 1,
    "collection.test.episodes": 1,
    "model.world_model.max_blocks": 2,  # an observation, and room for the block after it
    "model.world_model.context": 1,  # the current frame
    "model.world_model.unscored_blocks": 0,
    "training.epochs": 1,
    "training.sequence_length": 1,
    "training.actor_critic.horizon": 2,  # the last step only bootstraps
    "training.actor_critic.burn_in": 0,
    "evaluation.every": 1,
    "evaluation.tokenizer_batch_size": 1,
    "evaluation.world_model_batch_size": 1,
    "evaluation.imagined_episodes": 1,
    "evaluation.final_episodes": 1,
    "evaluation.final_num_envs": 1,
    "evaluation.random_episodes": 0,
    "runtime.checkpoint_every": 1,
} | {
    f"training.{component}.{key}": 1
    for component in ("tokenizer", "world_model", "actor_critic")
    for key in ("batch_size", "gradient_accumulation", "updates_per_epoch")
}


def validate(config: RunConfig) -> RunConfig:
    """Refuse combinations that cannot work, before anything runs."""
    model, training = config.model, config.training

    def require(condition: bool, sentence: str) -> None:
        if not condition:
            raise UserError(f"configuration: {sentence}")

    require(config.collection.train.steps is not None, "collection.train.steps is not set.")
    require(config.collection.test.episodes is not None, "collection.test.episodes is not set.")
    for key, lowest in AT_LEAST.items():
        value: Any = reduce(getattr, key.split("."), cast(Any, config))
        require(value is None or value >= lowest, f"{key} must be at least {lowest}, not {value}.")
    world = model.world_model
    if model.backbone in (Backbone.transformer, Backbone.retnet):
        section = getattr(world, model.backbone.name)
        require(
            world.embed_dim % section.num_heads == 0,
            f"model.world_model.embed_dim ({world.embed_dim}) must be a multiple of "
            f"model.world_model.{model.backbone.name}.num_heads ({section.num_heads}).",
        )
    if model.backbone is Backbone.retnet:
        retnet = world.retnet
        for key, width in {"embed_dim": world.embed_dim, "retnet.value_dim": retnet.value_dim}.items():
            require(
                width % (2 * retnet.num_heads) == 0,
                f"model.world_model.{key} ({width}) must be a multiple of twice "
                f"model.world_model.retnet.num_heads ({retnet.num_heads}): heads need even widths.",
            )
    require(
        training.sequence_length <= world.max_blocks,
        f"training.sequence_length ({training.sequence_length}) exceeds "
        f"model.world_model.max_blocks ({world.max_blocks}).",
    )
    require(
        world.unscored_blocks < training.sequence_length,
        f"model.world_model.unscored_blocks ({world.unscored_blocks}) leaves nothing of "
        f"training.sequence_length ({training.sequence_length}).",
    )
    require(
        world.context < world.max_blocks,
        f"model.world_model.context ({world.context}) must be less than "
        f"model.world_model.max_blocks ({world.max_blocks}): the next block has to fit.",
    )
    require(
        world.context <= training.actor_critic.burn_in + 1,
        f"model.world_model.context ({world.context}) needs training.actor_critic.burn_in of at least "
        f"{world.context - 1}: both read the same frames.",
    )
    require(
        world.embeddings is Embeddings.own or world.embed_dim == model.tokenizer.embed_dim,
        f"model.world_model.embeddings=codebook needs model.world_model.embed_dim ({world.embed_dim}) equal to "
        f"model.tokenizer.embed_dim ({model.tokenizer.embed_dim}).",
    )
    check_tokenizer(model.tokenizer, config.environment.train.size, require)
    require(
        config.environment.train.size == config.environment.test.size,
        "environment.train.size and environment.test.size differ.",
    )
    require(
        config.collection.train.num_envs == 1, "collection.train.num_envs must be 1: training episodes are one stream."
    )
    return config


def check_tokenizer(tokenizer: ImageTokenizerConfig, size: int, require: Callable[[bool, str], None]) -> None:
    """Widths against group norms, halvings against the picture, and the weights of the perceptual term."""
    if tokenizer.network is TokenizerNetwork.residual:
        widths = [tokenizer.residual.ch * multiplier for multiplier in tokenizer.residual.ch_mult]
        halvings, key = len(widths) - 1, "residual.ch_mult"
        require(
            all(width % 32 == 0 for width in widths),
            f"model.tokenizer.residual.ch x ch_mult gives widths {widths}; each must be a multiple of 32 "
            "(group normalisation).",
        )
    else:
        plain = tokenizer.plain
        halvings, key = plain.num_halvings, "plain.num_halvings"
        decoder = [max(tokenizer.z_channels // 2**level, plain.ch) for level in range(halvings)]
        require(
            plain.ch % plain.num_groups == 0,
            f"model.tokenizer.plain.ch ({plain.ch}) must be a multiple of num_groups ({plain.num_groups}).",
        )
        require(
            all(width % plain.decoder_groups == 0 for width in decoder),
            f"model.tokenizer.z_channels gives the decoder's blocks widths {decoder}; each must be a multiple of "
            f"model.tokenizer.plain.decoder_groups ({plain.decoder_groups}).",
        )
    require(
        size % 2**halvings == 0 and size >= 2 ** (halvings + 1),
        f"environment.train.size ({size}) cannot be halved {halvings} times to 2 pixels or more "
        f"(model.tokenizer.{key}).",
    )
    if tokenizer.perceptual is Perceptual.lpips:
        path = tokenizer.perceptual_weights
        require(
            path is not None,
            "model.tokenizer.perceptual=lpips needs model.tokenizer.perceptual_weights=FILE (README, Perceptual loss).",
        )
        require(
            Path(str(path)).exists(),
            f"model.tokenizer.perceptual_weights: there is no file {path} (README, Perceptual loss).",
        )
