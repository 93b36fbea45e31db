"""The typed schema of a run: every section, every choice; values stand in ``pipeline/<method>/params.yaml``."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, cast

from omegaconf import MISSING

from tokenworlds.envs.spec import EnvironmentConfig
from tokenworlds.files import sha256
from tokenworlds.ranges import dropout, integer, integers, number, one_of, positive, probability, text
from tokenworlds.redaction import redact

# Upper bounds of settings: far above any use, and low enough that a slip of a few digits is refused at once.
BATCH = 16_384
BLOCKS = 4_096
ENVIRONMENTS = 1_024
EPISODES = 100_000
EPOCHS = 1_000_000
HEADS = 256
LAYERS = 256
MEMORY = 1_000_000  # tokens or blocks
PIXELS = 1_024
STEPS = 10_000_000  # agent steps an epoch
UPDATES = 1_000_000  # an epoch
VOCABULARY = 65_536
WEIGHT = 1_000_000
WIDTH = 16_384

TEMPERATURES = 0.001, 1_000  # logits divided by less are no longer finite
DEVICES = r"auto|cpu|mps|cuda(:(0|[1-9][0-9]?))?"


def project_root() -> Path:
    """The project that the working folder lies in (so that a copy of it writes into itself), else the checkout of this
    package."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").is_file() and (folder / "pipeline").is_dir():
            return folder
    return Path(__file__).resolve().parents[3]


def workspace_root() -> Path:
    """Where checkpoints and the tracking database lie: the project, or the one whose copy this is. Queued and temporary
    experiments of DVC run in a copy below ``.dvc/tmp/exps`` that is deleted at their end."""
    root = project_root()
    places = [folder.parent for folder in root.parents if folder.name == ".dvc" and is_temporary(root)]
    return places[0] if places else root


def is_temporary(root: Path) -> bool:
    """Whether a project is DVC's copy for one experiment."""
    return any(folder.parts[-3:] == (".dvc", "tmp", "exps") for folder in root.parents)


class Scale(Enum):
    """How large a run is: ``smoke`` for pipelines, ``small`` learns on a CPU in minutes, ``paper`` is the published
    size."""

    smoke = "smoke"
    small = "small"
    paper = "paper"


class Backbone(Enum):
    """Sequence models that a token world model can run on."""

    transformer = "transformer"
    retnet = "retnet"
    lstm = "lstm"
    gru = "gru"


class Decoding(Enum):
    """How the next observation is predicted: token after token, or all tokens at once (parallel observation
    prediction, REM)."""

    autoregressive = "autoregressive"
    pop = "pop"


class Embeddings(Enum):
    """How the world model embeds observation tokens: by a table of its own, or by the tokenizer's codebook, without
    gradient."""

    own = "own"
    codebook = "codebook"


class Initialisation(Enum):
    """Initial embeddings and heads of the world model: N(0, 0.02^2) with zero biases (IRIS), or torch's defaults
    (REM)."""

    gpt = "gpt"
    torch = "torch"


class TokenizerNetwork(Enum):
    """Encoder and decoder of the image tokenizer: residual blocks and attention (IRIS), or plain convolutions (REM)."""

    residual = "residual"
    plain = "plain"


class PolicyInput(Enum):
    """What the policy sees of an observation: the pixels decoded from its tokens (IRIS), their code vectors (REM), or
    the tokens of every modality (M3)."""

    pixels = "pixels"
    codes = "codes"
    tokens = "tokens"


class Recurrence(Enum):
    """Recurrent cell of the policy."""

    lstm = "lstm"
    gru = "gru"


class BurnInActions(Enum):
    """After which frames the burn-in feeds actions to a policy that takes them: as in the published agent after frame
    i only where i + 1 is a multiple of the number of tokens (with 64 tokens and 20 frames: never), and such a step
    learns, as if no frame followed it; the same detached, so that nothing of the burn-in learns; after every frame; or
    never (M3)."""

    published = "published"
    detached = "detached"
    every = "every"
    never = "never"


class Sampling(Enum):
    """How training segments are drawn: a uniform episode and a uniform place in it, with replacement (IRIS);
    uniformly over all segments, without replacement (REM); or, for the world model, a share of every batch by the
    segments' last losses (M3)."""

    episodes = "episodes"
    segments = "segments"
    prioritised = "prioritised"


class Scalar(Enum):
    """How a reward or a value is predicted: the class of its sign, the number itself, its symlog, or a distribution
    over buckets that are even in symlog (two-hot targets; or those of a normal distribution, HL-Gauss)."""

    sign = "sign"
    regression = "regression"
    symlog = "symlog"
    two_hot = "two_hot"
    hl_gauss = "hl_gauss"


class Decay(Enum):
    """Parameters with weight decay: weights of linear and recurrent layers; these and the norms of the heads (M3, whose
    published rule goes by names); or all."""

    linear = "linear"
    heads = "heads"
    all = "all"


class Quantiser(Enum):
    """How a picture's latents become tokens: the nearest vector of a codebook, or finite scalar quantisation
    (Simulus-A)."""

    nearest = "nearest"
    fsq = "fsq"


class DecoderNorm(Enum):
    """In front of the first convolution of a plain decoder: nothing (REM), batch normalisation (M3) or group
    normalisation (Simulus-A)."""

    none = "none"
    batch = "batch"
    group = "group"


class Support(Enum):
    """The values that the numbers of a vector become: M3's, dense near zero, or evenly spaced ones."""

    published = "published"
    uniform = "uniform"


class Positions(Enum):
    """How a transformer knows positions: a learned table (IRIS), rotated queries and keys, or added waves."""

    learned = "learned"
    rotary = "rotary"
    sinusoidal = "sinusoidal"


class Norm(Enum):
    """Layer normalisation in front of every layer's two halves and at the end, or behind them (Simulus-A)."""

    pre = "pre"
    post = "post"


class SuffixAttention(Enum):
    """Which tokens of its own suffix a prediction token sees: those up to itself, or all."""

    causal = "causal"
    full = "full"


class Heads(Enum):
    """Heads of the world model: one hidden layer with ReLU (IRIS, REM), or a wider one with normalisation and SiLU
    (M3)."""

    relu = "relu"
    normed = "normed"


class ReadOut(Enum):
    """Which output tells reward and end of a step: that at its action (IRIS, REM), or that of the last prediction token
    of the step after it (M3)."""

    action = "action"
    prediction = "prediction"


class EndsAlignment(Enum):
    """Which block's prediction learns the end of step t: that of the next block, which imagination reads, or as in the
    published M3 that of block t, one too early."""

    aligned = "aligned"
    legacy = "legacy"


class ImaginationStart(Enum):
    """What the policy looks at first in imagination: the observation that the world model's context ends with, or as in
    the published M3 the one after it."""

    aligned = "aligned"
    legacy = "legacy"


class Attention(Enum):
    """Mask of the transformer: lower triangular, or full inside a block and causal across blocks."""

    causal = "causal"
    block_causal = "block_causal"


class Perceptual(Enum):
    """Perceptual term of the tokenizer's loss."""

    none = "none"
    lpips = "lpips"


class Reconstruction(Enum):
    """Distance of a frame from its reconstruction: mean absolute error (IRIS) or mean squared error."""

    l1 = "l1"
    mse = "mse"


class Compile(Enum):
    """Whether imagination is captured as a CUDA graph: ``auto`` does so where there is a GPU."""

    auto = "auto"
    off = "off"


class ReplayStorage(Enum):
    """Where stored observations lie: with the networks, in the host's memory, or there only where they would fill more
    than half of a GPU (``auto``; ten million frames of Crafter are 123 GB)."""

    auto = "auto"
    device = "device"
    host = "host"


class Resume(Enum):
    """What to do with a checkpoint that other code wrote: refuse it, go on from it, or start the run again."""

    same_code = "same_code"
    any_code = "any_code"
    never = "never"


class Precision(Enum):
    """Number format of network arithmetic on a GPU: ``tf32`` is what the scores of IRIS and of M3 on Craftax were made
    with, ``float32`` those of REM and of M3 elsewhere, ``bf16`` the tokenizer and the world model of Delta-IRIS."""

    float32 = "float32"
    tf32 = "tf32"
    bf16 = "bf16"


@dataclass
class EnvironmentsConfig:
    train: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    test: EnvironmentConfig = field(default_factory=EnvironmentConfig)


@dataclass
class CollectionConfig:
    """Interaction with an environment: ``steps`` (train) or ``episodes`` (test) a call."""

    num_envs: int = integer(1, ENVIRONMENTS)
    epsilon: float = probability()  # probability of uniform random actions, one draw per vector step
    temperature: float = number(*TEMPERATURES)
    burn_in: int = integer(0, BLOCKS)  # frames that warm up the policy's state when an episode is continued
    steps: int | None = integer(1, STEPS, default=None)  # agent steps a call
    # In the first epoch, all actions uniform random; None: as in any other
    steps_first_epoch: int | None = integer(1, STEPS, default=None)
    episodes: int | None = integer(1, EPISODES, default=None)
    stop_after_epochs: int | None = integer(1, EPOCHS, default=None)
    parallel: bool = True  # one worker process per environment, or in-process
    final_observation: bool = False  # whether an episode is stored with the observation behind its last step (M3)
    truncation_is_end: bool = True  # whether a time limit counts as an end; not in M3


@dataclass
class CollectionsConfig:
    train: CollectionConfig = field(default_factory=CollectionConfig)
    test: CollectionConfig = field(default_factory=CollectionConfig)


@dataclass
class ResidualNetworkConfig:
    """Encoder and decoder of IRIS (appendix A.1): one level per entry of ``ch_mult``, halving between levels."""

    ch: int = integer(1, WIDTH)
    ch_mult: list[int] = integers(1, 64, longest=10)
    num_res_blocks: int = integer(0, LAYERS)
    attn_resolutions: list[int] = integers(1, PIXELS, longest=16)
    dropout: float = dropout()


@dataclass
class PlainNetworkConfig:
    """Encoder and decoder of REM: convolutions without shortcuts, widths doubling from ``ch`` at every halving."""

    ch: int = integer(1, WIDTH)
    num_halvings: int = integer(1, 10)
    num_groups: int = integer(1, WIDTH)  # of the group norms
    decoder_groups: int = integer(1, WIDTH)  # of those in the decoder's blocks; 32 in the first public release
    convolutions: int = integer(1, 2, default=2)  # a block, 1 or 2
    mirrored: bool = False  # whether the decoder has the encoder's widths in reverse; else they follow from z_channels
    decoder_norm: DecoderNorm = DecoderNorm.none


@dataclass
class VectorTokenizerConfig:
    """Numbers to the nearest of fixed values, in symlog (M3). ``count`` and ``limit`` are those of uniform values."""

    support: Support = Support.published
    count: int = integer(2, VOCABULARY, default=129)
    limit: float = positive(50, default=7.0)


@dataclass
class ImageTokenizerConfig:
    """Discrete autoencoder: frames to a grid of codes. Of other modalities only vectors have settings."""

    network: TokenizerNetwork = MISSING
    vocab_size: int = integer(2, VOCABULARY)
    embed_dim: int = integer(1, WIDTH)
    z_channels: int = integer(1, WIDTH)  # between the network and the 1x1 convolutions around the codes
    beta: float = number(0, WEIGHT)  # weight of the commitment of the encoder against that of the codebook
    reconstruction: Reconstruction = MISSING
    perceptual: Perceptual = MISSING
    # Folder or file with the VGG16 and head weights, see tokenizers/lpips.py
    perceptual_weights: str | None = text("a file or folder: `validate` looks for it", default=None)
    perceptual_dropout: bool = True  # whether the perceptual network's dropout acts in training, as published
    quantiser: Quantiser = Quantiser.nearest
    fsq_levels: list[int] = integers(2, VOCABULARY, longest=16, default=[])  # a dimension of finite scalar quantisation
    projections: bool = True  # 1x1 convolutions around the codes
    residual: ResidualNetworkConfig = field(default_factory=ResidualNetworkConfig)
    plain: PlainNetworkConfig = field(default_factory=PlainNetworkConfig)
    vectors: VectorTokenizerConfig = field(default_factory=VectorTokenizerConfig)


@dataclass
class StackConfig:
    """A convolutional stack of Delta-IRIS: per level a residual block, and a halving where ``halve`` is 1."""

    channels: int = integer(1, WIDTH)
    multipliers: list[int] = integers(1, 64, longest=10)  # of the channels, one a level
    halve: list[int] = integers(0, 1, longest=10)  # 0 or 1, one a level


@dataclass
class EncoderConfig(StackConfig):
    """A stack from frames to a map of ``latent_dim`` channels."""

    latent_dim: int = integer(1, WIDTH)


@dataclass
class DeltaTokenizerConfig:
    """Discrete autoencoder of what is new in a frame, given the frame before and the action (Delta-IRIS)."""

    num_tokens: int = integer(1, 4_096)  # K, a square number
    vocab_size: int = integer(2, VOCABULARY)
    embed_dim: int = integer(1, WIDTH)  # of the codes, which lie on the unit sphere
    action_channels: int = integer(1, WIDTH)  # of the action's map in the decoder
    # Updates in which unused codes are revived; None: all of them
    revival_updates: int | None = integer(0, 100_000_000)
    l1_weight: float = number(0, WEIGHT)
    l2_weight: float = number(0, WEIGHT)
    worst_pixel_weight: float = number(0, WEIGHT)
    commitment_weight: float = number(0, WEIGHT)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)  # (frame, action, next frame) to what is quantised
    frame_encoder: EncoderConfig = field(default_factory=EncoderConfig)  # the decoder's view of the frame before
    decoder: StackConfig = field(default_factory=StackConfig)


@dataclass
class TransformerConfig:
    """GPT-style transformer (IRIS section 2.2)."""

    num_layers: int = integer(1, LAYERS)
    num_heads: int = integer(1, HEADS)
    attention: Attention = MISSING
    embed_dropout: float = dropout()
    residual_dropout: float = dropout()
    attention_dropout: float = dropout()
    positions: Positions = Positions.learned
    norm: Norm = Norm.pre
    attention_bias: bool = True
    suffix_attention: SuffixAttention = SuffixAttention.causal


@dataclass
class RetNetConfig:
    """Retentive network (REM section 3)."""

    num_layers: int = integer(1, LAYERS)
    num_heads: int = integer(1, HEADS)
    value_dim: int = integer(1, WIDTH)  # width of values and gate; queries and keys are as wide as the model
    hidden_dim: int = integer(1, WIDTH)  # of the feed-forward layers
    dropout: float = dropout()
    identical_layers: bool = MISSING  # whether all layers start with the same weights, as in the published runs
    # The decay of the first head is 1 - 1/this, in tokens or blocks
    shortest_memory: float = positive(MEMORY, above=1, default=32.0)
    longest_memory: float = positive(MEMORY, above=1, default=512.0)  # that of the last head
    memory_in_blocks: bool = False


@dataclass
class RecurrentConfig:
    """Stacked LSTM or GRU between two linear projections."""

    num_layers: int = integer(1, LAYERS)
    hidden_dim: int = integer(1, WIDTH)


@dataclass
class WorldModelConfig:
    """World model: width, length in blocks, and the settings of every backbone, of which one is used."""

    max_blocks: int = integer(2, BLOCKS)
    embed_dim: int = integer(1, WIDTH)
    rewards: Scalar = MISSING
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    retnet: RetNetConfig = field(default_factory=RetNetConfig)
    lstm: RecurrentConfig = field(default_factory=RecurrentConfig)
    gru: RecurrentConfig = field(default_factory=RecurrentConfig)


@dataclass
class CuriosityConfig:
    """Disagreement of an ensemble about the next observation as a reward (M3)."""

    members: int = integer(0, 64, default=0)  # 0: none, the reward is the predicted one times its weight
    real_weight: float = number(0, WEIGHT, default=1.0)
    intrinsic_weight: float = number(0, WEIGHT, default=0.0)


@dataclass
class TokenWorldModelConfig(WorldModelConfig):
    """Over observation tokens and actions (IRIS, REM, M3)."""

    context: int = integer(1, BLOCKS)  # frames that imagination starts from, the current one included
    unscored_blocks: int = integer(0, BLOCKS)  # blocks at the start of a training segment that no loss counts
    embeddings: Embeddings = MISSING
    frozen_action_embeddings: bool = MISSING  # as in the released code without POP, whose action table never learns
    shared_prediction_token: bool = MISSING  # POP: one embedding for all prediction tokens
    # POP: of their initial values; None: that of the initialisation
    prediction_token_std: float | None = number(0, 10, default=None)
    initialisation: Initialisation = MISSING
    heads: Heads = Heads.relu
    read_out: ReadOut = ReadOut.action
    ends_alignment: EndsAlignment = EndsAlignment.aligned
    action_levels: int = integer(2, 1024, default=51)  # of each continuous action
    tokenized_actions: bool = True  # continuous actions: a token a dimension, or one for all
    curiosity: CuriosityConfig = field(default_factory=CuriosityConfig)

    @property
    def lead(self) -> int:
        """Steps of an episode that stand before the first frame that imagination may start from."""
        return max(self.unscored_blocks, self.context - 1)


@dataclass
class LossWeights:
    """Of the world model's losses."""

    observations: float = number(0, WEIGHT)
    rewards: float = number(0, WEIGHT)
    ends: float = number(0, WEIGHT)


@dataclass
class DeltaWorldModelConfig(WorldModelConfig):
    """Over frames, actions and delta tokens (Delta-IRIS)."""

    frame_tokens: bool = MISSING  # a continuous token of the frame in every block, or only at the start of a sequence
    frame_encoder: EncoderConfig = field(default_factory=EncoderConfig)  # frames to these tokens
    weights: LossWeights = field(default_factory=LossWeights)


@dataclass
class PolicyConfig:
    recurrence: Recurrence = MISSING
    hidden_dim: int = integer(1, WIDTH)
    values: Scalar = MISSING


@dataclass
class TokenPolicyConfig(PolicyConfig):
    """Over what the tokens hold of an observation (IRIS, REM, M3)."""

    input: PolicyInput = MISSING
    action_input: bool = MISSING  # whether the policy also takes each action that it has chosen
    burn_in_actions: BurnInActions = MISSING
    # Widths of the layers that join the modalities (input: tokens)
    fuser: list[int] = integers(1, WIDTH, longest=8, default=[])
    token_dim: int = integer(1, WIDTH, default=64)  # embeddings of categories in the policy
    separate_critic: bool = False  # whether the values have a network of their own
    value_bins: int = integer(2, 4096, default=129)  # of values: hl_gauss


@dataclass
class DeltaPolicyConfig(PolicyConfig):
    """Over frames, real or imagined (Delta-IRIS)."""

    frame_encoder: EncoderConfig = field(default_factory=EncoderConfig)


@dataclass
class ModelConfig:
    """What the agents of all methods have."""

    backbone: Backbone = MISSING
    decoding: Decoding = MISSING
    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)


@dataclass
class TokenModelConfig(ModelConfig):
    tokenizer: ImageTokenizerConfig = field(default_factory=ImageTokenizerConfig)
    world_model: TokenWorldModelConfig = field(default_factory=TokenWorldModelConfig)
    policy: TokenPolicyConfig = field(default_factory=TokenPolicyConfig)


@dataclass
class DeltaModelConfig(ModelConfig):
    tokenizer: DeltaTokenizerConfig = field(default_factory=DeltaTokenizerConfig)
    world_model: DeltaWorldModelConfig = field(default_factory=DeltaWorldModelConfig)
    policy: DeltaPolicyConfig = field(default_factory=DeltaPolicyConfig)


@dataclass
class ComponentTrainingConfig:
    """Schedule and optimiser of one component."""

    batch_size: int = integer(1, BATCH)  # segments a micro-batch
    gradient_accumulation: int = integer(1, 4096)
    max_grad_norm: float = positive(WEIGHT)
    learning_rate: float = positive(1)
    weight_decay: float = number(0, 1)
    decay: Decay = MISSING  # what the weight decay acts on
    start_after_epochs: int = integer(0, EPOCHS)
    stop_after_epochs: int | None = integer(1, EPOCHS)  # frozen from then on; None: trained to the end
    updates_per_epoch: int = integer(1, UPDATES)
    updates_first_epoch: int | None = integer(1, UPDATES, default=None)  # of the run; None: as in any other


@dataclass
class BehaviourTrainingConfig(ComponentTrainingConfig):
    """Actor-critic training in imagination (IRIS section 2.3)."""

    horizon: int = integer(2, BLOCKS)  # looks, of which the last only bootstraps (IRIS, REM); steps (Delta-IRIS)
    burn_in: int = integer(0, BLOCKS)
    gamma: float = probability()
    lambda_: float = probability()
    entropy_weight: float = number(0, 1000)
    stop_at_end: bool = False  # steps behind an imagined end do not count
    imagination_start: ImaginationStart = ImaginationStart.aligned
    entropy_of_last: bool = False  # whether the look that only bootstraps counts for the entropy, as in M3
    # Batches whose returns' spread scales advantages (M3); None: no scaling
    return_window: int | None = integer(1, 100_000, default=None)
    critic_warmup_epochs: int = integer(0, EPOCHS, default=0)  # in which only the critic learns


@dataclass
class DeltaBehaviourTrainingConfig(BehaviourTrainingConfig):
    """With a target network, a moving average of the policy, for baseline and bootstrap (Delta-IRIS)."""

    horizon: int = integer(1, BLOCKS)
    target_decay: float = probability()
    # of all networks in imagination, which starts behind delta tokens encoded in full precision; None: as the other
    # components
    precision: Precision | None = None


@dataclass
class TrainingConfig:
    epochs: int = integer(1, EPOCHS)
    sequence_length: int = integer(1, BLOCKS)  # blocks a world-model segment
    precision: Precision = MISSING
    tokenizer: ComponentTrainingConfig = field(default_factory=ComponentTrainingConfig)
    world_model: ComponentTrainingConfig = field(default_factory=ComponentTrainingConfig)
    actor_critic: BehaviourTrainingConfig = field(default_factory=BehaviourTrainingConfig)


@dataclass
class TokenTrainingConfig(TrainingConfig):
    sampling: Sampling = MISSING
    # Sampling: prioritised; the share of a batch that is drawn uniformly
    uniform_fraction: float = probability(default=0.7)
    # Batches by which losses miss their segments; 4 in M3's published runs on Atari and DMC
    priority_lag: int = integer(0, 1000, default=0)


@dataclass
class DeltaTrainingConfig(TrainingConfig):
    sequence_length: int = integer(2, BLOCKS)  # a transition
    tokenizer_sequence_length: int = integer(2, BLOCKS)  # frames a tokenizer segment
    actor_critic: DeltaBehaviourTrainingConfig = field(default_factory=DeltaBehaviourTrainingConfig)
    sampling_exponent: float = number(0, 20)  # an episode of n draws has the weight (1 + n)^-exponent


@dataclass
class EvaluationConfig:
    """Evaluation during the run (every ``every`` epochs), and the final protocol that makes the published score."""

    every: int = integer(1, EPOCHS)
    tokenizer_batch_size: int = integer(1, BATCH)
    world_model_batch_size: int = integer(1, BATCH)
    imagined_episodes: int = integer(1, BATCH)
    final_episodes: int = integer(1, EPISODES)
    final_num_envs: int = integer(1, ENVIRONMENTS)
    random_episodes: int = integer(0, EPISODES)  # episodes of the random policy, for comparison; 0 for none


@dataclass
class RuntimeConfig:
    """What cannot change a result: where and how a run is executed. Not part of the configuration's hash."""

    device: str = one_of(DEVICES, "auto, cpu, cuda, cuda:N or mps", default="auto")
    compile: Compile = Compile.auto
    replay: ReplayStorage = ReplayStorage.auto
    deterministic: bool = False
    threads: int | None = integer(1, 4096, default=None)
    # Default: $TOKENWORLDS_SCRATCH or <project>/scratch
    scratch: str | None = text("a folder, made where it is missing", default=None)
    checkpoint_every: int = integer(1, EPOCHS, default=1)  # epochs
    keep_scratch: bool = False
    resume: Resume = Resume.same_code
    tracking: bool = True
    # Default: $MLFLOW_TRACKING_URI or sqlite in the project
    tracking_uri: str | None = text("an address, which MLflow opens", default=None)
    suite: str | None = text("a label", default=None)


@dataclass
class RunConfig:
    method: str = text("`load` knows the methods")
    task: str = text("`envs.check_task` knows the tasks")
    seed: int = integer(0, 2**32 - 1, default=0)
    scale: Scale = Scale.paper
    variant: str | None = text("`load` knows the variants of the method", default=None)
    out: str | None = text("a folder, made where it is missing", default=None)  # default: results/runs/<identity>
    replace: bool = False  # whether a run of another configuration in the run folder is replaced
    environment: EnvironmentsConfig = field(default_factory=EnvironmentsConfig)
    collection: CollectionsConfig = field(default_factory=CollectionsConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    @property
    def identity(self) -> str:
        """``<method>[+<variant>]/<task>/<seed>``."""
        return identity_of(self.method, self.variant, self.task, self.seed)

    @property
    def out_dir(self) -> Path:
        return Path(self.out).absolute() if self.out else project_root() / "results" / "runs" / self.identity

    def hash(self) -> str:
        """Twelve hexadecimal digits that change with everything that can change the result."""
        values = content(self)
        values["deterministic"] = self.runtime.deterministic
        return digest(values)


def identity_of(method: str, variant: str | None, task: str, seed: object) -> str:
    """``<method>[+<variant>]/<task>/<seed>``: the name of a run, of its folder and of its scores."""
    return f"{method}+{variant}/{task}/{seed}" if variant else f"{method}/{task}/{seed}"


def digest(values: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def content(config: RunConfig) -> dict[str, Any]:
    """What decides about the result, in plain values: without where and how a run is executed, and with the content of
    the perceptual weights instead of their place."""
    values = to_dict(config)
    for key in ("out", "replace", "runtime"):
        del values[key]
    tokenizer = values["model"].get("tokenizer", {})
    if weights := tokenizer.get("perceptual_weights"):
        tokenizer["perceptual_weights"] = _content_of(Path(str(weights)))
    return values


PERCEPTUAL_FILES = ("vgg16-397923af.pth", "vgg.pth")
"""The files of a folder of perceptual weights: VGG16 as torchvision names it, and the heads of LPIPS."""


def _content_of(path: Path) -> str:
    """A hash of a file, or of the two files that count in a folder; of what is not there, its name."""
    files = [path / name for name in PERCEPTUAL_FILES] if path.is_dir() else [path]
    found = [_hash_of(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    if found:
        _last_contents[path] = " ".join(found)
    return _last_contents.get(path, str(path))


_last_contents: dict[Path, str] = {}
"""Of files that this process has read: a run keeps its hash when they are moved meanwhile."""


@functools.lru_cache(maxsize=16)
def _hash_of(file: Path, size: int, modified: int) -> str:
    """Size and time tell a file that was replaced meanwhile."""
    return sha256(file)


@dataclass
class TokenRunConfig(RunConfig):
    """IRIS, REM and M3."""

    model: TokenModelConfig = field(default_factory=TokenModelConfig)
    training: TokenTrainingConfig = field(default_factory=TokenTrainingConfig)


@dataclass
class DeltaRunConfig(RunConfig):
    """Delta-IRIS."""

    model: DeltaModelConfig = field(default_factory=DeltaModelConfig)
    training: DeltaTrainingConfig = field(default_factory=DeltaTrainingConfig)


SCHEMAS: dict[str, type[RunConfig]] = {
    "iris": TokenRunConfig,
    "rem": TokenRunConfig,
    "delta_iris": DeltaRunConfig,
    "m3": TokenRunConfig,
}


def to_dict(config: object) -> dict[str, Any]:
    """Plain values (enums by name), ready for YAML or JSON; passwords in addresses are masked."""

    def plain(value: Any) -> Any:
        if isinstance(value, str):
            return redact(value)
        if isinstance(value, Enum):
            return value.name
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return value

    return cast(dict[str, Any], plain(dataclasses.asdict(cast(Any, config))))
