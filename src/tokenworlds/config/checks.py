"""Combinations of values that cannot work, refused before anything runs."""

from __future__ import annotations

import math
from pathlib import Path

from tokenworlds.config.schema import (
    Attention,
    Backbone,
    Decoding,
    DeltaRunConfig,
    ImageTokenizerConfig,
    ImaginationStart,
    Perceptual,
    PolicyInput,
    Precision,
    Quantiser,
    ReadOut,
    RunConfig,
    Scalar,
    StackConfig,
    TokenizerNetwork,
    TokenRunConfig,
)
from tokenworlds.errors import UserError
from tokenworlds.ranges import check_ranges


def validate(config: RunConfig) -> RunConfig:
    """Refuse values out of their ranges and combinations that cannot work, before anything runs."""
    check_ranges(config)
    check_common(config)
    match config:
        case TokenRunConfig():
            check_tokens(config)
        case DeltaRunConfig():
            check_delta(config)
    return config


def require(condition: bool, sentence: str) -> None:
    if not condition:
        raise UserError(f"configuration: {sentence}")


def check_common(config: RunConfig) -> None:
    """What all methods ask for."""
    model, training = config.model, config.training
    require(config.collection.train.steps is not None, "collection.train.steps is not set.")
    require(config.collection.test.episodes is not None, "collection.test.episodes is not set.")
    require(
        config.environment.train.size == config.environment.test.size,
        "environment.train.size and environment.test.size differ.",
    )
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
        world.rewards is not Scalar.regression,
        "model.world_model.rewards must be sign, symlog, two_hot or hl_gauss.",
    )
    require(
        model.policy.values not in (Scalar.sign, Scalar.symlog),
        "model.policy.values must be regression, two_hot or hl_gauss.",
    )


def check_tokens(config: TokenRunConfig) -> None:
    """IRIS, REM and M3."""
    model, training, world = config.model, config.training, config.model.world_model
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
        world.read_out is ReadOut.action or model.decoding is Decoding.pop,
        "model.world_model.read_out=prediction needs model.decoding=pop: only prediction tokens know a step's reward.",
    )
    require(
        world.read_out is ReadOut.action or config.collection.train.final_observation,
        "model.world_model.read_out=prediction needs collection.train.final_observation=true: rewards are read from "
        "the block behind their step.",
    )
    start, has_final = training.actor_critic.imagination_start, config.collection.train.final_observation
    require(
        start is ImaginationStart.aligned or has_final,
        "training.actor_critic.imagination_start=legacy needs collection.train.final_observation=true: the policy "
        "looks one observation ahead.",
    )
    members, batch = world.curiosity.members, training.world_model.batch_size
    require(
        members == 0 or batch % members == 0,
        f"training.world_model.batch_size ({batch}) must be a multiple of model.world_model.curiosity.members "
        f"({members}): each learns from its own part of a batch.",
    )
    require(members != 1, "model.world_model.curiosity.members=1 never disagrees; it takes two, or 0 for none.")
    policy = model.policy
    require(
        policy.input is not PolicyInput.tokens or min(policy.fuser, default=0) > 0,
        f"model.policy.input=tokens needs model.policy.fuser, the widths of the layers that join the modalities; "
        f"{policy.fuser} does not do.",
    )
    check_image_tokenizer(model.tokenizer, config.environment.train.size)


def check_delta(config: DeltaRunConfig) -> None:
    """Delta-IRIS."""
    model, world, behaviour = config.model, config.model.world_model, config.training.actor_critic
    require(
        model.decoding is Decoding.autoregressive,
        f"model.decoding={model.decoding.name} is not known for delta tokens; they are predicted autoregressively.",
    )
    require(
        world.transformer.attention is Attention.causal,
        "model.world_model.transformer.attention must be causal: inside a block, delta tokens are predicted one after "
        "the other.",
    )
    formats = {config.training.precision, behaviour.precision or config.training.precision}
    require(
        len(formats) == 1 or Precision.float32 not in formats,
        "training.precision and training.actor_critic.precision must both be float32, or neither: TF32 is switched on "
        "for all networks or for none.",
    )
    needed = behaviour.burn_in + behaviour.horizon + 1
    require(
        needed <= world.max_blocks,
        f"model.world_model.max_blocks ({world.max_blocks}) must be at least training.actor_critic.burn_in + horizon "
        f"+ 1 ({needed}): imagination runs in one piece.",
    )
    size, tokenizer = config.environment.train.size, model.tokenizer
    stacks: dict[str, StackConfig] = {
        "model.tokenizer.encoder": tokenizer.encoder,
        "model.tokenizer.frame_encoder": tokenizer.frame_encoder,
        "model.tokenizer.decoder": tokenizer.decoder,
        "model.world_model.frame_encoder": world.frame_encoder,
        "model.policy.frame_encoder": model.policy.frame_encoder,
    }
    for key, stack in stacks.items():
        check_stack(key, stack, size)
    for key in ("frame_encoder", "decoder"):
        halvings = sum(getattr(tokenizer, key).halve)
        require(
            halvings == sum(tokenizer.encoder.halve),
            f"model.tokenizer.{key} halves {halvings} times, model.tokenizer.encoder {sum(tokenizer.encoder.halve)}: "
            "their maps must have one size.",
        )
    grid, side = size // 2 ** sum(tokenizer.encoder.halve), math.isqrt(tokenizer.num_tokens)
    require(
        side**2 == tokenizer.num_tokens and 1 <= side <= grid and grid % side == 0,
        f"model.tokenizer.num_tokens ({tokenizer.num_tokens}) must be a square that divides the map of "
        f"{grid} x {grid} into equal patches.",
    )
    width = (size // 2 ** sum(world.frame_encoder.halve)) ** 2 * world.frame_encoder.latent_dim
    require(
        width == world.embed_dim,
        f"model.world_model.frame_encoder gives {width} numbers a frame, which must be "
        f"model.world_model.embed_dim ({world.embed_dim}).",
    )


def check_stack(key: str, stack: StackConfig, size: int) -> None:
    """Widths against group norms, halvings against the picture."""
    require(
        len(stack.multipliers) == len(stack.halve) and set(stack.halve) <= {0, 1},
        f"{key}.multipliers {stack.multipliers} and {key}.halve {stack.halve} must be as long as each other, the "
        "latter of zeros and ones.",
    )
    widths = [stack.channels, *(stack.channels * multiplier for multiplier in stack.multipliers)]
    require(
        all(width > 0 and width % 32 == 0 for width in widths),
        f"{key}.channels x multipliers gives widths {widths}; each must be a multiple of 32 (group normalisation).",
    )
    require(
        size % 2 ** sum(stack.halve) == 0,
        f"environment.train.size ({size}) cannot be halved {sum(stack.halve)} times ({key}.halve).",
    )


def check_image_tokenizer(tokenizer: ImageTokenizerConfig, size: int) -> None:
    """Widths against group norms, halvings against the picture, levels against the vocabulary, and the weights of the
    perceptual term."""
    if tokenizer.quantiser is Quantiser.fsq:
        levels, codes = tokenizer.fsq_levels, math.prod(tokenizer.fsq_levels)
        require(
            min(levels, default=0) >= 2 and codes == tokenizer.vocab_size,
            f"model.tokenizer.fsq_levels {levels} make {codes} codes; they must be at least 2 each and make "
            f"model.tokenizer.vocab_size ({tokenizer.vocab_size}).",
        )
        require(
            not tokenizer.projections,
            "model.tokenizer.quantiser=fsq needs model.tokenizer.projections=false: it has its own.",
        )
    require(
        tokenizer.projections or tokenizer.z_channels == tokenizer.embed_dim,
        f"model.tokenizer.projections=false needs model.tokenizer.z_channels ({tokenizer.z_channels}) equal to "
        f"model.tokenizer.embed_dim ({tokenizer.embed_dim}).",
    )
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
        widths = [plain.ch * 2**level for level in range(halvings, 0, -1)]
        if not plain.mirrored:
            widths = [max(tokenizer.z_channels // 2**level, plain.ch) for level in range(halvings)]
        require(
            plain.ch % plain.num_groups == 0,
            f"model.tokenizer.plain.ch ({plain.ch}) must be a multiple of num_groups ({plain.num_groups}).",
        )
        require(
            all(width % plain.decoder_groups == 0 for width in widths),
            f"model.tokenizer gives the decoder's blocks widths {widths}; each must be a multiple of "
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
