"""The typed schema of a run, and how its layers are put together.

A run's configuration is, from the bottom up:

1. ``pipeline/<method>/params.yaml``: the published values (they stand there and nowhere else);
2. named overrides of the same file: ``scales.<scale>``, ``tasks.<task>``, ``variants.<variant>``;
3. the root ``params.yaml``: the switches that cut across methods (``model.backbone`` and its like);
4. command-line overrides.

Every layer is merged into the dataclasses below, so an unknown key, a wrong type or an unknown choice fails at once
with its full name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from enum import Enum
from functools import reduce
from pathlib import Path
from typing import Any, cast

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tokenworlds.envs.spec import EnvironmentConfig
from tokenworlds.errors import UserError, near_matches


def project_root() -> Path:
    """The project that the working folder lies in (so that a copy of it writes into itself), else the checkout of this
    package."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").is_file() and (folder / "pipeline").is_dir():
            return folder
    return Path(__file__).resolve().parents[2]


class Scale(Enum):
    """How large a run is: ``smoke`` for pipelines, ``small`` learns on a CPU in minutes, ``paper`` is the published
    size."""

    smoke = "smoke"
    small = "small"
    paper = "paper"


class Backbone(Enum):
    """Sequence models that a token world model can run on."""

    transformer = "transformer"


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


class Precision(Enum):
    """Number format of network arithmetic: ``tf32`` is what the published numbers were made with on a GPU."""

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

    num_envs: int = MISSING
    epsilon: float = MISSING  # probability of uniform random actions, one draw per vector step
    temperature: float = MISSING
    burn_in: int = MISSING  # frames that warm up the policy's state when an episode is continued
    steps: int | None = None  # agent steps a call
    episodes: int | None = None
    stop_after_epochs: int | None = None
    parallel: bool = True  # one worker process per environment, or in-process


@dataclass
class CollectionsConfig:
    train: CollectionConfig = field(default_factory=CollectionConfig)
    test: CollectionConfig = field(default_factory=CollectionConfig)


@dataclass
class ImageTokenizerConfig:
    """Discrete autoencoder of IRIS (appendix A.1): 64x64 frames to a grid of codes."""

    vocab_size: int = MISSING
    embed_dim: int = MISSING
    z_channels: int = MISSING
    ch: int = MISSING
    ch_mult: list[int] = MISSING
    num_res_blocks: int = MISSING
    attn_resolutions: list[int] = MISSING
    dropout: float = MISSING
    beta: float = MISSING  # weight of the commitment of the encoder against that of the codebook
    reconstruction: Reconstruction = MISSING
    perceptual: Perceptual = MISSING
    perceptual_weights: str | None = None  # folder or file with the VGG16 and head weights, see tokenizers/lpips.py


@dataclass
class WorldModelConfig:
    """Token world model (IRIS section 2.2): width and depth of the backbone, dropouts, length in blocks."""

    max_blocks: int = MISSING
    num_layers: int = MISSING
    num_heads: int = MISSING
    embed_dim: int = MISSING
    attention: Attention = MISSING
    embed_dropout: float = MISSING
    residual_dropout: float = MISSING
    attention_dropout: float = MISSING


@dataclass
class PolicyConfig:
    lstm_dim: int = MISSING


@dataclass
class ModelConfig:
    backbone: Backbone = MISSING
    tokenizer: ImageTokenizerConfig = field(default_factory=ImageTokenizerConfig)
    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)


@dataclass
class ComponentTrainingConfig:
    """Schedule and optimiser of one component."""

    batch_size: int = MISSING  # segments a micro-batch
    gradient_accumulation: int = MISSING
    max_grad_norm: float = MISSING
    learning_rate: float = MISSING
    weight_decay: float = MISSING
    start_after_epochs: int = MISSING
    stop_after_epochs: int | None = MISSING  # frozen from then on; None: trained to the end
    updates_per_epoch: int = MISSING


@dataclass
class BehaviourTrainingConfig(ComponentTrainingConfig):
    """Actor-critic training in imagination (IRIS section 2.3)."""

    horizon: int = MISSING
    burn_in: int = MISSING
    gamma: float = MISSING
    lambda_: float = MISSING
    entropy_weight: float = MISSING


@dataclass
class TrainingConfig:
    epochs: int = MISSING
    sequence_length: int = MISSING  # blocks a world-model segment
    precision: Precision = MISSING
    tokenizer: ComponentTrainingConfig = field(default_factory=ComponentTrainingConfig)
    world_model: ComponentTrainingConfig = field(default_factory=ComponentTrainingConfig)
    actor_critic: BehaviourTrainingConfig = field(default_factory=BehaviourTrainingConfig)


@dataclass
class EvaluationConfig:
    """Evaluation during the run (every ``every`` epochs), and the final protocol that makes the published score."""

    every: int = MISSING
    tokenizer_batch_size: int = MISSING
    world_model_batch_size: int = MISSING
    imagined_episodes: int = MISSING
    final_episodes: int = MISSING
    final_num_envs: int = MISSING
    random_episodes: int = MISSING  # episodes of the random policy, for comparison; 0 for none


@dataclass
class RuntimeConfig:
    """What cannot change a result: where and how a run is executed. Not part of the configuration's hash."""

    device: str = "auto"
    compile: Compile = Compile.auto
    deterministic: bool = False
    threads: int | None = None
    scratch: str | None = None  # default: $TOKENWORLDS_SCRATCH or <project>/scratch
    checkpoint_every: int = 1  # epochs
    keep_scratch: bool = False
    tracking: bool = True
    tracking_uri: str | None = None  # default: $MLFLOW_TRACKING_URI or sqlite in the project
    suite: str | None = None


@dataclass
class RunConfig:
    method: str = MISSING
    task: str = MISSING
    seed: int = 0
    scale: Scale = Scale.paper
    variant: str | None = None
    out: str | None = None  # default: results/runs/<identity>
    environment: EnvironmentsConfig = field(default_factory=EnvironmentsConfig)
    collection: CollectionsConfig = field(default_factory=CollectionsConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    @property
    def identity(self) -> str:
        """``<method>[+<variant>]/<task>/<seed>``."""
        method = f"{self.method}+{self.variant}" if self.variant else self.method
        return f"{method}/{self.task}/{self.seed}"

    @property
    def out_dir(self) -> Path:
        return Path(self.out).absolute() if self.out else project_root() / "results" / "runs" / self.identity

    def hash(self) -> str:
        """Twelve hexadecimal digits that change with everything that can change the result."""
        values = to_dict(self)
        for key in ("out", "runtime"):
            del values[key]
        values["deterministic"] = self.runtime.deterministic
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def known_methods() -> list[str]:
    return sorted(path.parent.name for path in (project_root() / "pipeline").glob("*/params.yaml"))


def load(overrides: list[str]) -> RunConfig:
    """The resolved configuration of the run described by ``overrides`` such as ``["method=iris", "task=atari/Pong"]``.

    Raises:
        UserError: unknown method, variant, key or choice; wrong type; missing value; impossible combination.
    """
    try:
        return _load(overrides)
    except OmegaConfBaseException as error:
        key = f"{error.full_key}: " if error.full_key else ""
        message = (error.msg or str(error)).splitlines()[0].rstrip(".")
        raise UserError(f"configuration: {key}{message}{_remedy(error.full_key or '', message)}") from error


def _load(overrides: list[str]) -> RunConfig:
    command_line = OmegaConf.from_dotlist(overrides)
    head = _merge(OmegaConf.structured(RunConfig), command_line)
    for required in ("method", "task"):
        if OmegaConf.is_missing(head, required):
            raise UserError(
                f"configuration: {required} is not given; say for example method=iris task=atari/Pong seed=0."
            )
    if head.method not in known_methods():
        raise UserError(f"unknown method '{head.method}': {near_matches(head.method, known_methods())}")
    params = _read_yaml(project_root() / "pipeline" / head.method / "params.yaml")
    layers = [{key: value for key, value in params.items() if key not in ("scales", "tasks", "variants")}]
    layers.append(params.get("scales", {}).get(head.scale.name, {}))
    layers.append(params.get("tasks", {}).get(head.task, {}))
    if head.variant is not None:
        variants = params.get("variants", {})
        if head.variant not in variants:
            raise UserError(
                f"unknown variant '{head.variant}' of {head.method}: {near_matches(head.variant, variants)}"
            )
        layers.append(variants[head.variant])
    layers.append({"model": _without_nulls(_read_yaml(project_root() / "params.yaml").get("model") or {})})
    config = OmegaConf.structured(RunConfig)
    for layer in [*layers, command_line]:
        config = _merge(config, layer)
    return validate(_instantiate(cast(DictConfig, config)))


def _merge(config: Any, layer: Any) -> Any:
    """``config`` with ``layer`` on top."""
    try:
        return OmegaConf.merge(config, layer)
    except OmegaConfBaseException as error:
        error.full_key = error.full_key or _misplaced(RunConfig(), layer)
        raise


def _misplaced(schema: Any, layer: Any, prefix: str = "") -> str:
    """The key of a plain value in the place of a section, which OmegaConf does not name."""
    for key, value in layer.items():
        section = getattr(schema, str(key), None)
        if dataclasses.is_dataclass(section):
            is_section = isinstance(value, dict | DictConfig)
            if found := _misplaced(section, value, f"{prefix}{key}.") if is_section else f"{prefix}{key}":
                return found
    return ""


def _instantiate(config: DictConfig) -> RunConfig:
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UserError(
            f"configuration: {', '.join(missing)} has no value; "
            "give one in the method's params.yaml or on the command line."
        )
    return cast(RunConfig, OmegaConf.to_object(config))


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    loaded = OmegaConf.load(path)
    if isinstance(loaded, ListConfig):
        raise UserError(f"{path} should hold a mapping, not a list.")
    return cast(dict[str, Any], OmegaConf.to_container(loaded))


def _without_nulls(values: dict[str, Any]) -> dict[str, Any]:
    """A null in the root params.yaml means: the method's own value."""
    nested = {key: _without_nulls(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: value for key, value in nested.items() if value is not None and value != {}}


def _remedy(full_key: str, message: str) -> str:
    """For an unknown key: the known ones nearby."""
    if "not in" not in message:
        return "."
    schema: Any = RunConfig()
    *parents, name = full_key.split(".")
    for parent in parents:
        schema = getattr(schema, parent, None)
    if not dataclasses.is_dataclass(schema):
        return "."
    return f"; {near_matches(name, [f.name for f in dataclasses.fields(schema)])}"


AT_LEAST = {
    "collection.train.steps": 1,
    "collection.train.stop_after_epochs": 1,
    "collection.train.burn_in": 0,
    "collection.test.num_envs": 1,
    "collection.test.episodes": 1,
    "model.world_model.max_blocks": 2,  # an observation, and room for the block after it
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
    require(
        world.embed_dim % world.num_heads == 0,
        f"model.world_model.embed_dim ({world.embed_dim}) must be a multiple of "
        f"model.world_model.num_heads ({world.num_heads}).",
    )
    require(
        training.sequence_length <= world.max_blocks,
        f"training.sequence_length ({training.sequence_length}) exceeds "
        f"model.world_model.max_blocks ({world.max_blocks}).",
    )
    widths = [model.tokenizer.ch * multiplier for multiplier in model.tokenizer.ch_mult]
    require(
        all(width % 32 == 0 for width in widths),
        f"model.tokenizer.ch x ch_mult gives widths {widths}; each must be a multiple of 32 (group normalisation).",
    )
    require(
        config.environment.train.size % 2 ** (len(widths) - 1) == 0
        and config.environment.train.size >= 2 ** len(widths),
        f"environment.train.size ({config.environment.train.size}) cannot be halved {len(widths) - 1} times "
        "to 2 pixels or more (model.tokenizer.ch_mult).",
    )
    require(
        config.environment.train.size == config.environment.test.size,
        "environment.train.size and environment.test.size differ.",
    )
    require(
        config.collection.train.num_envs == 1, "collection.train.num_envs must be 1: training episodes are one stream."
    )
    if model.tokenizer.perceptual is Perceptual.lpips:
        path = model.tokenizer.perceptual_weights
        require(
            path is not None,
            "model.tokenizer.perceptual=lpips needs model.tokenizer.perceptual_weights=FILE (README, Perceptual loss).",
        )
        require(
            Path(str(path)).exists(),
            f"model.tokenizer.perceptual_weights: there is no file {path} (README, Perceptual loss).",
        )
    return config


def to_dict(config: object) -> dict[str, Any]:
    """Plain values (enums by name), ready for YAML or JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, Enum):
            return value.name
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return value

    return cast(dict[str, Any], plain(dataclasses.asdict(cast(Any, config))))
