"""The fast preprocessing equals the plain one: resize every raw frame first, then wrap."""

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from PIL import Image

from tokenworlds.config import EnvironmentConfig
from tokenworlds.envs.atari import AtariGame, preprocess
from tokenworlds.envs.wrappers import AsTrained, EpisodicLife, ImageObservation, NoopReset, TimeLimit


class ResizeEveryFrame(gymnasium.ObservationWrapper[Any, Any, Any]):
    def observation(self, observation: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(observation).resize((64, 64), Image.Resampling.BILINEAR))


class PlainFrameSkip(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Maximum of the last two frames of four, as a loop over a list."""

    observation_space = gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        frames, total = [], 0.0
        for _ in range(4):
            frame, reward, end, _, info = self.env.step(action)
            frames.append(frame)
            total += float(reward)
            if end:
                return None, total, True, False, info
        return np.maximum(frames[-2], frames[-1]), total, False, False, info


class LenientObservation(ImageObservation):
    def observation(self, observation: Any) -> Any:
        return None if observation is None else super().observation(observation)


def test_resizing_only_the_frames_that_can_be_seen_changes_nothing() -> None:
    fast = preprocess(AtariGame("breakout"), EnvironmentConfig(max_episode_steps=2_000))
    raw = NoopReset(TimeLimit(ResizeEveryFrame(AtariGame("breakout")), 2_000), 30)
    plain = LenientObservation(EpisodicLife(PlainFrameSkip(raw)))
    scope = {"scope": "life"}
    np.testing.assert_array_equal(fast.reset(seed=4)[0]["image"], plain.reset(seed=4)[0]["image"])
    compared = ends = 0
    for action in np.random.default_rng(0).integers(4, size=250):
        one, other = fast.step(int(action)), plain.step(int(action))
        assert one[1:4] == other[1:4]
        if other[0] is not None:
            np.testing.assert_array_equal(one[0]["image"], other[0]["image"])
            compared += 1
        if one[2]:
            ends += 1
            np.testing.assert_array_equal(fast.reset(options=scope)[0]["image"], plain.reset(options=scope)[0]["image"])
    assert compared > 200
    assert ends >= 3


def test_noop_counts_cover_their_range() -> None:
    env = NoopReset(AtariGame("pong"), 5)
    env.reset(seed=0)
    draws = {env.draw_noops() for _ in range(200)}
    assert draws == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(("game", "clips"), [("breakout", False), ("krull", True)])
def test_a_test_game_says_what_training_would_have_given(game: str, clips: bool) -> None:
    """Under the same actions: its rewards, sums of the signs of raw frames if they are clipped, and ends of lives."""
    trained = EnvironmentConfig(max_episode_steps=None, noop_max=1, clip_reward=clips, done_on_life_loss=True)
    tested = replace(trained, clip_reward=False, done_on_life_loss=False)
    training, test = preprocess(AtariGame(game), trained), AsTrained(preprocess(AtariGame(game), tested), trained)
    given, rewards = list[float](), list[float]()
    for seed in range(3):
        training.reset(seed=seed)
        test.reset(seed=seed)
        ended, actions = False, np.random.default_rng(seed)
        while not ended:
            action = int(actions.integers(4))
            (_, reward, ended, *_), (_, raw, over, _, info) = training.step(action), test.step(action)
            given.append(float(reward))
            rewards.append(float(raw))
            assert info["trained"] == (reward, ended) and not over  # the game goes on
    assert any(given) and (not clips or max(rewards) > max(given) > 1)
