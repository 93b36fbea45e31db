"""Parts of a new agent that come from another run or from an imported agent (docs/warm_starts.md).

The agent is built whole, with the random numbers of any other; then the parts are overwritten, and only then are
optimisers built.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tokenworlds import loading, tensor_files
from tokenworlds.config import (
    PretrainingConfig,
    RunConfig,
    TokenRunConfig,
    digest_of,
    hash_of,
    pretraining_run,
    to_dict,
    tokenizer_settings,
)
from tokenworlds.config.initialization import content_of
from tokenworlds.config.trunk import TrunkConfig, TrunkInit, weights_file
from tokenworlds.config.values import flat
from tokenworlds.config.yaml_files import read_mapping
from tokenworlds.epoch_files import part
from tokenworlds.errors import UserError, brief
from tokenworlds.files import shortened
from tokenworlds.methods.component import ComponentTrainer
from tokenworlds.runs.layout import CONFIG, ENVIRONMENT, RUN_SCORES, WEIGHTS
from tokenworlds.training import trunk
from tokenworlds.training.checkpoint import CheckpointFolder, load_optimizer
from tokenworlds.training.run_folder import kept_scratch, recall_digest, recorded_hash

PREFIXES = {"tokenizer": ("tokenizer.",), "world_model": ("world_model.",), "actor_critic": ("policy.", "target.")}
"""Names of the tensors of each part; Delta-IRIS's target network belongs to actor and critic."""
SECTIONS = {
    "tokenizer": ("tokenizer",),
    "world_model": ("world_model", "backbone", "decoding"),
    "actor_critic": ("policy",),
}
"""Settings of each part below ``model``."""
ANYWHERE = ("root",)
"""Settings that say where the parts are, not which they are."""
SAME_TRUNK = ("num_heads", "num_kv_heads", "attention", "positions", "norm", "rope_base", "norm_epsilon")
"""Settings of a sequence model that say what its layers do with their weights, and are not seen in their shapes."""
SAME_STATE = ("decay", "return_window")
"""Settings of a component's training that the state of its optimiser and losses depends on."""


@dataclass(frozen=True)
class Source:
    """A run that parts come from: finished, in training, or imported."""

    run: Path
    config: RunConfig
    file: Path  # with the weights
    tensors: dict[str, Tensor]
    epoch: int | None  # of a run in training

    @classmethod
    def read(cls, place: str) -> Source:
        """
        Raises:
            UserError: there is no agent, or a damaged one.
        """
        run = loading.locate(place)
        return cls(run, loading.read_config(run), *loading.read_weights(run))

    def tensors_of(self, component: str) -> dict[str, Tensor]:
        return tensors_of(self.tensors, component)

    def updates(self) -> dict[str, int]:
        """Updates of its components; empty where nothing tells."""
        if self.epoch is not None:
            return dict(json.loads(self.file.with_suffix(".json").read_text())["state"]["updates"])
        return dict(_json(self.run / RUN_SCORES).get("budget", {}).get("agent_updates", {}))

    def card(self) -> dict[str, Any]:
        """What ``scores.json`` tells of it: no paths."""
        card = _json(self.run / "agent.json")
        name = {"imported_from": card["imported_from"]} if "imported_from" in card else {"run": self.config.identity}
        name = {} if "trained_on" in card else name  # a tokenizer of no run
        config_hash = card.get("config_hash") if self.epoch is None else hash_of(read_mapping(self.run / CONFIG))
        revision = card.get("git_revision") or _json(self.run / ENVIRONMENT).get("git_revision")
        found = {"config_hash": config_hash, "git_revision": revision, "weights": digest_of(self.run)}
        return name | found | frames_of(self.run, self.config) | ({} if self.epoch is None else {"epoch": self.epoch})


class Beginning:
    """What a run begins with.

    Args:
        config: of the run, ``settle``d.
        agent: freshly initialised; its parts are overwritten.
        is_new: whether the run begins now; one that goes on has all in its checkpoint.

    Raises:
        UserError: a part is missing, does not fit, or holds NaN or infinite values; or its optimiser's state does.
    """

    def __init__(self, config: RunConfig, agent: nn.Module, is_new: bool) -> None:
        self.record: dict[str, Any] = {}
        """Sections of ``scores.json``: ``trunk``, ``initialization``, ``extended_from``."""
        self._config, chosen = config, config.initialization
        self.loaded = config.trained_before
        """Components whose weights were loaded, which mean something without any update."""
        self._sources: dict[str, Source] = {}
        if is_new:
            frames = _frames_of_trunk(config)
            self.record |= trunk.load(config, agent)
            if frames:
                self.record["trunk"] |= frames
        if chosen is None or not is_new:
            return
        read = cache(Source.read)
        self._sources = {component: read(place) for component, place in config.places.items()}
        if chosen.digest != (found := _digest(config)):
            raise UserError(
                f"initialization.digest is {chosen.digest}, but what is loaded has {found}: the weights are "
                "others, or were replaced just now; give the command again, without that digest for these weights."
            )
        state, loaded = agent.state_dict(), dict[str, Tensor]()
        for component, source in self._sources.items():
            loaded |= _fitting(component, source, state, config)
        agent.load_state_dict(state | loaded)
        cards = {component: source.card() for component, source in self._sources.items()}
        self.record["initialization"] = {"digest": chosen.digest, "optimizers": chosen.optimizers, **cards}
        for component, card in cards.items():
            name = card.get("run") or card.get("imported_from") or card["trained_on"]["source"]
            print(f"{component} from {name}, weights {card['weights']}", flush=True)

    def overrides(self, is_shipped: bool = False) -> dict[str, str]:
        """How this beginning stands among the changed settings, unless the run's variant ``is_shipped`` with it: such a
        run is never one of the fresh ones."""
        is_named = self._config.initialization is not None and not is_shipped
        found = {"initialization": label(self._config)} if is_named else {}
        is_state = self.record.get("extended_from", {}).get("from", "state") == "state"
        return found if is_state else found | {"extended_from": "weights"}

    @property
    def steps_before(self) -> int:
        """Agent steps that count, but are not stored: of the run that left only its weights, and of the frames that a
        part was pretrained on, where these count."""
        counted = {str(found): found["frames"] for found in self.trained_on.values() if found["counts_toward_budget"]}
        return int(self.record.get("extended_from", {}).get("steps_not_stored", 0)) + sum(counted.values())

    @property
    def trained_on(self) -> dict[str, dict[str, Any]]:
        """Frames that the loaded parts were trained on before, by component: ``source``, ``frames``, and whether they
        ``counts_toward_budget``."""
        cards = {"world_model": self.record.get("trunk", {})} | self.record.get("initialization", {})
        return {name: cards[name]["trained_on"] for name in PREFIXES if "trained_on" in cards.get(name, {})}

    def load_optimizers(self, components: Sequence[ComponentTrainer]) -> None:
        """The optimisers' states of the loaded parts, if they were asked for, and those of their losses; the last that
        is needed of the other runs."""
        chosen, sources = self._config.initialization, self._sources
        self._sources = {}
        for some in components if chosen is not None and chosen.optimizers else ():
            if some.name in sources:
                _load_optimizer(some, sources[some.name], self._config)


def frames_of(run: Path, config: RunConfig) -> dict[str, Any]:
    """What an agent was trained on: of a run its own steps, which never count, of a pretrained tokenizer what its card
    says; nothing where neither tells."""
    steps = _json(run / RUN_SCORES).get("budget", {}).get("env_steps")
    own = {} if steps is None else {"source": config.identity, "frames": steps, "counts_toward_budget": False}
    trained_on = _json(run / "agent.json").get("trained_on", own)
    return {"trained_on": trained_on} if trained_on else {}


def _frames_of_trunk(config: RunConfig) -> dict[str, Any]:
    """What the run was trained on whose trunk a sequence model begins with; nothing where there is none, or nothing
    beside its weights.

    Raises:
        UserError: its layers do something else with their weights than those of this run.
    """
    world_model, key = config.model.world_model, "model.world_model"
    chosen = world_model.trunk
    if chosen is None or chosen.init is not TrunkInit.run:
        return {}
    file = weights_file(str(chosen.weights))
    if file.name != WEIGHTS or not (file.parent / CONFIG).is_file():
        return {}
    other = loading.read_config(file.parent)
    theirs, backbone = other.model.world_model, config.model.backbone.name
    sections = [getattr(some, backbone) for some in (world_model, theirs)]
    values: dict[str, list[Any]] = {
        "model.backbone": [config.model.backbone, other.model.backbone],
        **{f"{key}.{backbone}.{name}": [getattr(some, name, None) for some in sections] for name in SAME_TRUNK},
        f"{key}.trunk.activation": [(some.trunk or TrunkConfig()).chosen_activation for some in (world_model, theirs)],
    }
    for name, (here, there) in values.items():
        if here != there:
            raise UserError(
                f"{key}.trunk.weights: {shortened(file.parent, 60)} has {name}={_said(there)}, here it is "
                f"{_said(here)}: give it the value of that run, or another run."
            )
    return frames_of(file.parent, other)


def _said(value: Any) -> str:
    return str(getattr(value, "name", value))


def tensors_of(tensors: dict[str, Tensor], component: str) -> dict[str, Tensor]:
    """The tensors of a part of an agent, without the frozen perceptual network, which has its own file."""
    return {
        name: value for name, value in tensors.items() if name.startswith(PREFIXES[component]) and ".lpips." not in name
    }


def label(config: RunConfig) -> str:
    """``tokenizer-world_model``, ``all``, ``all-optimizers``: which parts a run was given."""
    assert config.initialization is not None
    sources = config.initialization.sources
    parts = ["all"] if len(sources) == len(PREFIXES) else [*sources]
    return "-".join(parts + ["optimizers"] * config.initialization.optimizers)


def settle(config: RunConfig) -> None:
    """Find out which weights a run is to be given, before its hash is asked for. A run that has begun goes on without
    them.

    Raises:
        UserError: there are none.
    """
    chosen = config.initialization
    if chosen is None or chosen.digest is not None:
        return
    missing = [place for place in config.places.values() if digest_of(loading.locate(place)) is None]
    if not missing:
        chosen.digest = _digest(config)
        return
    if recall_digest(config, "initialization", chosen, ANYWHERE):
        return
    if pretraining_of(config) is not None and not (Path(missing[0]) / CONFIG).is_file():
        raise UserError(
            f"{shortened(Path(missing[0]), 80)} holds no pretrained tokenizer yet: `dvc repro` makes it before this "
            f"run, or say python -m pipeline.pretrain {' '.join(_identity(config))}."
        )
    loading.read_config(loading.locate(missing[0]))
    raise UserError(f"{shortened(Path(missing[0]), 80)} holds no weights to begin with; give another run.")


def pretraining_of(config: RunConfig) -> PretrainingConfig | None:
    """How the tokenizer that a run begins with is made; None where that is nobody's business."""
    found: PretrainingConfig | None = getattr(config, "pretraining", None)
    return found


def other_settings(card: Mapping[str, Any], own: TokenRunConfig) -> str:
    """``pretraining.frames (25 there, 17 here) and 2 more``: settings that the pretrained tokenizer of a card was made
    with and that the ``pretraining_run`` of another run has otherwise; empty where the tokenizer is the same.

    Frames of other runs are compared where ``own`` knows which they are.
    """
    found, wanted = card.get("settings", {}), tokenizer_settings(own)
    unknown = {"pretraining.digest"} - wanted.keys()
    differing = [key for key in sorted({*found, *wanted} - unknown) if found.get(key) != wanted.get(key)]
    named = [brief(f"{key} ({found.get(key)} there, {wanted.get(key)} here", 80) + ")" for key in differing[:1]]
    return "".join(named) + (f" and {len(differing) - 1} more" if len(differing) > 1 else "")


def _refuse_other_pretraining(source: Source, config: RunConfig) -> None:
    """Refuse a pretrained tokenizer that was not made as the run says, if it does."""
    card = _json(source.run / "agent.json")
    if pretraining_of(config) is None or "trained_on" not in card:  # a run, or an imported agent
        return
    if others := other_settings(card, pretraining_run(config)):
        raise UserError(
            f"initialization.tokenizer: {shortened(source.run, 60)} was pretrained with {others}; set these alike, or "
            "move it away and give the settings of this run to python -m pipeline.pretrain."
        )


def _identity(config: RunConfig) -> list[str]:
    variant = [f"variant={config.variant}"] if config.variant else []
    return [
        f"method={config.method}",
        *variant,
        f"task={config.task}",
        f"seed={config.seed}",
        f"scale={config.scale.name}",
    ]


def _digest(config: RunConfig) -> str:
    """Digest of the weights as they are now."""
    places = {component: str(loading.locate(place)) for component, place in config.places.items()}
    optimizers = config.initialization is not None and config.initialization.optimizers
    return content_of({**places, "optimizers": optimizers}, config.task, config.seed)


def _fitting(component: str, source: Source, state: dict[str, Tensor], config: RunConfig) -> dict[str, Tensor]:
    """A part's tensors, after all checks."""
    key, name, theirs = f"initialization.{component}", shortened(source.run, 60), source.config
    found, wanted = source.tensors_of(component), tensors_of(state, component)
    if theirs.method != config.method:
        raise UserError(f"{key}: {name} is an agent of {theirs.method}, not of {config.method}; give one of the same.")
    if component == "tokenizer":
        _refuse_other_pretraining(source, config)
    if not wanted:
        raise UserError(f"{key}: the {component} of {config.method} on {config.task} has no weights; leave it out.")
    if misfits := tensor_files.misfits(found, wanted):
        tensor, (shape, expected) = next(iter(misfits.items()))
        more = f", and {len(misfits) - 1} more" if len(misfits) > 1 else ""
        other = f"it was trained on {theirs.task}, this is {config.task}"
        raise UserError(
            f"{key}: {name} does not fit: {brief(tensor, 100)} has {_shape(shape)}, here {_shape(expected)}{more}; "
            f"{other if theirs.task != config.task else 'give it the same settings below model'}."
        )
    tensor_files.refuse_not_finite(source.file, tensor_files.not_finite(found), "that run diverged; give another one")
    was_loaded = theirs.initialization is not None and component in theirs.initialization.sources
    if source.updates().get(component) == 0 and not was_loaded:
        raise UserError(f"{key}: {name} has not trained its {component} yet; leave it out, or give another run.")
    _report_differences(component, source, config)
    return found


def _shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else "x".join(map(str, shape)) or "a number"


def _report_differences(component: str, source: Source, config: RunConfig) -> None:
    """Name settings of a part that differ though its tensors fit, such as a number of heads."""
    ours, theirs = (to_dict(some)["model"] for some in (config, source.config))
    sections = [flat({name: some.get(name) for name in SECTIONS[component]}) for some in (ours, theirs)]
    differing = [
        f"model.{key} ({sections[1].get(key)} there, {value} here)"
        for key, value in sections[0].items()
        if value != sections[1].get(key) and "perceptual" not in key
    ]
    if differing:
        print(f"note: the {component} of {source.config.identity} had other settings: {', '.join(differing[:3])}.")


def last_state(run: Path) -> CheckpointFolder | None:
    """The last checkpoint of a run in training, or of a finished run that kept it; only to be read."""
    remedy = "leave it away, or repair that run"
    if loading.is_training(run):
        return CheckpointFolder(run, hash_of(read_mapping(run / CONFIG)), remedy)
    scratch = kept_scratch(run)
    return None if scratch is None else CheckpointFolder(scratch, str(recorded_hash(run)), remedy)


def _load_optimizer(some: ComponentTrainer, source: Source, config: RunConfig) -> None:
    """The state of a component's optimiser, and that of its losses (the window of returns in M3)."""
    loaded = None if (state := last_state(source.run)) is None else state.latest()
    if loaded is None:
        raise UserError(
            f"initialization.optimizers: {shortened(source.run, 80)} has only its weights; a run in training has the "
            "state of its optimisers, and a finished one that was trained with runtime.keep_scratch=true."
        )
    ours, theirs = (getattr(part_of.training, some.name) for part_of in (config, source.config))
    for name in SAME_STATE:
        if getattr(ours, name, None) != getattr(theirs, name, None):
            raise UserError(f"initialization.optimizers needs the same training.{some.name}.{name} as the other run.")
    load_optimizer(some.optimizer, part(loaded[0], f"optimizer.{some.name}."))
    if some.memory is not None:
        some.memory.load_state(part(loaded[0], f"memory.{some.name}."))


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return {}
