"""A run's whole configuration, its identity and its hash; values are in ``pipeline/<method>/params.yaml``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from tokenworlds.config.actor_critic import DeltaPolicyConfig, PolicyConfig, PolicyInput, TokenPolicyConfig
from tokenworlds.config.backbones import Backbone
from tokenworlds.config.environments import CollectionsConfig, EnvironmentsConfig
from tokenworlds.config.initialization import ExtendedConfig, InitializationConfig, content_of, hash_of_file, places_of
from tokenworlds.config.paths import project_root
from tokenworlds.config.pretraining import PretrainingConfig
from tokenworlds.config.quirks import Quirks, TokenQuirks
from tokenworlds.config.ranges import (
    BATCH,
    ENVIRONMENTS,
    EPISODES,
    EPOCHS,
    MISSING,
    check_ranges,
    integer,
    one_of,
    positive,
    require,
    text,
)
from tokenworlds.config.tokenizers import (
    PERCEPTUAL_FILES,
    DeltaTokenizerConfig,
    ImageTokenizerConfig,
    TokenizerNetwork,
    evaluated_terms,
    reduction,
)
from tokenworlds.config.training import DeltaTrainingConfig, TokenizerTraining, TokenTrainingConfig, TrainingConfig
from tokenworlds.config.trunk import digest_of_weights
from tokenworlds.config.values import flat, to_dict
from tokenworlds.config.world_models import (
    Decoding,
    DeltaWorldModelConfig,
    Embeddings,
    ReadOut,
    TokenWorldModelConfig,
    WorldModelConfig,
)
from tokenworlds.errors import UserError

DEVICES = r"auto|cpu|mps|cuda(:(0|[1-9][0-9]?))?"
ALTERNATIVES = {"model.backbone": "model.world_model", "model.tokenizer.network": "model.tokenizer"}
"""Choice -> section in which each alternative has a section of its own; only that of the chosen one is required."""
ALWAYS_KEPT = frozenset({"transformer", "retnet", "lstm", "gru", "resnet", "conv"})
"""Alternatives whose settings stay in a configuration that chose another one, because hashes of finished runs cover
them. Those of later ones are left out, so that a further alternative leaves all hashes alone."""
OF_TOKENIZERS = (
    *("method", "task", "seed", "scale", "environment.train", "collection.train.num_envs", "model.tokenizer"),
    *("pretraining", "quirks.perceptual_dropout", "runtime.deterministic"),
    *("training.epochs", "training.precision", "training.sampling", "training.tokenizer"),
)
"""Settings that a tokenizer's training of its own depends on."""

Scale = Enum("Scale", "smoke small laptop paper")
"""Size of a run: ``smoke`` for pipelines, ``small`` learns on a CPU in minutes, ``laptop`` learns Atari games on a CPU
core in hours, ``paper`` is the published size."""

Compile = Enum("Compile", "auto off")
"""Whether imagination is captured as a CUDA graph: ``auto`` does so where there is a GPU."""

ReplayStorage = Enum("ReplayStorage", "auto device host")
"""Memory for stored observations: that of the networks, the host's, or the host's only where they would fill more
than half of a GPU, or of the run's share of it (``auto``; ten million frames of Crafter are 123 GB)."""

Resume = Enum("Resume", "same_code any_code never")
"""What to do with a checkpoint that other code wrote: refuse it, go on from it, or start the run again."""


@dataclass
class ModelConfig:
    """Agents of all methods."""

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
    """Where and how a run is executed, which cannot change its result. Not part of the configuration's hash."""

    device: str = one_of(DEVICES, "auto, cpu, cuda, cuda:N or mps", default="auto")
    compile: Compile = Compile.auto
    replay: ReplayStorage = ReplayStorage.auto
    gpu_share: float = positive(1, default=1.0)  # of a GPU's memory, where several runs share it
    deterministic: bool = False
    threads: int | None = integer(1, 4096, default=None)
    # Default: $TOKENWORLDS_SCRATCH or <project>/scratch
    scratch: str | None = text("a folder, made where it is missing", default=None)
    checkpoint_every: int = integer(1, EPOCHS, default=1)  # epochs
    keep_scratch: bool = False
    kept_episodes: int = integer(0, EPISODES, default=3)  # the last so many of training and of the final evaluation
    measured_episodes: int = integer(0, EPISODES, default=16)  # final ones that the world model is compared with
    keep_replay: bool = False  # whether the run folder gets the whole experience (docs/runs.md says how large it is)
    resume: Resume = Resume.same_code
    tracking: bool = True
    # Default: $MLFLOW_TRACKING_URI or sqlite in the project
    tracking_uri: str | None = text("an address, which MLflow opens", default=None)
    suite: str | None = text("a label", default=None)


@dataclass
class RunConfig:
    """Everything about a run; one subclass per kind of agent."""

    method: str = text("`load` knows the methods")
    task: str = text("`envs.check_task` knows the tasks")
    seed: int = integer(0, 2**32 - 1, default=0)
    scale: Scale = Scale.paper
    variant: str | None = text("`load` knows the variants of the method", default=None)
    out: str | None = text("a folder, made where it is missing", default=None)  # default: results/runs/<identity>
    replace: bool = False  # whether a run of another configuration in the run folder is replaced
    extend: str | None = text("a finished run, from whose end this one goes on", default=None)
    environment: EnvironmentsConfig = field(default_factory=EnvironmentsConfig)
    collection: CollectionsConfig = field(default_factory=CollectionsConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    quirks: Quirks = field(default_factory=Quirks)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    initialization: InitializationConfig | None = None
    extended_from: ExtendedConfig | None = None  # what ``load`` found in the folder that ``extend`` names

    @property
    def identity(self) -> str:
        """``<method>[+<variant>]/<task>/<seed>``."""
        return identity_of(self.method, self.variant, self.task, self.seed)

    @property
    def out_dir(self) -> Path:
        return Path(self.out).absolute() if self.out else project_root() / "results" / "runs" / self.identity

    @property
    def places(self) -> dict[str, str]:
        """Where each part of another agent is loaded from."""
        chosen = self.initialization
        return {} if chosen is None else places_of(vars(chosen), self.task, self.seed)

    @property
    def trained_before(self) -> frozenset[str]:
        """Components that mean something before their first update."""
        return frozenset(self.places)

    def hash(self) -> str:
        """Twelve hexadecimal digits that change with everything that can change the result."""
        return hash_of(to_dict(self))

    def check(self) -> None:
        """Checks of each part against the others."""
        model = self.model
        require(
            (self.extend is None) == (self.extended_from is None),
            "extended_from is what extend=RUN finds; leave it out.",
        )
        if self.initialization is not None:
            self.initialization.check()
        self.collection.check()
        self.environment.check()
        model.world_model.check(model.backbone, self.training.sequence_length)
        model.policy.check()


@dataclass
class TokenRunConfig(RunConfig):
    """IRIS, REM and M3."""

    model: TokenModelConfig = field(default_factory=TokenModelConfig)
    training: TokenTrainingConfig = field(default_factory=TokenTrainingConfig)
    quirks: TokenQuirks = field(default_factory=TokenQuirks)
    pretraining: PretrainingConfig | None = None  # of the tokenizer that the run begins with

    @property
    def trained_before(self) -> frozenset[str]:
        is_external = self.model.tokenizer.network is TokenizerNetwork.external
        return super().trained_before | ({"tokenizer"} if is_external else frozenset())

    def check(self) -> None:
        super().check()
        self.check_tokenizer()
        model, training, has_final = self.model, self.training, self.collection.train.final_observation
        model.world_model.check_tokens(
            model.decoding, training.sequence_length, training.world_model.batch_size, has_final
        )
        training.actor_critic.check(model.world_model.context, self.quirks.imagination_start, has_final)
        if model.world_model.read_out is ReadOut.action:
            self.collection.check_ends_are_steps()
        model.tokenizer.check(self.environment.train.size)

    def check_tokenizer(self) -> None:
        """Refuse to leave fresh weights as they are, and to train a network that is not ours."""
        train, is_ready = self.training.tokenizer.train, "tokenizer" in self.trained_before
        require(
            is_ready or train in (None, TokenizerTraining.always),
            f"training.tokenizer.train={getattr(train, 'name', '')} needs a trained tokenizer: give "
            "initialization.tokenizer=RUN.",
        )
        if self.model.tokenizer.network is TokenizerNetwork.external:
            require(train is TokenizerTraining.never, "an external tokenizer needs training.tokenizer.train=never.")
            own = (self.model.policy.input is PolicyInput.pixels, self.model.world_model.embeddings is Embeddings.own)
            require(
                all(own),
                "an external tokenizer needs model.policy.input=pixels and model.world_model.embeddings=own: its codes "
                "are not known.",
            )
            require(
                self.model.tokenizer.loss is None,
                "an external tokenizer learns nothing: leave out model.tokenizer.loss.",
            )
        learning = {"adversarial", "value"} & {*evaluated_terms(self.model.tokenizer.loss)}
        require(
            train is not TokenizerTraining.decoder_only or not learning,
            f"training.tokenizer.train=decoder_only trains the decoder alone, not what model.tokenizer.loss."
            f"{min(learning, default='')} learns: leave that term out.",
        )
        if self.pretraining is not None:
            self.pretraining.check(self.task, self.training.tokenizer.updates_per_epoch)
            require(
                "value" not in evaluated_terms(self.model.tokenizer.loss),
                "model.tokenizer.loss.value.weight must be 0 with a section pretraining: its frames have no returns.",
            )


@dataclass
class DeltaRunConfig(RunConfig):
    """Delta-IRIS."""

    model: DeltaModelConfig = field(default_factory=DeltaModelConfig)
    training: DeltaTrainingConfig = field(default_factory=DeltaTrainingConfig)

    def check(self) -> None:
        super().check()
        model, size = self.model, self.environment.train.size
        self.training.check(model.world_model.max_blocks)
        self.collection.check_ends_are_steps()
        model.tokenizer.check(size)
        model.world_model.check_delta(model.decoding, size)
        model.policy.frame_encoder.check("model.policy.frame_encoder", size)
        if model.world_model.generator is not None:
            model.world_model.generator.check(self.training.sequence_length, self.training.actor_critic.burn_in)
            require(
                reduction(model.world_model.frame_encoder) == reduction(model.tokenizer.encoder),
                f"model.world_model.frame_encoder divides the side of a frame by "
                f"{reduction(model.world_model.frame_encoder)} (patch_size, halve), model.tokenizer.encoder by "
                f"{reduction(model.tokenizer.encoder)}: their maps must have one size, to be mixed.",
            )


SCHEMAS: dict[str, type[RunConfig]] = {
    "iris": TokenRunConfig,
    "rem": TokenRunConfig,
    "delta_iris": DeltaRunConfig,
    "m3": TokenRunConfig,
}


def validate(config: RunConfig) -> RunConfig:
    """Refuse values out of their ranges and combinations that cannot work, before anything runs.

    Raises:
        UserError: in one sentence, with the full key.
    """
    check_ranges(config)
    config.check()
    return config


def pretraining_run(config: RunConfig) -> TokenRunConfig:
    """The training of the tokenizer that a run begins with, as a run of its own, in which nothing else learns and all
    frames come in the first epoch.

    Raises:
        UserError: the run begins with no pretrained tokenizer.
    """
    if not isinstance(config, TokenRunConfig) or config.pretraining is None or "tokenizer" not in config.places:
        raise UserError(
            f"{config.identity} has no section pretraining, or no initialization.tokenizer for what comes of it; "
            "choose a variant that begins with a pretrained tokenizer, such as tokenizer-random-policy."
        )
    chosen, training = config.pretraining, config.training
    tokenizer = replace(
        training.tokenizer, train=None, start_after_epochs=0, stop_after_epochs=None, updates_first_epoch=None
    )
    collection = replace(
        config.collection.train, steps=chosen.frames, steps_first_epoch=None, stop_after_epochs=1, epsilon=0.0
    )
    alone = replace(
        training,
        epochs=chosen.updates // tokenizer.updates_per_epoch,
        tokenizer=tokenizer,
        world_model=replace(training.world_model, stop_after_epochs=0),
        actor_critic=replace(training.actor_critic, stop_after_epochs=0),
    )
    own = replace(
        config,
        initialization=None,
        pretraining=replace(chosen),
        training=alone,
        collection=replace(config.collection, train=collection),
        evaluation=replace(config.evaluation, every=EPOCHS),
    )
    validate(own)
    return own


def of_tokenizer(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings of a ``pretraining_run``, by dotted key, that its tokenizer depends on."""
    return {
        key: value for key, value in settings.items() if any(f"{key}.".startswith(f"{name}.") for name in OF_TOKENIZERS)
    }


def tokenizer_settings(config: RunConfig) -> dict[str, Any]:
    """Plain values by dotted key that decide about the tokenizer of a ``pretraining_run``, however it was executed:
    those of every run that may begin with it."""
    return of_tokenizer(flat(content(to_dict(config))))


def identity_of(method: str, variant: str | None, task: str, seed: object) -> str:
    """``<method>[+<variant>]/<task>/<seed>``: the name of a run, of its folder and of its scores."""
    return f"{method}+{variant}/{task}/{seed}" if variant else f"{method}/{task}/{seed}"


def digest(values: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def hash_of(values: Mapping[str, Any]) -> str:
    """The hash of a configuration from its plain values, as the file of a run of any revision holds them."""
    return digest({**content(values), "deterministic": values["runtime"]["deterministic"]})


def content(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values of all that decides about the result: without where and how a run is executed, and with the content
    of perceptual and loaded weights instead of their paths."""
    values = {key: value for key, value in configuration.items() if key not in ("out", "replace", "extend", "runtime")}
    values["model"] = dict(values["model"])
    tokenizer = values["model"]["tokenizer"] = dict(values["model"].get("tokenizer", {}))
    if weights := tokenizer.get("perceptual_weights"):
        tokenizer["perceptual_weights"] = _content_of(Path(str(weights)))
    world_model = values["model"].get("world_model", {})
    if trunk := world_model.get("trunk"):
        known = trunk.get("digest") or (trunk.get("weights") and digest_of_weights(str(trunk["weights"])))
        loaded = {"weights": known or trunk.get("weights")}
        kept = {key: value for key, value in trunk.items() if key != "digest"}
        values["model"]["world_model"] = world_model | {"trunk": kept | loaded}
    if initialization := values.get("initialization"):
        values["initialization"] = content_of(initialization, values["task"], values["seed"])
    return values


def _content_of(path: Path) -> str:
    """A hash of a file, or of the two files that count in a folder; the path itself where there is none."""
    files = [path / name for name in PERCEPTUAL_FILES] if path.is_dir() else [path]
    found = [hash_of_file(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    if found:
        _last_contents[path] = " ".join(found)
    return _last_contents.get(path, str(path))


_last_contents: dict[Path, str] = {}
"""Hashes that this process has computed: a run keeps its own when the files are moved meanwhile."""
