"""Episodes listed and exported by ``python -m tokenworlds.episodes``."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
from omegaconf import OmegaConf

from tests.episodes.support import an_episode
from tests.methods.support import configure
from tokenworlds import envs
from tokenworlds.config import to_dict
from tokenworlds.episodes import Episode, load, save
from tokenworlds.episodes import __main__ as command
from tokenworlds.episodes.export import PATH

Capture = pytest.CaptureFixture[str]
SIDE = 32


def stored(kind: str, index: int, **options: Any) -> Episode:
    episode = an_episode(index + 3, kind=kind, seed=index, side=SIDE, **options)
    return replace(episode, facts={**episode.facts, "length": len(episode) + 2 * (kind == "train")})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run on MiniGrid that has kept two training, two test and one imagined episode."""
    folder = tmp_path / "runs" / "0"
    config = configure("iris", "seed=5")
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(to_dict(config)))
    packages = {"gymnasium": "1.4.0", "minigrid": "3.2.0", "torch": "2.0"}
    (folder / "environment.json").write_text(json.dumps({"git_revision": "abc123", "packages": packages}))
    for kind, index in (("train", 0), ("train", 1), ("test", 2), ("test", 3), ("imagined", 3)):
        episode = stored(kind, index, has_last=kind == "imagined")
        if kind == "imagined":
            episode = replace(episode, tokens=np.arange(4 * (index + 4), dtype=np.int64).reshape(-1, 4))
        save(episode, folder / "media" / "episodes" / kind / f"episode_{index:05}.npz")
    return folder


def refused(capsys: Capture, *arguments: str) -> str:
    """The sentence."""
    assert command.main([*arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("error: ") and printed.err.count("\n") == 1
    return printed.err


def test_episodes_are_listed_with_what_is_kept_of_them(run: Path, capsys: Capture) -> None:
    save(stored("train", 0), run / "replay" / "episode_00000.npz")
    assert command.main(["list", str(run)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "train/episode_00000.npz  return 0.50  5 steps, the first 3 kept",
        "train/episode_00001.npz  return 0.50  6 steps, the first 4 kept",
        "test/episode_00002.npz  return 0.50  5 steps",
        "test/episode_00003.npz  return 0.50  6 steps",
        "imagined/episode_00003.npz  return 0.50  6 steps",
        "replay: 1 episodes, 0.0 MB",
    ]


def test_minari_reads_the_same_arrays_back(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(stored("train", 0, has_last=False), run / "replay" / "episode_00000.npz")
    assert command.main(["export", str(run), "--format", "minari", "--out", str(tmp_path / "new" / "sets")]) == 0
    monkeypatch.setenv(PATH, str(tmp_path / "new" / "sets"))
    names = {f"iris/minigrid/Empty-5x5/5/{kind}-v0": kind for kind in ("train", "test", "imagined", "replay")}
    assert set(minari.list_local_datasets()) == set(names)
    config = configure("iris")
    with envs.make(config.task, config.environment.test) as environment:
        spaces = environment.observation_space, environment.action_space
    for name, kind in names.items():
        dataset = minari.load_dataset(name)
        assert (dataset.observation_space, dataset.action_space) == spaces
        files = sorted((run / "replay" if kind == "replay" else run / "media" / "episodes" / kind).glob("*.npz"))
        assert dataset.total_episodes == len(files)
        for path, found, facts in zip(files, dataset, dataset.storage.get_episode_metadata(range(len(files)))):
            episode = load(path)
            seen, pictures = episode.observations["image"], found.observations["image"]
            np.testing.assert_array_equal(pictures[: len(seen)], seen, strict=True)
            np.testing.assert_array_equal(pictures[len(seen) :], seen[-1:][: len(pictures) - len(seen)])
            assert len(pictures) == len(episode) + 1
            np.testing.assert_array_equal(found.actions, episode.actions, strict=True)
            np.testing.assert_array_equal(found.rewards, episode.rewards, strict=True)
            np.testing.assert_array_equal(found.terminations, episode.terminations, strict=True)
            assert not found.truncations.any()
            assert (episode.tokens is None) == (found.infos == {}) and repr(found)
            if episode.tokens is not None:
                np.testing.assert_array_equal(found.infos["tokens"], episode.tokens, strict=True)
            assert {facts[name] for name in ("kind", "index", "return")} == {
                episode.facts["kind"], episode.facts["index"], episode.facts["return"],
            }  # fmt: skip


def test_a_data_set_says_what_it_is(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command.main(["export", str(run), "--out", str(tmp_path / "sets"), "--kind", "test", "test"]) == 0
    monkeypatch.setenv(PATH, str(tmp_path / "sets"))
    assert list(minari.list_local_datasets()) == ["iris/minigrid/Empty-5x5/5/test-v0"]
    metadata = minari.load_dataset("iris/minigrid/Empty-5x5/5/test-v0").storage.metadata
    expected = {
        "algorithm_name": "iris",
        "author": {"tokenworlds"},
        "requirements": ["gymnasium==1.4.0", "minigrid==3.2.0"],
        "environment": "minigrid/Empty-5x5",
        "seed": 5,
        "git_revision": "abc123",
        "total_episodes": 2,
        "total_steps": 11,
        "jpeg_encoding": False,
    }
    assert {name: metadata[name] for name in expected} == expected
    assert metadata["environment_settings"]["size"] == SIDE
    assert metadata["description"].startswith("test episodes of iris on minigrid/Empty-5x5, seed 5.")


def test_an_episode_without_a_termination_is_truncated(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    episode = stored("test", 9)
    path = run / "media" / "episodes" / "test" / "episode_00009.npz"
    save(replace(episode, terminations=np.zeros(len(episode), dtype=bool)), path)
    assert command.main(["export", str(run), "--out", str(tmp_path / "sets"), "--kind", "test"]) == 0
    monkeypatch.setenv(PATH, str(tmp_path / "sets"))
    found = minari.load_dataset("iris/minigrid/Empty-5x5/5/test-v0")[2]
    assert found.truncations.tolist() == [False] * (len(episode) - 1) + [True] and not found.terminations.any()


@pytest.mark.parametrize("place", ["folder", "file", "link"])
def test_what_exists_is_not_written_over(run: Path, tmp_path: Path, capsys: Capture, place: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nothing")
    out = tmp_path / place
    assert f"{place} exists, and nothing is written over; name another folder with --out" in refused(
        capsys, "export", str(run), "--out", str(out)
    )
    assert (tmp_path / "file").read_text() == "mine" and not [*(tmp_path / "folder").iterdir()]


def test_nothing_is_written_into_the_folder_of_a_run(run: Path, capsys: Capture) -> None:
    (run / "agent.safetensors").touch()
    out = run / "media" / "sets"
    assert "lies in the run folder" in refused(capsys, "export", str(run), "--out", str(out)) and not out.exists()


def test_a_damaged_episode_leaves_no_half_of_a_data_set(run: Path, tmp_path: Path, capsys: Capture) -> None:
    (run / "media" / "episodes" / "test" / "episode_00003.npz").write_bytes(b"not an episode")
    before = sorted(tmp_path.iterdir())
    assert "episode_00003.npz is damaged" in refused(capsys, "export", str(run), "--out", str(tmp_path / "sets"))
    assert sorted(tmp_path.iterdir()) == before
    assert "episode_00003.npz is damaged" in refused_after_output(capsys, "list", str(run))


def refused_after_output(capsys: Capture, *arguments: str) -> str:
    assert command.main([*arguments]) == 2
    return capsys.readouterr().err


def test_a_run_without_such_episodes_is_named_with_a_remedy(run: Path, tmp_path: Path, capsys: Capture) -> None:
    out = str(tmp_path / "sets")
    assert "holds no replay episodes; train with runtime.keep_replay=true" in refused(
        capsys, "export", str(run), "--out", out, "--kind", "replay"
    )
    (tmp_path / "empty").mkdir()
    assert "holds no train or test or imagined episodes" in refused(
        capsys, "export", str(tmp_path / "empty"), "--out", out
    )
    assert "holds no episodes; see runtime.kept_episodes" in refused(capsys, "list", str(tmp_path / "empty"))
    assert "there is no folder" in refused(capsys, "list", str(tmp_path / "nowhere"))
    assert not (tmp_path / "sets").exists()


def test_a_missing_package_is_named(
    run: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "h5py" else found(name))
    assert "the export needs the package h5py: pip install" in refused(
        capsys, "export", str(run), "--out", str(tmp_path / "sets")
    )


def test_help_says_how_the_data_sets_are_read(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(["export", "--help"])
    assert stopped.value.code == 0
    assert "minari.load_dataset" in " ".join(capsys.readouterr().out.split())
