"""Pictures and films of a run: film strips of reconstructions and of imagination, episodes as mp4."""

import io
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from tokenworlds.actor_critic import until_end
from tokenworlds.agents.base import Agent
from tokenworlds.agents.imagination import ImaginationNoise, imagine
from tokenworlds.envs.noise import clean
from tokenworlds.files import write_atomic
from tokenworlds.replay import Segments
from tokenworlds.tokenizers.pictures import to_bytes
from tokenworlds.world_models.base import StepNoise

GAP = 2  # pixels between frames
LIGHT, DARK = 255, (60, 60, 60)
LABEL_WIDTH = 116  # pixels, for the names of the rows
REAL = "real"


def film_strip(rows: list[tuple[str, Float[Tensor, "T C Y X"]]], zoom: int = 1) -> Image.Image:
    """Frames in [0, 1], time from left to right, one labelled strip a row; enlarged without smoothing."""
    lines = []
    for _, row in rows:
        frames = np.pad(bytes_of(row), ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=LIGHT)
        lines.append(np.concatenate(list(frames), axis=1))
    strips = Image.fromarray(np.concatenate(lines, axis=0)[:-GAP, :-GAP])
    strips = strips.resize((strips.width * zoom, strips.height * zoom), Image.Resampling.NEAREST)
    picture = Image.new("RGB", (strips.width + LABEL_WIDTH, strips.height), (LIGHT,) * 3)
    picture.paste(strips, (LABEL_WIDTH, 0))
    draw, height = ImageDraw.Draw(picture), lines[0].shape[0] * zoom
    for index, (label, _) in enumerate(rows):
        draw.text((4, round((index + 0.5) * height)), label, fill=DARK, anchor="lm")
    return picture


@torch.no_grad()
def reconstruction_strip(agent: Agent, segments: Segments, zoom: int = 1) -> Image.Image:
    """For every segment its frames, and below them each kind of reconstruction from the agent's tokens."""
    rows = {REAL: shown(agent, segments), **agent.reconstruct(segments)}
    return _strips(segments, rows, zoom)


@torch.no_grad()
def imagination_strip(agent: Agent, segments: Segments, generator: torch.Generator, zoom: int = 1) -> Image.Image:
    """Pairs of rows: what happened, and what the world model imagines under the same actions after the agent's
    context; the frames of the context are reconstructions."""
    given = segments.steps(slice(0, agent.context_frames))
    state = agent.start(agent.context(given))
    imagined = [*agent.reconstruct(given)["reconstruction"].unbind(1)[:-1], agent.render(state)]
    for actions in segments.actions[:, agent.context_frames - 1 : -1].unbind(1):
        noise = torch.rand(agent.num_draws + 2, len(actions), generator=generator, device=actions.device)
        state, _, _ = agent.step(state, actions, StepNoise(noise[0], noise[1], noise[2:]))
        imagined.append(agent.render(state))
    rows = {REAL: shown(agent, segments), "imagined": torch.stack(imagined, dim=1)}
    return _strips(segments, rows, zoom)


def _strips(segments: Segments, rows: dict[str, Float[Tensor, "B T C Y X"]], zoom: int) -> Image.Image:
    """All rows of the first segment, then those of the next; nothing where a step is padding."""
    return film_strip(
        [
            (label, torch.where(is_real[:, None, None, None], frames[index], 1.0))
            for index, is_real in enumerate(segments.mask)
            for label, frames in rows.items()
        ],
        zoom,
    )


@torch.no_grad()
def imagined_episodes(
    agent: Agent, segments: Segments, horizon: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Returns and lengths (B,) of rollouts of the policy inside the world model from the last frames of ``segments``,
    those before the very last as burn-in; cut at the first imagined end."""
    state = agent.burn_in(segments.steps(slice(None, -1)))
    noise = ImaginationNoise.sample(
        horizon, agent.num_draws, len(segments.actions), generator, agent.policy.actions.draws
    )
    trajectory = imagine(agent, agent.context(segments), state, noise, to_the_end=True)
    alive = until_end(trajectory.terminations).float()
    return (alive * trajectory.rewards).sum(dim=1), alive.sum(dim=1)


def save_picture(picture: Image.Image, path: Path) -> None:
    content = io.BytesIO()
    picture.save(content, path.suffix.removeprefix("."))
    write_atomic(path, content.getvalue())


def save_film(frames: Float[Tensor, "T C Y X"], path: Path, fps: int = 15, zoom: int = 4) -> None:
    """An mp4 of frames in [0, 1], enlarged without smoothing, to even numbers of pixels."""
    write_film(bytes_of(frames).repeat(zoom, 1).repeat(zoom, 2), path, fps)


@torch.no_grad()
def render(agent: Agent, observations: Mapping[str, NDArray[Any]]) -> Float[Tensor, "T C Y X"]:
    """Pictures, in [0, 1], of stored observations (T, ...) by modality."""
    device = agent.policy.actor.weight.device
    given = {name: torch.from_numpy(values).unsqueeze(0).to(device) for name, values in observations.items()}
    actions = torch.zeros(1, len(next(iter(observations.values()))), device=device)
    return shown(agent, Segments.of_frames(given, actions)).squeeze(0)


def shown(agent: Agent, segments: Segments) -> Float[Tensor, "B T C Y X"]:
    """Pictures of stored observations, without the noise that the agent observed where they are kept without it."""
    return agent.render_segments(replace(segments, observations=clean(segments.observations)))


def write_film(pictures: NDArray[np.uint8], path: Path, fps: int = 15) -> None:
    """An mp4 of pictures (T, Y, X, 3) with even sides; none where its encoder is not installed: the film is not what a
    run is for."""
    if _has_encoder():
        write_atomic(path, imageio.mimwrite("<bytes>", list(pictures), "mp4", fps=fps, macro_block_size=1))


@cache
def _has_encoder() -> bool:
    """Whether films can be encoded here; says so once where they cannot."""
    found = find_spec("imageio_ffmpeg") is not None
    if not found:
        print("no films: imageio-ffmpeg is not installed.", flush=True)
    return found


def bytes_of(frames: Float[Tensor, "T C Y X"]) -> NDArray[np.uint8]:
    """Pictures (T, Y, X, C) of frames in [0, 1]."""
    pictures: NDArray[np.uint8] = to_bytes(frames.detach().cpu()).permute(0, 2, 3, 1).numpy()
    return pictures
