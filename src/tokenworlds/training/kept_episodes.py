"""Episodes that a finished run keeps: the last of training, the last and the best of the final evaluation, and what the
agent imagines from the first frames of these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenworlds.actor_critic import until_end
from tokenworlds.agents.base import Agent
from tokenworlds.agents.imagined_world import ImaginedWorld, published_memory
from tokenworlds.config import RunConfig
from tokenworlds.episodes import Episode, save
from tokenworlds.replay import ReplayBuffer, Segments
from tokenworlds.rng import RandomStreams, derive_seed
from tokenworlds.runs.layout import IMAGINED, TEST, TRAIN
from tokenworlds.training import media

MOST_STEPS = 1000  # of an episode, its first ones
FILM_STEPS = 300  # of its film
IMAGINED_STEPS = 100
IMAGINED_BATCH = 64  # episodes side by side

Facts = dict[str, str | int | float]


def keep_played(agent: Agent, buffer: ReplayBuffer, config: RunConfig, epoch: int, active: set[str], out: Path) -> None:
    """Write episodes of an evaluation into the folder ``out``, and, where there is a trained world model (among the
    ``active`` components), what is imagined from their first frames."""
    write(of_test(buffer, config, epoch), out / TEST, agent)
    if "world_model" in active:
        write(imagined(agent, buffer, config, epoch), out / IMAGINED, agent)


def last_of_training(buffer: ReplayBuffer, config: RunConfig, epoch: int) -> Iterator[Episode]:
    """The last episodes that ended, and where these are fewer than are kept, some that training's end interrupted."""
    running = {buffer.open_episode(stream) for stream in range(config.collection.train.num_envs)}
    chosen = sorted(range(buffer.num_episodes), key=lambda index: (index not in running, index))
    for index in sorted(chosen[max(0, len(chosen) - config.runtime.kept_episodes) :]):
        yield stored(buffer, index, _facts(config, TRAIN, epoch), MOST_STEPS)


def whole_replay(buffer: ReplayBuffer, config: RunConfig, epoch: int) -> Iterator[Episode]:
    """All experience of a training, also of episodes that its end interrupted."""
    for index in range(buffer.num_episodes):
        yield stored(buffer, index, _facts(config, TRAIN, epoch))


def chosen_of_test(buffer: ReplayBuffer, count: int) -> list[int]:
    """The last ``count`` episodes and the first of those with the highest return; none if ``count`` is 0."""
    best = max(range(buffer.num_episodes), key=buffer.episode_return)
    return sorted({best, *range(buffer.num_episodes)[-count:]}) if count else []


def of_test(buffer: ReplayBuffer, config: RunConfig, epoch: int) -> Iterator[Episode]:
    for index in chosen_of_test(buffer, config.runtime.kept_episodes):
        yield stored(buffer, index, _facts(config, TEST, epoch), MOST_STEPS)


def imagined(agent: Agent, buffer: ReplayBuffer, config: RunConfig, epoch: int) -> Iterator[Episode]:
    """What the agent imagines from the first frames of each kept test episode, under the same number as this.

    Episodes are imagined in batches, one after the other with one generator: they follow from the seed and the epoch,
    and another number of kept episodes gives others.
    """
    streams = RandomStreams(derive_seed(config.seed, f"episodes/{epoch}"), buffer.device)
    world = ImaginedWorld(agent, streams.torch("imagination"), published_memory(config))
    kept = chosen_of_test(buffer, config.runtime.kept_episodes)
    for first in range(0, len(kept), IMAGINED_BATCH):
        chosen = kept[first : first + IMAGINED_BATCH]
        lengths = torch.tensor([min(agent.context_frames, buffer.episode_steps(index)) for index in chosen])
        starts = (lengths - agent.context_frames).to(buffer.device)
        segments = buffer.segments(torch.tensor(chosen, device=buffer.device), starts, agent.context_frames)
        facts = [
            _facts(config, IMAGINED, epoch) | {"index": index, "real_frames": int(length)}
            for index, length in zip(chosen, lengths)
        ]
        yield from play_imagined(world, segments, IMAGINED_STEPS, config.collection.test.temperature, facts)


def stored(buffer: ReplayBuffer, index: int, facts: Facts, most: int | None = None) -> Episode:
    """An episode of a buffer, at most the first ``most`` steps of it; its return and length are those of the whole."""
    steps = buffer.episode_steps(index)
    kept = steps if most is None else min(steps, most)
    read = buffer.read(buffer.episode_rows(index)[: kept + 1].unsqueeze(0))

    def arrays(values: Tensor) -> NDArray[Any]:
        return values.squeeze(0).cpu().numpy()

    return Episode(
        {name: arrays(values) for name, values in read.observations.items()},
        arrays(read.actions)[:kept],
        arrays(read.rewards)[:kept],
        arrays(read.terminations)[:kept].astype(np.bool_),
        tokens=None,
        facts={**facts, "index": index, "return": buffer.episode_return(index), "length": steps},
    )


@torch.no_grad()
def play_imagined(
    world: ImaginedWorld, segments: Segments, steps: int, temperature: float, facts: Sequence[Facts]
) -> list[Episode]:
    """Episodes of the policy inside the world model from the last frame of each of the ``segments``, up to the first
    imagined end; their first observation is this frame as the agent's tokens hold it."""
    agent, policy = world.agent, world.agent.policy
    world.begin(segments)
    actor_state = policy.actor_state(agent.burn_in(segments.steps(slice(None, -1))))
    observations, outcomes = [world.observations()], []
    sampled = [agent.imagined_tokens(world.state)]  # none yet where tokens are of changes
    for _ in range(steps):
        logits, actor_state = policy.act(agent.observe_imagined(world.state), actor_state)
        actions = policy.sample(logits, world.generator, temperature)
        actor_state = policy.step_action(actions, actor_state)
        step = world.step(actions)
        observations.append(world.observations())
        sampled.append(step.tokens)
        outcomes.append((actions, step.rewards, step.terminations))
    seen = {name: torch.stack([one[name] for one in observations], dim=1) for name in observations[0]}
    tokens = torch.stack([some for some in sampled if some is not None], dim=1)
    actions, rewards, terminations = (torch.stack(values, dim=1) for values in zip(*outcomes))
    lengths = until_end(terminations).sum(dim=1).tolist()
    first = tokens.shape[1] - steps  # observations before the first step that have tokens
    return [
        Episode(
            {
                name: values[row, : length + 1].to(segments.observations[name].dtype).cpu().numpy()
                for name, values in seen.items()
            },
            actions[row, :length].cpu().numpy(),
            rewards[row, :length].float().cpu().numpy(),
            terminations[row, :length].bool().cpu().numpy(),
            tokens[row, : length + first].cpu().numpy(),
            {**facts[row], "return": float(rewards[row, :length].sum()), "length": length},
        )
        for row, length in enumerate(lengths)
    ]


def write(episodes: Iterable[Episode], folder: Path, agent: Agent | None = None) -> None:
    """A file for each episode, ``episode_<index>.npz``, and with an agent, which draws it, a film of its beginning."""
    for episode in episodes:
        path = folder / f"episode_{episode.facts['index']:05}.npz"
        save(episode, path)
        if agent is not None:
            beginning = {name: values[: FILM_STEPS + 1] for name, values in episode.observations.items()}
            media.save_film(media.render(agent, beginning), path.with_suffix(".mp4"))


def _facts(config: RunConfig, kind: str, epoch: int) -> Facts:
    return {"kind": kind, "task": config.task, "identity": config.identity, "seed": config.seed, "epoch": epoch}
