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
from tokenworlds.agents.imagination import ImaginationNoise
from tokenworlds.config import RunConfig
from tokenworlds.episodes import Episode, save
from tokenworlds.replay import ReplayBuffer, Segments
from tokenworlds.rng import RandomStreams, derive_seed
from tokenworlds.training import media
from tokenworlds.training.run_folder import IMAGINED, TEST, TRAIN

MOST_STEPS = 1000  # of an episode, its first ones
FILM_STEPS = 300  # of its film
IMAGINED_STEPS = 100

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


def imagined(agent: Agent, buffer: ReplayBuffer, config: RunConfig, epoch: int) -> list[Episode]:
    """What the agent imagines from the first frames of each kept test episode, under the same number as this."""
    chosen = chosen_of_test(buffer, config.runtime.kept_episodes)
    if not chosen:
        return []
    lengths = torch.tensor([min(agent.context_frames, buffer.episode_steps(index)) for index in chosen])
    starts = (lengths - agent.context_frames).to(buffer.device)
    segments = buffer.segments(torch.tensor(chosen, device=buffer.device), starts, agent.context_frames)
    streams = RandomStreams(derive_seed(config.seed, f"episodes/{epoch}"), buffer.device)
    facts = [
        _facts(config, IMAGINED, epoch) | {"index": index, "real_frames": int(length)}
        for index, length in zip(chosen, lengths)
    ]
    temperature = config.collection.test.temperature
    return play_imagined(agent, segments, IMAGINED_STEPS, temperature, streams.torch("imagination"), facts)


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
    agent: Agent, segments: Segments, steps: int, temperature: float, generator: torch.Generator, facts: Sequence[Facts]
) -> list[Episode]:
    """Episodes of the policy inside the world model from the last frame of each of the ``segments``, up to the first
    imagined end; their first observation is this frame as the agent's tokens hold it."""
    context, policy = agent.context(segments), agent.policy
    state, actor_state = agent.start(context), policy.actor_state(agent.burn_in(segments.steps(slice(None, -1))))
    inputs, observations, outcomes = agent.first_input(context), [agent.imagined(state)], []
    tokens = [getattr(state, "tokens", None)]  # of observations; agents whose tokens are of changes have none
    for _ in range(steps):
        noise = ImaginationNoise.sample(1, agent.num_tokens, len(inputs), generator, policy.actions.draws)
        logits, actor_state = policy.act(inputs, actor_state)
        actions = policy.actions.sample(logits / temperature, noise.actions[0])
        actor_state = policy.step_action(actions, actor_state)
        state, rewards, terminations = agent.step(state, actions, noise.step(0))
        inputs = agent.observe_imagined(state)
        observations.append(agent.imagined(state))
        tokens.append(getattr(state, "tokens", None))
        outcomes.append((actions, rewards, terminations))
    shown = {name: torch.stack([one[name] for one in observations], dim=1) for name in observations[0]}
    sampled = [some for some in tokens if some is not None]
    symbols = torch.stack(sampled, dim=1) if sampled else None
    actions, rewards, terminations = (torch.stack(values, dim=1) for values in zip(*outcomes))
    lengths = until_end(terminations).sum(dim=1).tolist()
    return [
        Episode(
            {name: _stored(values[row, : length + 1], segments.observations[name]) for name, values in shown.items()},
            actions[row, :length].cpu().numpy(),
            rewards[row, :length].float().cpu().numpy(),
            terminations[row, :length].bool().cpu().numpy(),
            tokens=None if symbols is None else symbols[row, : length + 1].cpu().numpy(),
            facts={**facts[row], "return": float(rewards[row, :length].sum()), "length": length},
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


def _stored(values: Tensor, like: Tensor) -> NDArray[Any]:
    """Decoded observations in the type in which the replay buffer stores them."""
    if like.dtype == torch.uint8 and values.is_floating_point():
        values = (values.clamp(0, 1) * 255).round()
    return values.to(like.dtype).cpu().numpy()
