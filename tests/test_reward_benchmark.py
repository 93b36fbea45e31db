"""The benchmark that says which tasks show their rewards."""

import numpy as np
import pytest
import torch

from benchmarks import rewards
from tokenworlds.errors import UserError


def test_area_counts_pairs_in_the_right_order() -> None:
    scores, true = np.array([3.0, 1.0, 2.0, 2.0], np.float32), np.array([1.0, 0.0, 1.0, 0.0], np.float32)
    assert rewards.area(scores, true) == (2 + 1.5) / 4  # the pair of equal scores is half right
    assert rewards.area(-scores, true) == pytest.approx(1 - rewards.area(scores, true))
    assert np.isnan(rewards.area(scores, np.zeros(4, np.float32)))


def test_a_reward_comes_soon_in_the_same_episode_alone() -> None:
    steps = 30
    given, ends = np.zeros(steps, np.float32), np.zeros(steps, bool)
    given[[12, 20]], given[25], ends[16] = 1, -1, True
    true = rewards.outcomes(given, ends)
    assert [*np.flatnonzero(true[:, 0])] == [12, 20] and [*np.flatnonzero(true[:, 2])] == [16]
    assert [*np.flatnonzero(true[:, 1])] == [*range(12 - rewards.AHEAD + 1, 13), *range(17, 21)]


@pytest.mark.parametrize("is_shown", [True, False])
def test_what_the_frames_show_is_found(monkeypatch: pytest.MonkeyPatch, is_shown: bool) -> None:
    generator, steps = np.random.default_rng(0), 800
    lamp = generator.random(steps) < 0.3
    frames = generator.integers(0, 50, (steps, 3, 16, 16), dtype=np.uint8)
    frames[lamp & is_shown, :, :4, :4] = 255
    played = torch.from_numpy(frames), torch.from_numpy(generator.integers(0, 2, steps))
    ends = np.arange(steps) % 50 == 49
    monkeypatch.setattr(rewards, "play", lambda *_: (*played, lamp.astype(np.float32), ends, 2))
    rate, ended, now, _, _ = rewards.measure("any", steps, 150, seed=0)
    assert (rate, ended) == (pytest.approx(30, abs=5), pytest.approx(2))
    assert now > 0.95 if is_shown else now < 0.7


def test_a_task_is_played_and_a_row_printed(capsys: pytest.CaptureFixture[str]) -> None:
    rewards.main(["atari/Pong", "--steps", "100", "--updates", "6"])
    head, row = capsys.readouterr().out.splitlines()
    assert row.split()[0] == "atari/Pong" and len(row.split()) == 6 and "area under the curve" in head


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["atari/Pogn"], "unknown task"),
        (["gym/CartPole-v1"], "shows no single picture|families"),
        (["atari/Pong", "--steps", "5"], "--steps must be at least 100"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        rewards.main(arguments)
