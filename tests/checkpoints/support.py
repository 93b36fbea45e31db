"""Small agents in the published layout, files as the authors' programs write them, and a world to play them in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.golden import m3_components
from tests.golden.support import Case, assembled_agent, load_case, load_json, load_tensors
from tokenworlds.checkpoints import importing as importer
from tokenworlds.envs import DiscreteActions, EnvironmentSpec, ImageSpec, atari, dmc
from tokenworlds.envs.spec import Observation, action_space, observation_space

STEPS = 7  # of an episode


class GoldenWorld(gymnasium.Env[Observation, Any]):
    """Random observations of a specification, in episodes of ``STEPS``."""

    def __init__(self, spec: EnvironmentSpec) -> None:
        self.modalities = spec.observation
        self.observation_space, self.action_space = observation_space(spec.observation), action_space(spec.actions)
        self.action_meanings = list(getattr(spec.actions, "meanings", ()))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.observe(), 1.0, self.steps == STEPS, False, {}

    def observe(self) -> Observation:
        def draw(spec: Any) -> np.ndarray:
            if spec.dtype.kind == "f":
                return self.np_random.normal(size=spec.shape).astype(spec.dtype)
            below = getattr(spec, "vocab_size", getattr(spec, "vocab_sizes", 256))
            return self.np_random.integers(below, size=spec.shape).astype(spec.dtype)

        return {name: draw(spec) for name, spec in self.modalities.items()}


@dataclass(frozen=True)
class Published:
    """An agent, the task that it is imported for, what it sees and does, and settings that its shapes do not show."""

    method: str
    state: dict[str, Tensor]
    task: str
    spec: EnvironmentSpec
    hidden: list[str]
    levels: int = importer.LEVELS  # of each continuous action

    def play_in_golden_world(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let every Atari game and DeepMind Control task be a world of this agent's observations and actions."""
        monkeypatch.setattr(importer, "LEVELS", self.levels)
        for module in (atari, dmc):
            monkeypatch.setattr(module, "make", lambda *_: GoldenWorld(self.spec))

    def arguments(self, file: Path, out: Path) -> list[str]:
        settings = (*self.hidden, "collection.test.parallel=false")
        return ["import", str(file), "--task", self.task, "--out", str(out), "--set", *settings]


M3 = {
    "m3 attention": "simulus_imagination_attention_image",
    "m3 continuous": "imagination_vector_continuous",
    "m3 grid": "imagination_token_grid",
    "m3 mixed": "imagination_image_vector_multidiscrete",
}
AGENTS = ("iris", "rem", "delta_iris", *M3)


def published(name: str) -> Published:
    """One of ``AGENTS``, with the sizes of the golden set."""
    if name in M3:
        return _m3(load_case("m3", M3[name]))
    match name:
        case "iris":
            hidden, size = _iris(_section("iris", "imagine_refill", "world_model.")), 64
        case "rem":
            hidden, size = _rem(load_json("rem", "reference_agent")["config"]), 64
        case _:
            parts = ("tokenizer", "world_model_two_hot", "actor_critic_two_hot")
            hidden, size = _delta(*(load_json(name, part)["config"] for part in parts))
    return _discrete(name, assembled_agent(name), size, hidden)


def reference(method: str) -> tuple[Published, Case]:
    """The reference agent of a golden set, and what it computes."""
    state, expected = load_tensors(method, "reference_agent"), load_tensors(method, "reference_agent_expected")
    case = Case("reference", load_json(method, f"reference_agent{'' if method == 'rem' else '_expected'}"), expected)
    match method:
        case "iris":
            hidden, size = _iris(case.config["world_model"]), case["input.frames"].shape[-1]
        case "rem":
            hidden, size = _rem(case.config), case["in.frames"].shape[-1]
        case _:
            parts = ("tokenizer", "world_model", "actor_critic")
            hidden, size = _delta(*(case.config[part] for part in parts))
    return _discrete(method, state, size, hidden), case


def _discrete(method: str, state: dict[str, Tensor], size: int, hidden: list[str]) -> Published:
    """An agent that sees one picture and chooses one action."""
    count = next(len(value) for key, value in state.items() if key.endswith("actor_linear.bias"))
    return Published(method, state, "atari/Pong", spec_of(size, count), hidden)


def spec_of(size: int, actions: int) -> EnvironmentSpec:
    """One picture, discrete actions."""
    return EnvironmentSpec({"image": ImageSpec(size, size)}, DiscreteActions(actions, tuple(map(str, range(actions)))))


def _section(method: str, name: str, prefix: str) -> dict[str, Any]:
    config = load_json(method, name)["config"]
    return {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}


def _iris(world_model: dict[str, Any]) -> list[str]:
    return [*_heads(world_model), f"training.sequence_length={world_model['max_blocks']}"]


def _rem(config: dict[str, Any]) -> list[str]:
    return [*_groups(config["tokenizer"]), *_blocks(config["world_model"]["max_blocks"])]


def _delta(tokenizer: dict[str, Any], world_model: dict[str, Any], policy: dict[str, Any]) -> tuple[list[str], int]:
    """With the pixels of its pictures."""
    transformer, size = world_model["transformer_config"], tokenizer["image_size"]
    return [
        *_heads(transformer),
        *_pixels(size),
        *(f"training.{key}={transformer['max_blocks']}" for key in ("sequence_length", "tokenizer_sequence_length")),
        f"training.actor_critic.burn_in={policy['burn_in_length']}",
        f"training.actor_critic.horizon={policy['imagination_horizon']}",
    ], size


def _m3(case: Case) -> Published:
    """The parameters of a case, with what published files hold beside them: networks without values."""
    config, settings = case.config, m3_components.model(case).world_model
    hidden = [
        *_blocks(settings.max_blocks),
        f"model.world_model.action_levels={settings.action_levels}",
        f"model.world_model.context={settings.context}",
        f"model.world_model.unscored_blocks={settings.context}",
        f"training.actor_critic.burn_in={settings.context}",
    ]
    if "image" in config:
        (size, _) = config["image"]["input_resolution"]
        hidden += [*_pixels(size), *_groups(config["image"])]
    else:
        hidden += ["model.world_model.embeddings=own"]
    state = {key: value.contiguous() for key, value in case.group("param.").items()}
    state["world_model.curiosity_head.vector.meta_model.0.weight"] = torch.empty(3, 3, device="meta")
    task = "dmc/walker-run" if "action_dim" in config else "atari/Pong"
    levels = config.get("n_action_quant_levels", importer.LEVELS)
    return Published("m3", state, task, m3_components.environment(config), hidden, levels)


def _heads(transformer: dict[str, Any]) -> list[str]:
    return [f"model.world_model.transformer.num_heads={transformer['num_heads']}"]


def _blocks(count: int) -> list[str]:
    return [f"{key}={count}" for key in ("model.world_model.max_blocks", "training.sequence_length")]


def _pixels(size: int) -> list[str]:
    return [f"environment.{split}.size={size}" for split in ("train", "test")]


def _groups(config: dict[str, Any]) -> list[str]:
    return [f"model.tokenizer.conv.{key}={config['norm_num_groups']}" for key in ("num_groups", "decoder_groups")]


# Files as training programs write them

State = dict[str, Any]


def cast(state: State, dtype: torch.dtype) -> State:
    """Real numbers in another format."""
    return {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}


def renamed(state: State, prefix: str) -> State:
    return {f"{prefix}{key}": value for key, value in state.items()}


def with_optimiser(state: State) -> State:
    """A whole training: counters, and an optimiser with moments of every tensor, by number."""
    moments = {index: {"step": torch.ones(()), "exp_avg": value} for index, value in enumerate(state.values())}
    optimiser = {"state": moments, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999), "params": [*moments]}]}
    return {"agent": state, "optimizer": {"optimizer_world_model": optimiser}, "epoch": 600}


def with_perceptual(state: State) -> State:
    """The tokenizer's perceptual network, as taming-transformers names it."""
    inside = load_case("iris", "lpips_small").group("param.")
    place = "tokenizer.tokenizers.image.lpips." if any(".tokenizers." in key for key in state) else "tokenizer.lpips."
    return state | renamed(inside, place)


def in_one_memory(state: State) -> State:
    """All real tensors as views of one, which is saved once."""
    real = {key: value for key, value in state.items() if value.dtype == torch.float32 and not value.is_meta}
    parts = torch.cat([value.flatten() for value in real.values()]).split([value.numel() for value in real.values()])
    return state | {key: part.view(value.shape) for (key, value), part in zip(real.items(), parts)}


@contextmanager
def saved_on_gpu() -> Iterator[None]:
    """Let ``torch.save`` write that every tensor is on the first GPU, as it does where they are."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        yield


Pack = Callable[[State], Any]
PACKINGS: dict[str, tuple[Pack, bool]] = {  # whether the file is a zip archive, as since torch 1.6
    "zip": (lambda state: state, True),
    "legacy": (lambda state: state, False),
    "half": (lambda state: cast(state, torch.float16), True),
    "bfloat16": (lambda state: cast(state, torch.bfloat16), True),
    "parallel": (lambda state: renamed(state, "module."), True),
    "compiled": (lambda state: renamed(state, "_orig_mod."), True),
    "compiled parallel part": (
        lambda state: {key.replace(".", "._orig_mod.module.", 1): value for key, value in state.items()}, True
    ),
    "optimiser": (with_optimiser, True),
    "perceptual": (with_perceptual, True),
    "one memory": (in_one_memory, True),
    "everything": (
        lambda state: with_optimiser(renamed(with_perceptual(cast(state, torch.float16)), "module._orig_mod.")), False
    ),
}  # fmt: skip


def pack(state: State, packing: str, file: Path) -> Path:
    """Write ``state`` from a GPU in one of the ``PACKINGS``."""
    arrange, is_zip = PACKINGS[packing]
    with saved_on_gpu():
        torch.save(arrange(state), file, _use_new_zipfile_serialization=is_zip)
    return file
