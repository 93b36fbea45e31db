"""Pictures and films: sizes, what stands where."""

from __future__ import annotations

from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

from tests import small
from tokenworlds.agent import Agent
from tokenworlds.replay import sample_from_end, sample_from_start
from tokenworlds.training import media

SIDE = small.RESOLUTION


@pytest.fixture(scope="module")
def agent() -> Agent:
    return small.agent()


def size_of(rows: int, columns: int) -> tuple[int, int]:
    return columns * SIDE + (columns - 1) * media.GAP, rows * SIDE + (rows - 1) * media.GAP


def test_a_film_strip_has_time_to_the_right_and_a_gap_between_frames() -> None:
    rows = [torch.full((4, 3, SIDE, SIDE), shade) for shade in (0.0, 0.5)]
    rows[0][2] = 1.0
    picture = media.film_strip(rows)
    assert picture.size == size_of(2, 4)
    pixels = np.asarray(picture)
    step = SIDE + media.GAP
    assert (pixels[:SIDE, :SIDE] == 0).all() and (pixels[:SIDE, 2 * step : 2 * step + SIDE] == 255).all()
    assert (pixels[step:, :SIDE] == 128).all()
    assert (pixels[:, SIDE:step] == media.LIGHT).all() and (pixels[SIDE:step] == media.LIGHT).all()


def test_zoom_repeats_pixels() -> None:
    frame = torch.rand(1, 3, SIDE, SIDE, generator=small.generator())
    large = np.asarray(media.film_strip([frame], zoom=3))
    assert large.shape == (3 * SIDE, 3 * SIDE, 3)
    assert (large[::3, ::3] == np.asarray(media.film_strip([frame]))).all()


def test_reconstructions_stand_below_their_frames(agent: Agent) -> None:
    buffer = small.buffer([6, 3])
    segments = sample_from_start(buffer, 3, 5, small.generator())
    picture = media.reconstruction_strip(agent, segments)
    assert picture.size == size_of(6, 5)
    pixels = np.asarray(picture).transpose(2, 0, 1)
    first = segments.observations["image"][0, 0].numpy()
    assert (pixels[:, :SIDE, :SIDE] == first).all()
    seen = agent.decode(agent.encode({"image": segments.observations["image"][:1, 0]})).detach()
    expected = (seen[0] * 255).round().numpy()
    below = slice(SIDE + media.GAP, 2 * SIDE + media.GAP)
    assert (np.abs(pixels[:, below, :SIDE] - expected) <= 1).all()


def test_imagination_begins_with_the_reconstruction_of_the_first_frame(agent: Agent) -> None:
    segments = sample_from_start(small.buffer([6, 6]), 4, 4, small.generator())
    picture = media.imagination_strip(agent, segments, 1, small.generator(), count=2)
    assert picture.size == size_of(4, 4)
    pixels = np.asarray(picture).transpose(2, 0, 1)
    seen = agent.decode(agent.encode({"image": segments.observations["image"][:1, 0]})).detach()
    below = slice(SIDE + media.GAP, 2 * SIDE + media.GAP)
    assert (np.abs(pixels[:, below, :SIDE] - (seen[0] * 255).round().numpy()) <= 1).all()


def test_the_frames_of_the_context_are_reconstructions() -> None:
    """Whatever the draws, the policy's view and the decoding."""
    agent = small.rem_agent()
    segments = sample_from_start(small.buffer([6, 6]), 4, 4, small.generator())
    strips = [np.asarray(media.imagination_strip(agent, segments, 2, small.generator(seed))) for seed in (0, 1)]
    frames = segments.observations["image"][0, :2]
    seen = (agent.decode(agent.encode({"image": frames})).detach() * 255).round().numpy()
    below, step = slice(SIDE + media.GAP, 2 * SIDE + media.GAP), SIDE + media.GAP
    for t in range(2):
        found = strips[0][below, t * step : t * step + SIDE].transpose(2, 0, 1)
        assert (np.abs(found - seen[t]) <= 1).all()
    assert (strips[0][:, : 2 * step] == strips[1][:, : 2 * step]).all() and (strips[0] != strips[1]).any()


def test_imagined_episodes_of_codes_have_a_context_and_a_horizon() -> None:
    agent = small.rem_agent()
    segments = sample_from_end(small.buffer([6, 3]), 8, 3, small.generator(), least=2)
    _, lengths = media.imagined_episodes(agent, segments, 2, 4, small.generator())
    assert lengths.shape == (8,) and lengths.max() <= 4


def test_imagination_follows_its_generator(agent: Agent) -> None:
    segments = sample_from_start(small.buffer([6, 6]), 2, 4, small.generator())
    strips = [np.asarray(media.imagination_strip(agent, segments, 1, small.generator(seed))) for seed in (0, 0, 1)]
    assert (strips[0] == strips[1]).all() and (strips[0] != strips[2]).any()


def test_imagined_episodes_are_cut_at_the_first_end(agent: Agent) -> None:
    segments = sample_from_end(small.buffer([6, 3]), 16, 3, small.generator())
    returns, lengths = media.imagined_episodes(agent, segments, 1, 4, small.generator())
    assert returns.shape == lengths.shape == (16,)
    assert lengths.min() >= 1 and lengths.max() <= 4
    assert (returns.abs() <= lengths).all()


def test_certain_ends_and_rewards_make_episodes_of_one_step() -> None:
    agent = small.agent()
    for head, certain in ((agent.world_model.head_end, 1), (agent.world_model.head_reward, 2)):
        last = head[2]
        assert isinstance(last, torch.nn.Linear)
        last.weight.data.zero_()
        last.bias.data.fill_(-100.0)[certain] = 100.0
    segments = sample_from_end(small.buffer([6]), 5, 3, small.generator())
    returns, lengths = media.imagined_episodes(agent, segments, 1, 4, small.generator())
    assert lengths.tolist() == [1] * 5 and returns.tolist() == [1] * 5


def test_a_film_has_the_frames_enlarged(tmp_path: Path) -> None:
    frames = torch.zeros(7, 3, SIDE, SIDE, dtype=torch.uint8)
    path = tmp_path / "new" / "episode.mp4"
    media.save_film(frames, path, zoom=4)
    with imageio.get_reader(path) as reader:
        assert reader.get_meta_data()["source_size"] == (4 * SIDE, 4 * SIDE)
        assert reader.count_frames() == 7


def test_a_picture_makes_its_folder(tmp_path: Path) -> None:
    media.save_picture(Image.new("RGB", (3, 2)), tmp_path / "a" / "b.png")
    with Image.open(tmp_path / "a" / "b.png") as picture:
        assert picture.size == (3, 2)
    media.save_picture(Image.new("RGB", (3, 2)), tmp_path / "b.png", zoom=2)
    with Image.open(tmp_path / "b.png") as picture:
        assert picture.size == (6, 4)
