"""Pictures and films: sizes, what stands where."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tests import small
from tokenworlds.agents.base import Agent
from tokenworlds.envs import ActionSpec, ContinuousActions, MultiDiscreteActions
from tokenworlds.replay import Segments, sample_from_end
from tokenworlds.training import media
from tokenworlds.world_models.base import StepNoise

SIDE = small.RESOLUTION
STEP = SIDE + media.GAP
AGENTS: dict[str, Callable[[], Agent]] = {"iris": small.agent, "rem": small.rem_agent, "delta_iris": small.delta_agent}
LENGTH = 4


@pytest.fixture(scope="module", params=AGENTS)
def agent(request: pytest.FixtureRequest) -> Agent:
    return AGENTS[request.param]()


def size_of(rows: int, columns: int, zoom: int = 1) -> tuple[int, int]:
    return media.LABEL_WIDTH + zoom * (columns * STEP - media.GAP), zoom * (rows * STEP - media.GAP)


def pixels_of(picture: Image.Image) -> NDArray[np.uint8]:
    """Channels first, as frames are, without the labels."""
    return np.asarray(picture).transpose(2, 0, 1)[:, :, media.LABEL_WIDTH :]


def frame(picture: Image.Image, row: int, column: int) -> NDArray[np.uint8]:
    return pixels_of(picture)[:, row * STEP : row * STEP + SIDE, column * STEP : column * STEP + SIDE]


def assert_shows(picture: Image.Image, row: int, column: int, expected: Tensor) -> None:
    """Up to rounding to 8 bits, which may fall the other way in a batch of another size."""
    levels = (expected * 255).round().int().numpy()
    assert (np.abs(frame(picture, row, column).astype(int) - levels) <= 1).all(), (row, column)


def segments(count: int = 2, length: int = LENGTH) -> Segments:
    """The beginnings of episodes of six steps."""
    buffer = small.buffer([6] * count)
    return buffer.segments(torch.arange(count), torch.zeros(count, dtype=torch.int64), length)


def strip(agent: Agent, given: Segments, seed: int = 0, **options: Any) -> Image.Image:
    return media.imagination_strip(agent, given, small.generator(seed), **options)


# Strips


def test_a_film_strip_has_time_to_the_right_and_a_gap_between_frames() -> None:
    rows = [torch.full((4, 3, SIDE, SIDE), shade) for shade in (0.0, 0.5)]
    rows[0][2] = 1.0
    picture = media.film_strip([("first", rows[0]), ("second", rows[1])])
    assert picture.size == size_of(2, 4)
    assert [frame(picture, 0, t).mean() for t in range(4)] == [0, 0, 255, 0]
    assert all((frame(picture, 1, t) == 128).all() for t in range(4))
    pixels = pixels_of(picture)
    assert (pixels[:, :, SIDE:STEP] == media.LIGHT).all() and (pixels[:, SIDE:STEP] == media.LIGHT).all()


def test_every_row_has_its_label_beside_it() -> None:
    dark = torch.zeros(1, 3, SIDE, SIDE)

    def written(*labels: str) -> list[NDArray[np.bool_]]:
        """Where there is ink beside each row."""
        picture = np.asarray(media.film_strip([(label, dark) for label in labels], zoom=2))
        beside = picture[:, : media.LABEL_WIDTH].min(axis=2) < 200
        return [beside[2 * row * STEP : 2 * (row * STEP + SIDE)] for row in range(len(labels))]

    first, second, third = written("real", "real", "")
    assert first.any() and (first == second).all() and not third.any()
    (other,) = written("imagined")
    assert (other != first).any() and not other[:, -1].any()  # the names fit
    (longest,) = written("other delta tokens")
    assert longest.any() and not longest[:, -1].any()


def test_zoom_repeats_pixels() -> None:
    frames = torch.rand(2, 3, SIDE, SIDE, generator=small.generator())
    large = media.film_strip([("", frames)], zoom=3)
    assert large.size == size_of(1, 2, zoom=3)
    assert (pixels_of(large)[:, ::3, ::3] == pixels_of(media.film_strip([("", frames)]))).all()


@torch.no_grad()
def test_reconstructions_stand_below_their_frames(agent: Agent) -> None:
    given = segments()
    ways = agent.reconstruct(given)
    picture = media.reconstruction_strip(agent, given)
    rows = 1 + len(ways)
    assert picture.size == size_of(2 * rows, LENGTH)
    for index, t in ((0, 0), (1, LENGTH - 1)):
        assert (frame(picture, index * rows, t) == given.observations["image"][index, t].numpy()).all()
        for row, frames in enumerate(ways.values()):
            assert_shows(picture, index * rows + 1 + row, t, frames[index, t])


@torch.no_grad()
def test_imagination_stands_below_what_happened_under_the_same_actions(agent: Agent) -> None:
    """The frames of the context are reconstructions, whatever is drawn; the last of them is what is imagined from."""
    given, context = segments(), agent.context_frames
    strips = [strip(agent, given, seed) for seed in (0, 0, 1)]
    assert strips[0].size == size_of(4, LENGTH)
    assert strips[0].tobytes() == strips[1].tobytes() != strips[2].tobytes()
    start = given.steps(slice(0, context))
    known = [
        *agent.reconstruct(start)["reconstruction"].unbind(1)[:-1],
        agent.render(agent.start(agent.context(start))),
    ]
    assert len(known) == context < LENGTH
    for picture in strips:
        for index in range(2):
            for t in range(LENGTH):
                assert (frame(picture, 2 * index, t) == given.observations["image"][index, t].numpy()).all()
            for t, frames in enumerate(known):
                assert_shows(picture, 2 * index + 1, t, frames[index])


def test_imagination_takes_the_actions_that_were_taken_behind_the_context(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, context, taken, step = segments(), agent.context_frames, [], agent.step

    def stepping(state: Any, actions: Tensor, noise: StepNoise) -> Any:
        taken.append(actions)
        return step(state, actions, noise)

    monkeypatch.setattr(agent, "step", stepping)
    strip(agent, given)
    assert torch.equal(torch.stack(taken, dim=1), given.actions[:, context - 1 : LENGTH - 1])


def test_nothing_is_shown_where_a_step_is_padding(agent: Agent) -> None:
    buffer = small.buffer([6, 3])
    given = buffer.segments(torch.tensor([0, 1]), torch.zeros(2, dtype=torch.int64), 5)
    for picture in (media.reconstruction_strip(agent, given), strip(agent, given)):
        rows = (picture.height + media.GAP) // STEP
        is_blank = [[(frame(picture, row, t) == media.LIGHT).all() for t in range(5)] for row in range(rows)]
        whole, short = [False] * 5, [False, False, False, True, True]
        assert is_blank == [whole] * (rows // 2) + [short] * (rows // 2)


def test_zoomed_strips_are_larger(agent: Agent) -> None:
    given = segments()
    rows = 2 * (1 + len(agent.reconstruct(given)))
    assert media.reconstruction_strip(agent, given, zoom=2).size == size_of(rows, LENGTH, zoom=2)
    assert strip(agent, given, zoom=2).size == size_of(4, LENGTH, zoom=2)


@torch.no_grad()
def test_observations_of_several_modalities_are_drawn_side_by_side() -> None:
    """Also where there is no picture among them."""
    agent = small.m3_agent()
    buffer = small.buffer([6, 6], spec=small.mixed_spec())
    given = buffer.segments(torch.arange(2), torch.zeros(2, dtype=torch.int64), LENGTH)
    portrayed, reconstruction = agent.render_segments(given), agent.reconstruct(given)["reconstruction"]
    height, width = portrayed.shape[3:]
    assert height >= SIDE and width > 4 * 8  # more than three columns of cells

    def shown(picture: Image.Image, row: int, column: int) -> NDArray[np.int64]:
        top, left = row * (height + media.GAP), column * (width + media.GAP)
        return pixels_of(picture)[:, top : top + height, left : left + width].astype(int)

    for picture, kept in ((media.reconstruction_strip(agent, given), LENGTH), (strip(agent, given), 1)):
        for index in range(2):
            for t in range(LENGTH):
                expected = (portrayed[index, t] * 255).round().numpy()
                assert np.abs(shown(picture, 2 * index, t) - expected).max() <= 1
            for t in range(kept):
                expected = (reconstruction[index, t] * 255).round().numpy()
                assert np.abs(shown(picture, 2 * index + 1, t) - expected).max() <= 1
    assert np.array_equal(shown(strip(agent, given), 0, 0)[:, :SIDE, :SIDE], given.observations["image"][0, 0].numpy())


# Imagined episodes


def test_imagined_episodes_are_cut_at_the_first_end(agent: Agent) -> None:
    given = sample_from_end(small.buffer([6, 3]), 16, 3, small.generator(), least=agent.context_frames)
    returns, lengths = media.imagined_episodes(agent, given, 4, small.generator())
    assert returns.shape == lengths.shape == (16,)
    assert lengths.min() >= 1 and lengths.max() <= 4 and len(lengths.unique()) > 1
    assert (returns.abs() <= lengths).all()


@pytest.mark.parametrize("actions", [small.DISCRETE, MultiDiscreteActions((3, 2)), ContinuousActions(2)])
def test_imagined_episodes_of_any_actions(actions: ActionSpec) -> None:
    """Told of the last action, too; where an end is certain, or never comes."""
    agent = small.m3_agent(actions=actions)
    given = sample_from_end(small.buffer([6, 6], spec=small.mixed_spec(actions)), 5, 3, small.generator(), least=2)
    for bias, expected in ((-1e4, 4), (1e4, 1)):
        agent.world_model.head_end[-1].bias.data[1] = bias
        returns, lengths = media.imagined_episodes(agent, given, 4, small.generator())
        assert lengths.tolist() == [expected] * 5 and returns.isfinite().all()


def test_imagined_episodes_need_no_burn_in() -> None:
    for agent in (small.agent(), small.delta_agent(context_frames=1)):
        given = sample_from_end(small.buffer([6]), 3, 1, small.generator())
        _, lengths = media.imagined_episodes(agent, given, 2, small.generator())
        assert lengths.shape == (3,)


@pytest.mark.parametrize("name", AGENTS)
def test_certain_ends_and_rewards_make_episodes_of_one_step(name: str) -> None:
    agent = AGENTS[name]()
    for head, certain in ((agent.world_model.head_end, 1), (agent.world_model.head_reward, 2)):
        last = head[2]
        assert isinstance(last, torch.nn.Linear)
        last.weight.data.zero_()
        last.bias.data.fill_(-100.0)[certain] = 100.0
    given = sample_from_end(small.buffer([6]), 5, 3, small.generator())
    returns, lengths = media.imagined_episodes(agent, given, 4, small.generator())
    assert lengths.tolist() == [1] * 5 and returns.tolist() == [1] * 5


# Files


def test_a_film_has_the_frames_enlarged(tmp_path: Path) -> None:
    frames = torch.zeros(7, 3, SIDE, SIDE)
    path = tmp_path / "new" / "episode.mp4"
    media.save_film(frames, path, zoom=4)
    with imageio.get_reader(path) as reader:
        assert reader.get_meta_data()["source_size"] == (4 * SIDE, 4 * SIDE)
        assert reader.count_frames() == 7


def test_without_an_encoder_there_is_no_film_and_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(media, "find_spec", lambda name: None)
    media._has_encoder.cache_clear()
    for name in ("a.mp4", "b.mp4"):
        media.save_film(torch.zeros(2, 3, SIDE, SIDE), tmp_path / name)
    media._has_encoder.cache_clear()
    assert not list(tmp_path.iterdir()) and capsys.readouterr().out == "no films: imageio-ffmpeg is not installed.\n"


def test_a_picture_makes_its_folder(tmp_path: Path) -> None:
    media.save_picture(Image.new("RGB", (3, 2)), tmp_path / "a" / "b.png")
    with Image.open(tmp_path / "a" / "b.png") as picture:
        assert picture.size == (3, 2)
