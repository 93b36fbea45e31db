"""Agents of all methods at the smallest size that their configuration files allow, with something to learn from."""

from typing import Any

import torch
from torch import Tensor, nn

from tests import small
from tokenworlds import methods
from tokenworlds.agents.base import Agent
from tokenworlds.config import RunConfig, load
from tokenworlds.config.method_file import MethodFile
from tokenworlds.envs import DiscreteActions, EnvironmentSpec, ImageSpec
from tokenworlds.methods.component import ComponentTrainer
from tokenworlds.replay import ReplayBuffer, Segments
from tokenworlds.rng import RandomStreams

COMMON = (
    "task=minigrid/Empty-5x5",
    "scale=smoke",
    *(f"training.{part}.updates_per_epoch=2" for part in ("tokenizer", "world_model", "actor_critic")),
    *(f"training.{part}.batch_size=2" for part in ("tokenizer", "world_model", "actor_critic")),
    "training.actor_critic.burn_in=2",
    "training.actor_critic.horizon=3",
    "runtime.device=cpu",
)
TOKENS = (  # 4 or 16 tokens a frame, whatever the tokenizer
    "environment.train.size=32",
    "environment.test.size=32",
    "model.tokenizer.resnet.attn_resolutions=[4]",
    "model.tokenizer.resnet.num_res_blocks=0",
)
DELTA = (
    "environment.train.size=16",
    "environment.test.size=16",
    "model.world_model.embed_dim=16",
    "training.tokenizer_sequence_length=3",
    "training.sequence_length=4",
)
MEMBERS = ("training.world_model.batch_size=4",)  # one segment for each member of the ensemble
OVERRIDES = {"iris": TOKENS, "rem": TOKENS, "delta_iris": DELTA, "m3": (*TOKENS, *MEMBERS)}
EPOCH = 2  # not the first, which may have a schedule of its own


def configure(method: str, *overrides: str, variant: str | None = None) -> RunConfig:
    chosen = (f"variant={variant}",) if variant else ()
    of_variant = MethodFile(method).stack("minigrid/Empty-5x5", "smoke", variant).point
    common = [given for given in (*COMMON, *OVERRIDES[method]) if given.partition("=")[0] not in of_variant]
    return load([f"method={method}", *common, *chosen, *overrides])


def spec(size: int, actions: int) -> EnvironmentSpec:
    return EnvironmentSpec({"image": ImageSpec(size, size)}, DiscreteActions(actions))


def replay(size: int, device: torch.device = small.CPU) -> ReplayBuffer:
    """Three episodes of random steps with pictures."""
    return small.buffer([7, 9, 4], seed=1, spec=small.picture_spec(3, size, size), device=device)


def build_agent(config: RunConfig, seen: EnvironmentSpec | None = None) -> Agent:
    """By default of one picture."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        seen = seen or spec(config.environment.train.size, small.ACTIONS)
        return methods.get(config.method).build_agent(config, seen)


def build(
    method: str,
    *overrides: str,
    variant: str | None = None,
    seen: EnvironmentSpec | None = None,
    device: torch.device = small.CPU,
) -> tuple[Any, list[ComponentTrainer]]:
    config = configure(method, *overrides, variant=variant)
    agent = build_agent(config, seen).to(device)
    return agent, methods.get(method).build_components(
        config, agent, experience(config, seen, device), RandomStreams(0, device)
    )


def experience(
    config: RunConfig, seen: EnvironmentSpec | None = None, device: torch.device = small.CPU
) -> ReplayBuffer:
    """Three episodes of random steps of what the agent of ``build`` observes."""
    if seen is None:
        return replay(config.environment.train.size, device)
    return small.buffer([7, 9, 4], spec=seen, device=device)


def drawn_by(component: ComponentTrainer) -> list[Segments]:
    """The segments that the component draws from now on."""
    segments, draw = [], component.sampler.sample

    def drawing(**options: bool) -> Segments:
        segments.append(draw(**options))
        return segments[-1]

    component.sampler.sample = drawing
    return segments


def train(components: list[ComponentTrainer]) -> None:
    """One epoch's updates of every component; all losses and gradient norms are numbers."""
    for component in components:
        means = component.train(EPOCH)
        assert all(value.isfinite() for value in means.values()), component.name


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def published_config(method: str, *overrides: str, task: str = "atari/Alien") -> Any:
    perceptual = () if method == "delta_iris" else ("model.tokenizer.perceptual=none",)
    return load([f"method={method}", f"task={task}", *perceptual, *overrides])


def published(method: str, *overrides: str, task: str = "atari/Alien", actions: int = 18) -> Any:
    """The networks of the published size, without memory for their weights."""
    config = published_config(method, *overrides, task=task)
    with torch.device("meta"):
        return methods.get(method).build_agent(config, spec(64, actions))
