"""Atari 2600 games with IRIS's exact preprocessing (no-op starts, frame skip, lives as episodes)."""

from __future__ import annotations

from typing import Any

import ale_py
import numpy as np
from ale_py import roms
from ale_py.env import AtariEnv
from ale_py.registration import rom_id_to_name
from numpy.typing import NDArray

from tokenworlds.config import EnvironmentConfig
from tokenworlds.envs.spec import Environment
from tokenworlds.envs.wrappers import ClipReward, EpisodicLife, ImageObservation, NoopReset, ResizedFrameSkip, TimeLimit

_TWO_PLAYERS = "it needs two players"
_NO_NOOP = "its actions lack the one that does nothing, with which every published game starts"
_LEFT_OUT = {
    **dict.fromkeys(("combat", "joust", "maze_craze", "warlords"), _TWO_PLAYERS),
    **dict.fromkeys(("backgammon", "video_checkers"), _NO_NOOP),
}
_EMULATOR_FRAME_LIMIT = 108_000  # of `<Game>NoFrameskip-v4`


def games() -> dict[str, str]:
    """Identifiers of the cartridges (``ms_pacman``) by name as in ALE (``MsPacman``)."""
    return {rom_id_to_name(rom): rom for rom in sorted(roms.get_all_rom_ids()) if rom not in _LEFT_OUT}


def names() -> list[str]:
    return list(games())


def left_out() -> dict[str, str]:
    """Games of the emulator that are no tasks, and why."""
    return {rom_id_to_name(rom): reason for rom, reason in _LEFT_OUT.items()}


class AtariGame(AtariEnv):
    """The raw game: every frame (210 x 160 RGB), no sticky actions, the minimal action set.

    A new game on the running emulator is not the game after switching on: memory carries over, as on the real machine
    (it matters in a quarter of the games). So a game is determined by the emulator before its reset (``snapshot``),
    its seed and its actions.
    """

    def __init__(self, cartridge: str) -> None:
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # else construction prints a banner
        super().__init__(
            cartridge,
            frameskip=1,
            repeat_action_probability=0.0,
            full_action_space=False,
            max_num_frames_per_episode=_EMULATOR_FRAME_LIMIT,
            render_mode="rgb_array",
        )

    @property
    def action_meanings(self) -> tuple[str, ...]:
        return tuple(self.get_action_meanings())

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        if (options or {}).get("scope", "machine") == "machine":
            return super().reset(seed=seed, options=options)
        super(AtariEnv, self).reset(seed=seed)  # the generator that no-ops are drawn from, not the emulator
        self.ale.reset_game()
        return self._get_obs(), self._get_info()

    def snapshot(self) -> NDArray[np.uint8]:
        """The whole emulator as bytes."""
        return np.frombuffer(self.ale.cloneState(include_rng=True).serialize(), dtype=np.uint8)

    def load_snapshot(self, snapshot: NDArray[np.uint8]) -> None:
        self.ale.restoreState(ale_py.ALEState(snapshot.tobytes()))


def preprocess(game: Environment, config: EnvironmentConfig) -> Environment:
    """IRIS's wrappers around a raw game, in the original order."""
    env: Environment = ClipReward(game) if config.clip_reward else game
    env = TimeLimit(env, config.max_episode_steps)
    env = NoopReset(env, config.noop_max)
    env = ResizedFrameSkip(env, config.frame_skip, config.size)
    if config.done_on_life_loss:
        env = EpisodicLife(env)
    return ImageObservation(env)


def make(task: str, config: EnvironmentConfig) -> Environment:
    """A preprocessed game."""
    return preprocess(AtariGame(games()[task.partition("/")[2]]), config)
