"""Pictures and films of a run: reconstruction grids, real against imagined film strips, episodes as mp4."""

from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tokenworlds.agent import Agent
from tokenworlds.imagination import ImaginationNoise, imagine
from tokenworlds.replay import Segments
from tokenworlds.tokenizers import to_float
from tokenworlds.world_models import StepNoise

GAP = 2  # pixels between frames
LIGHT = 255


def film_strip(rows: list[Float[Tensor, "T C Y X"]], zoom: int = 1) -> Image.Image:
    """Frames in [0, 1], time from left to right, one strip a row."""
    lines = []
    for row in rows:
        frames = (row.detach().cpu().float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        frames = np.pad(frames, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=LIGHT)
        lines.append(np.concatenate(list(frames), axis=1))
    picture = Image.fromarray(np.concatenate(lines, axis=0)[:-GAP, :-GAP])
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)


@torch.no_grad()
def reconstruction_strip(agent: Agent, segments: Segments, count: int = 3) -> Image.Image:
    """Pairs of rows: the frames of a segment, and their reconstructions."""
    rows = []
    for index in range(min(count, len(segments.actions))):
        frames = segments.observations["image"][index][segments.mask[index]]
        decoded = agent.decode(agent.encode({"image": frames}))
        rows += [_padded(to_float(frames), segments.mask.shape[1]), _padded(decoded, segments.mask.shape[1])]
    return film_strip(rows)


@torch.no_grad()
def imagination_strip(
    agent: Agent, segments: Segments, context: int, generator: torch.Generator, count: int = 3
) -> Image.Image:
    """Pairs of rows: what happened, and what the world model imagines after the first ``context`` frames under the
    same actions; these frames themselves are reconstructions."""
    rows = []
    horizon = segments.actions.shape[1]
    frames = segments.observations["image"][:count]
    given = {name: values[:count, :context].flatten(0, 1) for name, values in segments.observations.items()}
    tokens = agent.encode(given).unflatten(0, (len(frames), -1))
    state = agent.world_model.start(tokens, segments.actions[:count, : context - 1])
    imagined = list(agent.decode(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2]).unbind(1))
    for t in range(context - 1, horizon - 1):
        noise = torch.rand(
            agent.tokenizer.layout.num_tokens + 2, len(tokens), generator=generator, device=tokens.device
        )
        state, _, _ = agent.world_model.step(
            state, segments.actions[:count, t], StepNoise(noise[0], noise[1], noise[2:])
        )
        imagined.append(agent.decode(state.tokens))
    strips = torch.stack(imagined, dim=1)
    for index in range(len(tokens)):
        is_real = segments.mask[index]
        rows += [_padded(to_float(frames[index])[is_real], horizon), _padded(strips[index][is_real], horizon)]
    return film_strip(rows)


@torch.no_grad()
def imagined_episodes(
    agent: Agent, segments: Segments, context: int, horizon: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Returns and lengths (B,) of rollouts of the policy inside the world model from the last ``context`` frames of
    ``segments``, the frames before the very last as burn-in; cut at the first imagined end."""
    flat = agent.encode({name: v.flatten(0, 1) for name, v in segments.observations.items()})
    tokens, seen = (values.unflatten(0, segments.mask.shape) for values in (flat, agent.see(flat)))
    state = agent.policy.burn_in(seen[:, :-1], segments.actions[:, :-1], segments.mask[:, :-1])
    noise = ImaginationNoise.draw(horizon, tokens.shape[-1], len(tokens), generator)
    start = (tokens[:, -context:], segments.actions[:, -context:-1])
    trajectory = imagine(agent.world_model, agent.policy, agent.see, *start, state, noise)
    ended = trajectory.ends.cumsum(dim=1) - trajectory.ends
    alive = (ended == 0).float()  # the step of the first end still counts
    return (alive * trajectory.rewards).sum(dim=1), alive.sum(dim=1)


def save_picture(picture: Image.Image, path: Path, zoom: int = 1) -> None:
    """A PNG, enlarged without smoothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST).save(path)


def save_film(frames: UInt8[Tensor, "T C Y X"], path: Path, fps: int = 15, zoom: int = 4) -> None:
    """An mp4 of stored frames, enlarged without smoothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures: NDArray[np.uint8] = frames.cpu().permute(0, 2, 3, 1).numpy().repeat(zoom, 1).repeat(zoom, 2)
    imageio.mimwrite(path, list(pictures), fps=fps, macro_block_size=1)


def _padded(frames: Tensor, length: int) -> Tensor:
    return torch.cat([frames, frames.new_ones(length - len(frames), *frames.shape[1:])])
