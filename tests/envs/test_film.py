"""Films of bodies: where nothing can draw one sentence says so, and no run notices."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import small
from tests.envs import worlds
from tests.methods.support import build_agent, configure
from tokenworlds.config import EnvironmentConfig
from tokenworlds.envs import (
    EnvironmentFactory,
    EnvironmentSpec,
    GridSpec,
    ImageSpec,
    RecordedState,
    TokenSpec,
    VectorSpec,
    film,
    make,
)
from tokenworlds.errors import UserError
from tokenworlds.training import media
from tokenworlds.training.evaluator import Evaluator

needs_simulator = pytest.mark.skipif(
    importlib.util.find_spec("dm_control") is None, reason="needs dm-control: pip install -e '.[dmc]'"
)
CARTPOLE = EnvironmentFactory("dmc/cartpole-balance", EnvironmentConfig(frame_skip=2, noop_max=0))


@pytest.fixture(autouse=True)
def nothing_has_been_tried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(film.SWITCH, raising=False)
    monkeypatch.setattr(film, "_failed", {})
    yield


def recorded(steps: int = 6) -> RecordedState:
    env = CARTPOLE()
    env.reset(seed=3)
    for _ in range(steps):
        env.step(np.ones(1))
    return env.state()


@pytest.mark.parametrize(
    ("modalities", "expected"),
    [
        ({"vector": VectorSpec(5)}, True),
        ({"vector": VectorSpec(5), "token": TokenSpec(1, 4)}, True),
        ({"token": TokenSpec(1, 4)}, False),
        ({"image": ImageSpec(8, 8)}, False),
        ({"image": ImageSpec(8, 8), "vector": VectorSpec(5)}, False),
        ({"vector": VectorSpec(5), "token_2d": GridSpec(2, 2, (3,))}, False),
    ],
)
def test_bodies_are_drawn_where_nothing_else_can_be_seen(modalities: dict[str, object], expected: bool) -> None:
    assert film.shows_no_picture(EnvironmentSpec(modalities, small.DISCRETE)) is expected  # type: ignore[arg-type]


@needs_simulator
def test_without_a_renderer_one_sentence_names_those_that_were_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "RENDERERS", ("nonsense", "disabled"))
    with pytest.raises(
        UserError, match=r"no off-screen renderer here \(MUJOCO_GL=nonsense\|disabled; nonsense: "
    ) as error:
        film.film(CARTPOLE, recorded(), 10)
    assert len(str(error.value)) <= 300
    monkeypatch.setattr(film, "_play", None)  # would be called again
    with pytest.raises(UserError, match="no off-screen renderer here"):
        film.film(CARTPOLE, recorded(), 10)


def test_an_environment_without_pictures_says_so_and_no_renderer_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds.Bag, "metadata", {"render_modes": []})
    factory = EnvironmentFactory("gym/tests.envs.worlds:Bag-v0", EnvironmentConfig())
    with pytest.raises(UserError, match=r"^the environment offers no pictures \(render mode rgb_array\)\.$"):
        film.film(factory, {}, 10)  # type: ignore[typeddict-item]
    assert not film._failed


@pytest.mark.parametrize("chosen", ["disabled", "off", "0"])
def test_drawing_that_a_person_has_switched_off_is_not_tried(chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(film.SWITCH, chosen)
    monkeypatch.setattr(film, "_play", None)
    with pytest.raises(UserError, match=f"MUJOCO_GL is {chosen}; set it to egl or osmesa"):
        film.film(CARTPOLE, {}, 10)  # type: ignore[typeddict-item]


@needs_simulator
def test_making_a_task_leaves_the_choice_of_a_renderer_open() -> None:
    make("dmc/cartpole-balance", CARTPOLE.config)
    assert film.SWITCH not in os.environ


@needs_simulator
def test_the_body_is_drawn_where_something_can() -> None:
    try:
        pictures = film.film(CARTPOLE, recorded(), 100)
    except UserError as error:
        pytest.skip(str(error))
    assert pictures.shape == (1 + 6 // film.STRIDE, 240, 320, 3) and pictures.dtype == np.uint8
    assert (pictures[0] != pictures[-1]).any()  # it moves
    orange = (pictures[0][..., 0] > 150) & (pictures[0][..., 2] < 120)
    assert 100 < orange.sum() < 10_000  # cart and pole


@needs_simulator
@pytest.mark.parametrize("draws", [True, False])
def test_the_film_is_of_the_last_episode_and_changes_nothing(
    draws: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = ("task=dmc/cartpole-balance", "environment.test.max_episode_steps=7", "environment.test.noop_max=0")
    config = configure("m3", *task)
    env = make(config.task, config.environment.test)
    evaluator = Evaluator(config, build_agent(config, env.environment_spec), small.CPU)
    replayed: list[RecordedState] = []

    def play(factory: EnvironmentFactory, state: RecordedState, steps: int) -> np.ndarray:
        assert factory.config == config.environment.test
        replayed.append(state)
        if not draws:
            raise RuntimeError("the graphics library broke")
        return np.zeros((5, 24, 32, 3), np.uint8)

    def write(pictures: np.ndarray, *rest: Any) -> None:
        written.append(pictures.shape)
        write_film(pictures, *rest)

    written: list[tuple[int, ...]] = []
    write_film = media.write_film
    monkeypatch.setattr(media, "write_film", write)
    monkeypatch.setattr(film, "film", play)
    for name, films in (("epoch 1", 0), ("final", 1)):
        played, buffer = evaluator.play(name, episodes=4, num_envs=2)
        paths = evaluator.pictures(1, buffer, tmp_path / name, {"world_model"})
        assert len(replayed) == films  # at the end of a run only
    assert paths["episode"].stat().st_size > 0
    assert (written[-1] == (5, 24, 32, 3)) is draws and (5, 24, 32, 3) not in written[:-1]
    said = capsys.readouterr().out
    sentence = "no film of dmc/cartpole-balance, its numbers are shown: the graphics library broke.\n"
    assert said == ("" if draws else sentence)
    (state,) = replayed
    seen = buffer.read(buffer.episode_rows(-1).unsqueeze(0)).observations["vector"].squeeze(0).numpy()
    beginning: RecordedState = {**state, "actions": state["actions"][:0], "checksum": None}
    np.testing.assert_array_equal(env.restore(beginning)["vector"], seen[0])
    for action, expected in zip(state["actions"], seen[1:]):
        np.testing.assert_array_equal(env.step(action)[0]["vector"], expected)
    assert len(state["actions"]) == played.lengths[-1] == 7
