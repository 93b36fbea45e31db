"""Episodes and their files."""

import io
import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.episodes.support import an_episode
from tokenworlds.episodes import Episode, list_episodes, load, save
from tokenworlds.errors import UserError

SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, max_side=4)
TYPES = st.sampled_from([np.uint8, np.int16, np.int64, np.float32])


@st.composite
def episodes(draw: st.DrawFn) -> Episode:
    """Episodes of any modalities, lengths and actions, NaN included."""
    steps = draw(st.integers(0, 5))
    count = steps + draw(st.integers(0, 1))

    def some(length: int, dtype: Any = None, shape: tuple[int, ...] | None = None) -> Any:
        chosen = draw(SHAPES) if shape is None else shape
        return draw(arrays.arrays(dtype or draw(TYPES), (length, *chosen)))

    return Episode(
        {name: some(count) for name in draw(st.sets(st.text("abc._/", min_size=1), min_size=1, max_size=3))},
        actions=some(steps),
        rewards=some(steps, np.float32, ()),
        terminations=some(steps, np.bool_, ()),
        tokens=draw(st.none() | st.builds(lambda: some(count, np.int16, (4,)))),
        facts=draw(st.dictionaries(st.text(), st.text() | st.integers() | st.floats(allow_nan=False))),
    )


@given(episodes())
@settings(max_examples=60, deadline=None)
def test_an_episode_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, episode: Episode) -> None:
    path = tmp_path_factory.getbasetemp() / "episode.npz"
    save(episode, path)
    found = load(path)
    assert found.facts == episode.facts
    assert found.observations.keys() == episode.observations.keys()
    for name, values in episode.observations.items():
        np.testing.assert_array_equal(found.observations[name], values, strict=True)
    for name in ("actions", "rewards", "terminations"):
        np.testing.assert_array_equal(getattr(found, name), getattr(episode, name), strict=True)
    if episode.tokens is None:
        assert found.tokens is None
    else:
        np.testing.assert_array_equal(found.tokens, episode.tokens, strict=True)


def test_the_bytes_of_a_file_depend_on_the_episode_alone(tmp_path: Path) -> None:
    save(an_episode(), tmp_path / "one.npz")
    save(an_episode(), tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"observations": {}},
        {"observations": {"image": np.zeros((9, 3, 4, 4), np.uint8)}},
        {"rewards": np.zeros(4, np.float32)},
        {"rewards": np.zeros(5)},
        {"terminations": np.zeros(5)},
        {"tokens": np.zeros((9, 4), np.int16)},
        {"tokens": np.zeros(5, np.int16)},
        {"facts": {"kind": None}},
    ],
)
def test_parts_that_disagree_are_no_episode(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        replace(an_episode(steps=5), **change)


class Trap:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def _npz(**parts: Any) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **parts)
    return content.getvalue()


def _damaged(tmp_path: Path, kind: str) -> bytes:
    save(an_episode(), tmp_path / "whole.npz")
    whole = (tmp_path / "whole.npz").read_bytes()
    with np.load(tmp_path / "whole.npz") as file:
        parts = dict(file)
    match kind:
        case "empty":
            return b""
        case "cut off":
            return whole[: len(whole) // 2]
        case "other bytes":
            middle = len(whole) // 3
            return whole[:middle] + bytes(200) + whole[middle + 200 :]
        case "no archive":
            return b"\x93NUMPY no array"
        case "an array":
            content = io.BytesIO()
            np.save(content, np.zeros(3))
            return content.getvalue()
        case "another archive":
            return _npz(weights=np.zeros(3))
        case "a part too many":
            return _npz(**parts, extra=np.zeros(3))
        case "a part too few":
            return _npz(**{name: value for name, value in parts.items() if name != "rewards"})
        case "facts are a list":
            return _npz(**parts | {"facts": np.array(json.dumps([1, 2]))})
        case "a pickle":
            return pickle.dumps(Trap(tmp_path / "trapped"))
        case "a pickle inside":
            return _npz(**parts | {"actions": np.array([Trap(tmp_path / "trapped")] * 5)})
        case _:
            content = io.BytesIO()
            with zipfile.ZipFile(content, "w") as archive:
                archive.writestr("facts.npy", b"not an array")
            return content.getvalue()


@pytest.mark.parametrize(
    "kind",
    [
        "empty", "cut off", "other bytes", "no archive", "an array", "another archive", "a part too many",
        "a part too few", "facts are a list", "a pickle", "a pickle inside", "no array inside",
    ],
)  # fmt: skip
def test_a_file_that_is_no_episode_ends_in_one_sentence(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(_damaged(tmp_path, kind))
    with pytest.raises(UserError, match=r"bad.npz is damaged or no episode") as error:
        load(path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "trapped").exists()


@given(place=st.integers(0, 10_000), value=st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_no_damaged_byte_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, place: int, value: int) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    save(an_episode(), path)
    content = bytearray(path.read_bytes())
    content[place % len(content)] = value
    path.write_bytes(content)
    try:
        load(path)
    except UserError as error:
        assert "damaged" in str(error)


def test_a_missing_file_and_a_folder_end_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no episode .*none.npz"):
        load(tmp_path / "none.npz")
    with pytest.raises(UserError, match="no episode"):
        load(tmp_path)


def test_episodes_are_listed_by_name_without_unfinished_ones(tmp_path: Path) -> None:
    for name in ("b/2.npz", "a/1.npz", "b/1.npz"):
        save(an_episode(), tmp_path / name)
    (tmp_path / ".3.npz.0f.tmp").touch()
    (tmp_path / "a" / ".3.npz").touch()
    (tmp_path / "a" / "1.mp4").touch()
    assert [path.relative_to(tmp_path).as_posix() for path in list_episodes(tmp_path)] == [
        "a/1.npz",
        "b/1.npz",
        "b/2.npz",
    ]
    assert list_episodes(tmp_path / "absent") == []
