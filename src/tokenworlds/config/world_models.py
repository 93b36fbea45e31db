"""Settings of world models."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from tokenworlds.config.backbones import Attention, Backbone, BackboneSections
from tokenworlds.config.generators import ConsistencyConfig
from tokenworlds.config.ranges import BLOCKS, MISSING, WEIGHT, WIDTH, dropout, integer, number, require
from tokenworlds.config.tokenizers import EncoderConfig, reduction
from tokenworlds.config.trunk import TrunkConfig

_KEY = "model.world_model"

Decoding = Enum("Decoding", "autoregressive pop frame oracle")
"""Prediction of the next observation: token by token, all tokens at once (parallel observation prediction, REM), or all
at once in one step of the sequence model a frame; or none: the environment itself is in the world model's place."""

Embeddings = Enum("Embeddings", "own codebook")
"""Embedding of observation tokens in the world model: a table of its own, or the tokenizer's codebook, without
gradient."""

Initialisation = Enum("Initialisation", "gpt torch")
"""Initial embeddings and heads of the world model: N(0, 0.02^2) with zero biases (IRIS), or torch's defaults (REM)."""

Scalar = Enum("Scalar", "sign regression symlog two_hot hl_gauss")
"""Prediction of a reward or a value: the class of its sign, the number itself, its symlog, or a distribution over
buckets that are even in symlog (two-hot targets; or those of a normal distribution, HL-Gauss)."""

Heads = Enum("Heads", "relu normed")
"""Heads of the world model: one hidden layer with ReLU (IRIS, REM), or a wider one with normalisation and SiLU (M3)."""

ReadOut = Enum("ReadOut", "action prediction")
"""Output that predicts reward and termination of a step: the one at its action (IRIS, REM), or the last query
token's of the next block (M3)."""


@dataclass
class WorldModelConfig(BackboneSections):
    """World model: width, length in blocks, and the settings of its sequence model."""

    max_blocks: int = integer(2, BLOCKS)
    embed_dim: int = integer(1, WIDTH)
    rewards: Scalar = MISSING
    trunk: TrunkConfig | None = None

    def check(self, backbone: Backbone, sequence_length: int) -> None:
        self.check_backbone(backbone, self.embed_dim)
        if self.trunk is not None:
            section = {Backbone.transformer: self.transformer, Backbone.llama: self.llama}.get(backbone)
            require(section is not None, f"{_KEY}.trunk needs model.backbone=transformer or llama; leave it out.")
            assert section is not None
            self.trunk.check(section.num_layers, backbone is Backbone.llama)
        require(
            sequence_length <= self.max_blocks,
            f"training.sequence_length ({sequence_length}) exceeds {_KEY}.max_blocks ({self.max_blocks}).",
        )
        require(self.rewards is not Scalar.regression, f"{_KEY}.rewards must be sign, symlog, two_hot or hl_gauss.")


@dataclass
class CuriosityConfig:
    """Disagreement of an ensemble about the next observation as a reward (M3)."""

    members: int = integer(0, 64, default=0)  # 0: none, the reward is the predicted one times its weight
    real_weight: float = number(0, WEIGHT, default=1.0)
    intrinsic_weight: float = number(0, WEIGHT, default=0.0)


@dataclass
class FrameConfig:
    """A world model of one step a frame (``model.decoding=frame``)."""

    embed_dropout: float = dropout(default=0.1)  # of all embeddings of a frame and its action
    compat_reset: bool = False  # imagination reads its first frame twice, at first with an action 0, as the seed study


@dataclass
class TokenWorldModelConfig(WorldModelConfig):
    """Over observation tokens and actions (IRIS, REM, M3)."""

    context: int = integer(1, BLOCKS)  # frames that imagination starts from, the current one included
    unscored_blocks: int = integer(0, BLOCKS)  # blocks at the start of a training segment without loss
    embeddings: Embeddings = MISSING
    # POP: standard deviation of the initial query tokens; None: as the initialisation has it
    prediction_token_std: float | None = number(0, 10, default=None)
    initialisation: Initialisation = MISSING
    heads: Heads = Heads.relu
    read_out: ReadOut = ReadOut.action
    action_levels: int = integer(2, 1024, default=51)  # of each continuous action
    tokenized_actions: bool = True  # continuous actions: a token a dimension, or one for all
    curiosity: CuriosityConfig = field(default_factory=CuriosityConfig)
    frame: FrameConfig | None = None

    @property
    def lead(self) -> int:
        """Steps of an episode before the first frame that imagination may start from."""
        return max(self.unscored_blocks, self.context - 1)

    def check_tokens(self, decoding: Decoding, sequence_length: int, batch_size: int, has_final: bool) -> None:
        """Checks against ``model.decoding``, the world model's training segments and batches, and
        ``collection.train.final_observation``."""
        require(
            self.unscored_blocks < sequence_length,
            f"{_KEY}.unscored_blocks ({self.unscored_blocks}) leaves nothing of training.sequence_length "
            f"({sequence_length}).",
        )
        require(
            self.context < self.max_blocks,
            f"{_KEY}.context ({self.context}) must be less than {_KEY}.max_blocks ({self.max_blocks}): the next block "
            "has to fit.",
        )
        if self.read_out is ReadOut.prediction:
            require(
                decoding is Decoding.pop,
                f"{_KEY}.read_out=prediction needs model.decoding=pop: rewards are read at its query tokens.",
            )
            require(
                has_final,
                f"{_KEY}.read_out=prediction needs collection.train.final_observation=true: rewards are read from the "
                "block after their step.",
            )
        if decoding is Decoding.frame:
            require(
                self.heads is Heads.relu and self.curiosity.members == 0,
                f"model.decoding=frame predicts all tokens from one output, with networks of its own: it needs "
                f"{_KEY}.heads=relu and {_KEY}.curiosity.members=0.",
            )
        if decoding is Decoding.oracle:
            require(
                self.rewards is Scalar.sign and self.curiosity.members == 0,
                "model.decoding=oracle reduces the rewards of the environment to their sign and knows no others: it "
                f"needs {_KEY}.rewards=sign and {_KEY}.curiosity.members=0.",
            )
            require(self.trunk is None, f"model.decoding=oracle has no sequence model: leave out {_KEY}.trunk.")
        require(
            self.trunk is None or self.initialisation is Initialisation.gpt,
            f"{_KEY}.trunk needs {_KEY}.initialisation=gpt: its embed_init_std is that of these embeddings.",
        )
        members = self.curiosity.members
        require(members != 1, f"{_KEY}.curiosity.members=1 never disagrees; it takes two, or 0 for none.")
        require(
            members == 0 or batch_size % members == 0,
            f"training.world_model.batch_size ({batch_size}) must be a multiple of {_KEY}.curiosity.members "
            f"({members}): each learns from its own part of a batch.",
        )


@dataclass
class LossWeights:
    """Weights of the world model's losses."""

    observations: float = number(0, WEIGHT)
    rewards: float = number(0, WEIGHT)
    ends: float = number(0, WEIGHT)


@dataclass
class DeltaWorldModelConfig(WorldModelConfig):
    """Over frames, actions and delta tokens (Delta-IRIS)."""

    frame_tokens: bool = MISSING  # a continuous token of the frame in every block, or only at the start of a sequence
    frame_encoder: EncoderConfig = field(default_factory=EncoderConfig)  # frames to these tokens
    weights: LossWeights = field(default_factory=LossWeights)
    generator: ConsistencyConfig | None = None  # of continuous deltas; None: tokens of them are sampled

    def check_delta(self, decoding: Decoding, size: int) -> None:
        """Checks against ``model.decoding`` and frames of ``size`` pixels."""
        require(self.trunk is None, f"{_KEY}.trunk is of iris, rem and m3; leave it out.")
        require(
            decoding is Decoding.autoregressive,
            f"model.decoding={decoding.name} is not known for delta tokens; they are predicted autoregressively.",
        )
        require(
            self.transformer is None or self.transformer.attention is Attention.causal,
            f"{_KEY}.transformer.attention must be causal: inside a block, delta tokens are predicted one after the "
            "other.",
        )
        self.frame_encoder.check(f"{_KEY}.frame_encoder", size)
        width = (size // reduction(self.frame_encoder)) ** 2 * self.frame_encoder.latent_dim
        require(
            width == self.embed_dim or self.generator is not None,  # which reads the map itself
            f"{_KEY}.frame_encoder gives {width} numbers a frame, which must be {_KEY}.embed_dim ({self.embed_dim}).",
        )
