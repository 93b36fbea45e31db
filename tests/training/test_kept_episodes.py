"""What a finished run keeps of its episodes. Kept across a kill: test_resume."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests import small
from tests.methods.support import configure
from tokenworlds.agents.base import Agent
from tokenworlds.agents.delta import DeltaAgent
from tokenworlds.agents.imagined_world import ImaginedWorld
from tokenworlds.agents.token import TokenAgent
from tokenworlds.config import RunConfig
from tokenworlds.envs import EnvironmentSpec
from tokenworlds.episodes import Episode, list_episodes, load
from tokenworlds.errors import UserError
from tokenworlds.files import foreign
from tokenworlds.replay import ReplayBuffer, Segments
from tokenworlds.runs.manifest import is_result, verify, write_manifest
from tokenworlds.tokenizers.pictures import to_bytes, to_float
from tokenworlds.training import kept_episodes, media
from tokenworlds.training.run_folder import MEDIA_FILES, RUN_FILES

AGENTS: dict[str, Callable[[], Agent]] = {
    "iris": small.agent, "rem": small.rem_agent, "delta_iris": small.delta_agent, "m3": small.m3_agent,
    "consistency": small.consistency_agent,
}  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # the reader of films leaves its pipes open
ACTIVE = {"tokenizer", "world_model", "actor_critic"}


def config(kept: int = 2, *overrides: str) -> RunConfig:
    return configure("iris", f"runtime.kept_episodes={kept}", *overrides)


def seen_by(agent: Agent) -> EnvironmentSpec:
    """What the agent observes of ``small.spec_of``."""
    spec, names = small.spec_of(agent), getattr(agent.tokenizer, "parts", {"image": None})
    return replace(spec, observation={name: spec.observation[name] for name in names})


def frames_of(film: Path) -> list[NDArray[np.uint8]]:
    with imageio.get_reader(film) as reader:
        return [np.asarray(reader.get_data(index)) for index in range(reader.count_frames())]


def indices(episodes: Any) -> list[int | str | float]:
    return [episode.facts["index"] for episode in episodes]


# Real ones


def test_a_stored_episode_is_what_the_buffer_holds() -> None:
    buffer = small.buffer([4, 6])
    episode = kept_episodes.stored(buffer, 1, {"kind": "test"})
    rows = buffer.read(buffer.episode_rows(1).unsqueeze(0))
    assert (episode.observations["image"] == rows.observations["image"][0].numpy()).all()
    assert (episode.actions == rows.actions[0].numpy()).all() and (episode.rewards == rows.rewards[0].numpy()).all()
    assert episode.terminations.tolist() == [False] * 5 + [True] and episode.tokens is None
    assert episode.facts == {"kind": "test", "index": 1, "return": buffer.episode_return(1), "length": 6}


def test_a_final_observation_is_no_step() -> None:
    buffer, spec = ReplayBuffer(small.picture_spec(), 10, small.CPU), small.picture_spec()
    seen = small.observations(spec, 4)
    steps = [
        small.actions(spec.actions, 3, draws=small.generator()),
        torch.ones(3),
        torch.tensor([0, 0, 1], dtype=torch.bool),
    ]
    final = {name: values[3] for name, values in seen.items()}
    buffer.extend({name: values[:3] for name, values in seen.items()}, *steps, final=final)
    episode = kept_episodes.stored(buffer, 0, {})
    assert len(episode) == 3 == episode.facts["length"] and episode.facts["return"] == 3
    assert (episode.observations["image"] == seen["image"].numpy()).all()


def test_of_a_long_episode_the_beginning_is_stored_with_the_observation_behind_it() -> None:
    buffer = small.buffer([9])
    whole, part = (kept_episodes.stored(buffer, 0, {}, most) for most in (None, 4))
    assert len(part) == 4 and len(part.observations["image"]) == 5 and not part.terminations.any()
    assert (part.observations["image"] == whole.observations["image"][:5]).all()
    assert (part.rewards == whole.rewards[:4]).all()
    assert part.facts == whole.facts


@pytest.mark.parametrize(
    ("kept", "expected"), [(0, []), (1, [3]), (2, [2, 3]), (4, [0, 2, 3, 4]), (9, [0, 1, 2, 3, 4])]
)
def test_of_training_the_last_finished_episodes_are_kept_and_unfinished_ones_if_there_are_no_more(
    kept: int, expected: list[int]
) -> None:
    buffer, spec = small.buffer([3]), small.picture_spec()

    def extend(stream: int, *, close: bool) -> None:
        steps = [
            small.actions(spec.actions, 2, draws=small.generator()),
            torch.zeros(2),
            torch.zeros(2, dtype=torch.bool),
        ]
        buffer.extend(small.observations(spec, 2), *steps, stream=stream, close=close)

    for stream, close in ((0, False), (1, True), (2, True), (1, False)):  # episodes 1 (running), 2, 3, 4 (running)
        extend(stream, close=close)
    episodes = list(kept_episodes.last_of_training(buffer, config(kept, "collection.train.num_envs=3"), 7))
    assert indices(episodes) == expected
    assert all(episode.facts["kind"] == "train" and episode.facts["epoch"] == 7 for episode in episodes)
    assert indices(kept_episodes.whole_replay(buffer, config(kept), 7)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("kept", "expected"), [(0, []), (1, [1, 4]), (2, [1, 3, 4]), (4, [1, 2, 3, 4]), (9, [0, 1, 2, 3, 4])]
)
def test_of_an_evaluation_the_last_and_the_best_are_kept(kept: int, expected: list[int]) -> None:
    buffer = small.buffer([3] * 5)
    buffer._steps["rewards"][:] = torch.tensor([0.0, *[0.0] * 3, *[5.0] * 3, *[1.0] * 9])
    assert kept_episodes.chosen_of_test(buffer, kept) == expected
    assert indices(kept_episodes.of_test(buffer, config(kept), 7)) == expected


# Imagined ones


@pytest.fixture(scope="module", params=AGENTS)
def agent(request: pytest.FixtureRequest) -> Agent:
    return AGENTS[request.param]()


def played(agent: Agent, seed: int = 0, steps: int = 12, batch: int = 4) -> tuple[Segments, list[Episode]]:
    buffer = small.buffer([6] * batch, spec=seen_by(agent))
    starts = torch.zeros(batch, dtype=torch.int64)
    segments = buffer.segments(torch.arange(batch), starts, agent.context_frames)
    facts = [{"index": index} for index in range(batch)]
    world = ImaginedWorld(agent, small.generator(seed), memory=agent.context_frames + 2)
    return segments, kept_episodes.play_imagined(world, segments, steps, 1.0, facts)


@torch.no_grad()
def test_imagination_begins_with_the_last_given_frame_and_ends_at_the_first_imagined_end(agent: Agent) -> None:
    segments, episodes = played(agent)
    first = agent.stored(agent.imagined(agent.start(agent.context(segments))))
    lengths = {len(episode) for episode in episodes}
    assert len(lengths) > 1 and max(lengths) <= 12
    for row, episode in enumerate(episodes):
        assert set(episode.observations) == set(segments.observations)
        for name, values in episode.observations.items():
            stored = segments.observations[name]
            assert len(values) == len(episode) + 1 and values.dtype == stored.numpy().dtype
            np.testing.assert_allclose(values[0], first[name][row].numpy(), atol=1e-6)
        assert not episode.terminations[:-1].any()
        assert episode.terminations[-1] or len(episode) == 12
        assert episode.actions.dtype == segments.actions.numpy().dtype
        assert episode.facts["length"] == len(episode)
        assert episode.facts["return"] == pytest.approx(float(episode.rewards.sum()), abs=1e-5)


@torch.no_grad()
def test_tokens_are_those_of_the_frames_or_of_the_changes_between_them(agent: Agent) -> None:
    _, episodes = played(agent)
    for episode in episodes:
        tokens, frames = torch.from_numpy(np.asarray(episode.tokens)), episode.observations["image"]
        if isinstance(agent, TokenAgent):
            shown = agent.decode(tokens)["image"]
        elif agent.num_tokens == 0:
            assert tokens.numel() == 0
            continue
        else:
            assert isinstance(agent, DeltaAgent)
            shown = agent.decode(to_float(torch.from_numpy(frames[:-1])), torch.from_numpy(episode.actions), tokens)
            frames = frames[1:]
        assert len(shown) == len(frames) and (np.abs(to_bytes(shown).numpy().astype(int) - frames) <= 2).all()


def test_imagined_episodes_depend_on_their_generator_alone(agent: Agent) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one, again, other = (played(agent, seed)[1] for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [episode.actions.tolist() for episode in one] == [episode.actions.tolist() for episode in again]
    assert [episode.actions.tolist() for episode in one] != [episode.actions.tolist() for episode in other]


def test_each_kept_test_episode_is_imagined_from_its_first_frames(agent: Agent) -> None:
    buffer, spec = small.buffer([6, 1, 5], spec=seen_by(agent)), config(9)
    episodes = list(kept_episodes.imagined(agent, buffer, spec, 7))
    assert indices(episodes) == [0, 1, 2]
    context = agent.context_frames
    assert [episode.facts["real_frames"] for episode in episodes] == [context, 1, context]
    assert {episode.facts["kind"] for episode in episodes} == {"imagined"}
    assert list(kept_episodes.imagined(agent, buffer, config(0), 7)) == []


def test_many_kept_episodes_are_imagined_in_batches_that_follow_from_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, buffer, sizes = small.agent(), small.buffer([6] * 5), []
    begin = ImaginedWorld.begin
    monkeypatch.setattr(kept_episodes, "IMAGINED_BATCH", 2)
    monkeypatch.setattr(ImaginedWorld, "begin", lambda self, given: (sizes.append(len(given.mask)), begin(self, given)))
    one, again = (list(kept_episodes.imagined(agent, buffer, config(9), 7)) for _ in range(2))
    assert sizes == [2, 2, 1] * 2 and indices(one) == list(range(5))
    assert [episode.actions.tolist() for episode in one] == [episode.actions.tolist() for episode in again]


def test_files_are_written_with_films_and_belong_to_a_run_folder(agent: Agent, tmp_path: Path) -> None:
    buffer, kept = small.buffer([6, 3, 5], spec=seen_by(agent)), tmp_path / "media" / "episodes"
    kept_episodes.write(kept_episodes.last_of_training(buffer, config(), 7), kept / "train", agent)
    kept_episodes.keep_played(agent, buffer, config(), 7, ACTIVE, kept)
    kept_episodes.write(kept_episodes.whole_replay(buffer, config(), 7), tmp_path / "replay")
    assert list(foreign(tmp_path, RUN_FILES)) == [] == list(foreign(tmp_path / "media", MEDIA_FILES))
    names = {kind: [path.stem for path in list_episodes(kept / kind)] for kind in ("train", "test", "imagined")}
    assert names["train"] == ["episode_00001", "episode_00002"] and names["imagined"] == names["test"] != []
    assert len(list_episodes(tmp_path / "replay")) == 3 and not list(tmp_path.glob("replay/*.mp4"))
    for path in list_episodes(kept):
        episode = load(path)
        frames = frames_of(path.with_suffix(".mp4"))
        assert len(frames) == len(next(iter(episode.observations.values())))
        expected = media.bytes_of(media.render(agent, episode.observations))[0].repeat(4, 0).repeat(4, 1)
        assert frames[0].shape == expected.shape
        assert np.abs(frames[0].astype(int) - expected).mean() < 25  # the codec halves the resolution of colours


def test_without_a_world_model_nothing_is_imagined(tmp_path: Path) -> None:
    kept_episodes.keep_played(small.agent(), small.buffer([4, 3]), config(), 1, {"tokenizer"}, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test"]


@pytest.mark.parametrize("name", ["media/episodes/test/episode_00001.npz", "replay/episode_00001.npz"])
def test_episodes_may_be_deleted_to_free_space(tmp_path: Path, name: str) -> None:
    for file in (name, "agent.safetensors"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"content")
    write_manifest(tmp_path)
    (tmp_path / name).unlink()
    verify(tmp_path, is_needed=is_result)
    with pytest.raises(UserError, match="is missing"):
        verify(tmp_path)


def test_a_film_shows_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_episodes, "FILM_STEPS", 3)
    kept_episodes.write(kept_episodes.of_test(small.buffer([9]), config(1), 1), tmp_path, small.agent())
    assert len(frames_of(tmp_path / "episode_00000.mp4")) == 4
    assert len(load(tmp_path / "episode_00000.npz")) == 9
