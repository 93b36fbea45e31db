"""Recordings: films that play, arrays that replay, nothing overwritten."""

import json
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytest

from tests.viewer.support import METHODS, NOTHING, play, session, tell, trained
from tokenworlds import envs, episodes
from tokenworlds.episodes import Episode
from tokenworlds.errors import UserError
from tokenworlds.viewer import recorder
from tokenworlds.viewer.browser import STEPS, EpisodeBrowser
from tokenworlds.viewer.frame import Input
from tokenworlds.viewer.recorder import Film, Recorder

LEFT = Input(frozenset({"a"}))


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def replay(episode: Episode, method: str) -> None:
    """The actions lead from the recorded seed to the recorded frames."""
    config = trained(method).config
    with envs.make(str(episode.facts["task"]), config.environment.test) as environment:
        observation, _ = environment.reset(seed=int(episode.facts["seed"]))
        for action in json.loads(str(episode.facts["actions_before"])):
            observation, *_ = environment.step(action)
        for t in range(len(episode) + 1):
            for name, values in episode.observations.items():
                assert np.array_equal(values[t], observation[name])
            if t < len(episode):
                observation, reward, terminated, _, _ = environment.step(episode.actions[t])
                assert reward == episode.rewards[t] and terminated == episode.terminations[t]


@pytest.mark.parametrize("method", METHODS)
def test_a_recording_replays_to_the_same_frames(method: str, tmp_path: Path) -> None:
    """From the middle of the second episode on."""
    played = session(method, tmp_path, player="human", seed=5)
    play(played, 3, LEFT)
    tell(played, {"do": "reset"})
    play(played, 3, LEFT)
    tell(played, {"do": "record"})
    frames = play(played, 4, LEFT)
    assert frames[-1].status["recording"] == {"file": str(tmp_path / "0001" / "recording.mp4"), "frames": 4}
    tell(played, {"do": "record"}, {"do": "pause"})
    (stopped,) = play(played, 1)
    assert stopped.status["recording"] is None and "saved" in stopped.status["message"]
    assert files(tmp_path) == ["0001/recording.mp4", "0001/recording.npz"]
    episode = episodes.load(tmp_path / "0001" / "recording.npz")
    assert len(episode) == 4 and len(json.loads(str(episode.facts["actions_before"]))) == 2
    assert episode.tokens is not None and len(episode.tokens) == (4 if method == "delta_iris" else 5)
    replay(episode, method)
    reader: Any = imageio.get_reader(tmp_path / "0001" / "recording.mp4")
    with reader:
        assert reader.count_frames() == 4
    played.close()


def test_both_worlds_are_recorded_and_every_episode_has_a_file(tmp_path: Path) -> None:
    played = session("iris", tmp_path, world="both")
    played.record(tmp_path / "film.mp4")
    play(played, 4)
    tell(played, {"do": "reset"})
    play(played, 3)
    played.close()
    assert files(tmp_path) == ["film-2.npz", "film-imagined-2.npz", "film-imagined.npz", "film.mp4", "film.npz"]
    real, imagined = (episodes.load(tmp_path / f"film{name}.npz") for name in ("", "-imagined"))
    assert np.array_equal(real.actions, imagined.actions) and len(real) == 3
    assert (real.facts["world"], imagined.facts["world"]) == ("environment", "world model")
    replay(real, "iris")
    replay(episodes.load(tmp_path / "film-2.npz"), "iris")


def test_a_change_of_world_begins_another_episode(tmp_path: Path) -> None:
    played = session("iris", tmp_path)
    played.record(tmp_path / "film.gif")
    play(played, 4)
    tell(played, {"do": "branch"})
    play(played, 1)
    tell(played, {"do": "back"})
    play(played, 2)
    played.close()
    assert files(tmp_path) == ["film-2.npz", "film-3.npz", "film.gif", "film.npz"]
    worlds = [episodes.load(tmp_path / f"film{n}.npz").facts["world"] for n in ("", "-2", "-3")]
    assert worlds == ["environment", "world model", "environment"]
    replay(episodes.load(tmp_path / "film-3.npz"), "iris")


def test_an_episode_that_is_cut_is_not_recorded_as_terminated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = session("iris", tmp_path)
    play(played, 1)
    step = played._real._environment.step
    monkeypatch.setattr(played._real._environment, "step", lambda action: (*step(action)[:2], False, True, {}))
    played.record(tmp_path / "film.mp4")
    (frame,) = play(played, 1)
    assert frame.status["end"]
    played.close()
    assert episodes.load(tmp_path / "film.npz").terminations.tolist() == [False]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.npz"):
        (tmp_path / name).write_text("kept")
    for name in ("a.mp4", "b.mp4", "c.avi", "a.mp4/d.mp4"):
        with pytest.raises(UserError, match=r"exists|no film|no folder"):
            Recorder(tmp_path / name, 15)
    assert files(tmp_path) == ["a.mp4", "b.npz"] and (tmp_path / "a.mp4").read_text() == "kept"
    names = [Recorder.beneath(tmp_path / "r", 15).path.parent.name for _ in range(3)]
    assert names == ["0001", "0002", "0003"]


def test_a_recording_stops_where_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "LIMIT", 3)
    played = session("iris", tmp_path)
    tell(played, {"do": "record"})
    frames = play(played, 5)
    assert [frame.status["recording"] is None for frame in frames] == [False, False, True, True, True]
    assert "at most" in frames[2].status["message"]
    assert len(episodes.load(tmp_path / "0001" / "recording.npz")) == 2


@pytest.mark.parametrize("answer", ["save", "discard"])
def test_save_mode_asks_after_each_episode(answer: str, tmp_path: Path) -> None:
    played = session("iris", tmp_path, save_mode=True, player="human")
    frames = play(played, 200, LEFT)  # turns until the limit of steps
    assert frames[-1].status["end"] and frames[-1].status["asks"]
    for refused in ({"do": "reset"}, {"do": "record"}, {"do": "branch"}, {"set": "world", "value": "both"}):
        tell(played, refused)
        (frame,) = play(played, 1)
        assert frame.status["asks"] and frame.status["message"] and frame.status["world"] == "environment"
        played._message = ""
    tell(played, {"do": answer})
    frames = play(played, 2, LEFT)
    assert [frame.status["step"] for frame in frames] == [0, 1] and not frames[-1].status["asks"]
    played.close()
    kept = ["0001/recording.mp4", "0001/recording.npz"] if answer == "save" else []
    assert files(tmp_path) == kept
    if kept:
        replay(episodes.load(tmp_path / "0001" / "recording.npz"), "iris")


def test_a_film_that_cannot_be_written_stops_the_recording_and_not_the_game(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = session("iris", tmp_path)

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("imageio.v2.get_writer", full)
    tell(played, {"do": "record"})
    frames = play(played, 3)
    assert "no space left" in frames[0].status["message"] and frames[-1].status["step"] == 2
    assert frames[-1].status["recording"] is None
    played.record(tmp_path / "asked_for.mp4")
    with pytest.raises(UserError, match="no space left"):
        play(played, 1)


@pytest.mark.parametrize(("error", "left"), [(SystemExit, 1), (KeyboardInterrupt, 1), (OSError, 0)])
def test_a_second_signal_while_a_film_is_closed_leaves_what_is_written(
    error: type[BaseException], left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = Film(tmp_path / "film.mp4", 15)
    film.add(np.zeros((16, 16, 3), np.uint8))

    def interrupted(*paths: Path) -> None:
        raise error

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(UserError if error is OSError else error):
        film.close()
    (*found,) = tmp_path.iterdir()
    assert len(found) == left
    assert all(b"moov" in path.read_bytes() for path in found), "no whole film"


def test_an_episode_that_cannot_be_written_leaves_the_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = session("iris", tmp_path)
    tell(played, {"do": "record"})
    play(played, 3)

    def full(path: Path, content: bytes) -> None:
        raise UserError("no space left on device")

    monkeypatch.setattr("tokenworlds.episodes.episode.write_atomic", full)
    tell(played, {"do": "record"})
    (frame,) = play(played, 1)
    assert frame.status["message"] == "no space left on device" and frame.status["recording"] is None
    assert files(tmp_path) == ["0001/recording.mp4"]
    played.close()


@pytest.mark.parametrize("method", ["iris", "m3", "delta_iris"])
def test_recordings_are_browsed(method: str, tmp_path: Path) -> None:
    played = session(method, tmp_path / "recordings")
    for _ in range(2):
        tell(played, {"do": "record"})
        play(played, 12)
        tell(played, {"do": "record"})
        play(played, 1)
    played.close()
    browser = EpisodeBrowser(trained(method), {"test": tmp_path / "none", "recording": tmp_path / "recordings"})
    tell(browser, {"set": "panels", "value": ["observation", "tokens"]})
    (first,) = play(browser, 3)
    assert (first.status["kind"], first.status["episodes"], first.status["frame"]) == ("recording", 2, 0)
    place, length = 0, first.status["frames"]
    for name, step in [("next frame", 1), *((name, step) for name, (step, _) in STEPS.items())]:
        tell(browser, {"do": name})
        place = (place + step) % length
        (frame,) = play(browser, 1)
        assert frame.status["frame"] == place
    episode = episodes.load(tmp_path / "recordings" / "0001" / "recording.npz")
    tell(browser, {"do": "first frame"}, {"do": "previous frame"})
    (frame,) = play(browser, 1)
    assert frame.status["frame"] == len(episode) and frame.status["action"] == episode.actions[-1].tolist()
    assert [panel.name for panel in frame.panels] == ["observation", "tokens"]
    tell(browser, {"do": "next episode"}, {"do": "next episode"}, {"do": "previous episode"}, {"do": "pause"})
    frames = play(browser, 3)
    assert [frame.status["frame"] for frame in frames] == [1, 2, 3] and frames[0].status["episode"] == 1
    tell(browser, {"do": "test"})
    (empty,) = play(browser, 1)
    assert "no test episodes" in empty.status["message"] and not empty.panels


@pytest.mark.parametrize("method", ["m3", "delta_iris"])
def test_what_a_world_model_imagined_is_browsed(method: str, tmp_path: Path) -> None:
    played = session(method, tmp_path, world="both")
    played.record(tmp_path / "film.gif")
    play(played, 12)
    played.close()
    browser = EpisodeBrowser(trained(method), {"imagined": tmp_path})
    for _ in files(tmp_path)[1:]:
        for _ in range(12):
            (frame,) = play(browser, 1)
            assert frame.panels and frame.status["message"] is None
            tell(browser, {"do": "next frame"})
        tell(browser, {"do": "next episode"})
    assert "film-imagined.npz" in files(tmp_path)


FOREIGN: dict[str, dict[str, Any]] = {
    "no frames": {"image": np.zeros((0, 3, 32, 32), np.uint8), "actions": np.zeros(0, np.int64)},
    "unknown action": {"actions": np.array([0, 7, 0])},
    "negative action": {"actions": np.array([0, -1, 0])},
    "vectors for actions": {"actions": np.zeros((3, 2), np.float32)},
    "numbers for actions": {"actions": np.zeros(3, np.float32)},
    "texts for actions": {"actions": np.array(["a", "b", "c"])},
    "another modality": {"vector": np.zeros((4, 5), np.float32)},
    "another size": {"image": np.zeros((4, 3, 64, 64), np.uint8)},
    "numbers for pictures": {"image": np.zeros((4, 3, 32, 32), np.float32)},
    "other tokens": {"tokens": np.zeros((4, 7), np.int64)},
    "numbers for tokens": {"tokens": np.zeros((4, 4), np.float32)},
}


@pytest.mark.parametrize("case", [None, *FOREIGN])
def test_an_episode_that_does_not_fit_is_named_and_not_shown(case: str | None, tmp_path: Path) -> None:
    agent = trained("iris")
    arrays = {"actions": np.zeros(3, np.int64), "tokens": np.zeros((4, agent.agent.num_tokens), np.int64)}
    arrays |= {} if case is None else FOREIGN[case]
    actions, tokens = arrays.pop("actions"), arrays.pop("tokens")
    steps = len(actions)
    arrays = arrays or {"image": np.zeros((4, *agent.spec.observation["image"].shape), np.uint8)}
    rewards, terminations = np.full(steps, np.nan, np.float32), np.zeros(steps, np.bool_)
    kept = Episode(arrays, actions, rewards, terminations, tokens if steps else None, {"return": float("nan")})
    episodes.save(kept, tmp_path / "a.npz")
    browser = EpisodeBrowser(agent, {"test": tmp_path})
    tell(browser, {"set": "panels", "value": ["observation", "tokens"]}, {"do": "next frame"})
    (frame,) = play(browser, 1)
    if case is None:
        assert len(frame.panels) == 2 and not frame.status["message"] and frame.status["action"] == 0
    else:
        assert not frame.panels and "nothing of it is shown" in frame.status["message"]
    tell(browser, {"do": "next frame"}, {"do": "pause"})
    assert len(play(browser, 9)) == 9


def test_damaged_and_foreign_episodes_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"damaged")
    browser = EpisodeBrowser(trained("iris"), {"train": tmp_path})
    frame = browser.tick(NOTHING)
    assert frame is not None and "damaged" in frame.status["message"]
    with pytest.raises(UserError, match="there are no episodes in"):
        EpisodeBrowser(trained("iris"), {"train": tmp_path / "none"})
