"""The two worlds that a session plays in: the test environment, and the world model."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tokenworlds import envs
from tokenworlds.agents.delta import DeltaAgent
from tokenworlds.agents.imagined_world import ImaginedWorld
from tokenworlds.envs import Observation
from tokenworlds.envs.recorded import episode_seed
from tokenworlds.errors import UserError, brief
from tokenworlds.loading import TrainedAgent
from tokenworlds.replay import Segments

FEWEST = 3  # frames that are remembered: two transitions, for panels


class World:
    """One game: what its last step has led to."""

    def __init__(self) -> None:
        self.observation: Observation = {}
        self.tokens: NDArray[Any] | None = None
        """(S,) of the observation, or the delta tokens before it; None where there are none."""
        self.tokens_before: NDArray[Any] | None = None
        """Those of the last step."""
        self.steps, self.total = 0, 0.0
        self.reward = 0.0
        self.is_terminated = False
        """Whether the game has ended, not just been cut."""
        self.is_over = False

    def _begin(self) -> None:
        self.steps, self.total, self.reward, self.is_terminated, self.is_over = 0, 0.0, 0.0, False, False
        self.tokens = self.tokens_before = None

    def _advance(self, reward: float, terminated: bool, truncated: bool = False) -> None:
        self.steps, self.total, self.reward = self.steps + 1, self.total + reward, reward
        self.is_terminated, self.is_over = terminated, terminated or truncated
        self.tokens, self.tokens_before = None, self.tokens

    def tokens_changed(self) -> int | None:
        """Tokens that differ from those of the step before; None where either is unknown."""
        if self.tokens is None or self.tokens_before is None:
            return None
        return int((self.tokens != self.tokens_before).sum())


class RealWorld(World):
    """The task's test environment. Every episode has a seed of its own, from which and its actions it follows."""

    def __init__(self, trained: TrainedAgent, seed: int) -> None:
        super().__init__()
        self._agent, self._device = trained.agent, trained.device
        self._actions = trained.spec.actions
        self._environment = envs.make(trained.config.task, trained.config.environment.test)
        self._first_seed, self.episode = seed, -1
        self.seed = seed
        """Of the running episode."""
        self._past: deque[tuple[Observation, Any]] = deque(maxlen=max(FEWEST, trained.agent.context_frames) - 1)
        self.observation, _ = self._environment.reset(seed=seed)  # shown until the first episode begins
        self.why_undrawn: str | None = None
        """Why the environment has no picture of its own."""
        try:
            self.draw()
        except UserError as error:
            self.why_undrawn = str(error)

    def reset(self) -> None:
        """The next episode."""
        self.episode += 1
        self.seed = episode_seed(self._first_seed, self.episode)
        self.observation, _ = self._environment.reset(seed=self.seed)
        self._past.clear()
        self._begin()

    def step(self, action: Tensor) -> None:
        taken = action.squeeze(0).cpu().numpy().astype(self._actions.dtype)
        self._past.append((self.observation, taken))
        self.observation, reward, terminated, truncated, _ = self._environment.step(taken)
        self._advance(reward, terminated, truncated)

    def actions(self) -> NDArray[Any]:
        """All actions of the running episode."""
        return self._environment.state()["actions"]

    def segments(self, length: int) -> Segments:
        """The last frames (1, T, ...), the current one included, with the actions between them; T is at most
        ``length`` and what the episode has."""
        past = list(self._past)[max(0, len(self._past) - length + 1) :]
        frames = [*(observation for observation, _ in past), self.observation]
        blank = np.zeros(self._actions.shape, self._actions.dtype)
        observations = {name: self._stack([frame[name] for frame in frames]) for name in self.observation}
        return Segments.of_frames(observations, self._stack([*(action for _, action in past), blank]))

    def _stack(self, values: list[NDArray[Any]]) -> Tensor:
        return torch.from_numpy(np.stack(values)).to(self._device).unsqueeze(0)

    def policy_input(self) -> Tensor:
        """What the policy observes of the current frame."""
        with torch.no_grad():
            frame = {name: self._stack([value]).squeeze(0) for name, value in self.observation.items()}
            return self._agent.observe(frame)

    def read_tokens(self) -> None:
        """Encode the current frame."""
        if self._agent.num_tokens == 0:
            self.tokens = np.zeros(0, np.int64)
            return
        context = self._agent.context(self.segments(2))
        tokens = context.deltas if isinstance(self._agent, DeltaAgent) else context.tokens
        self.tokens = tokens[0, -1].cpu().numpy() if tokens.shape[1] else None

    def draw(self) -> NDArray[np.uint8]:
        """The environment's own picture (Y, X, 3).

        Raises:
            UserError: it has none, or cannot draw it here.
        """
        try:
            picture = self._environment.render()
        except UserError:
            raise
        except Exception as error:  # of whatever graphics library there is
            raise UserError(f"the environment draws no picture of its own ({brief(error, 60) or 'none'}).") from error
        if not isinstance(picture, np.ndarray) or picture.ndim != 3:
            raise UserError("the environment draws no picture of its own.")
        return picture.astype(np.uint8, copy=False)

    def close(self) -> None:
        self._environment.close()


class DreamWorld(World):
    """The world model, from the last frames of a real game on."""

    def __init__(self, imagined: ImaginedWorld) -> None:
        super().__init__()
        self.imagined = imagined
        self.has_restarted = False

    def begin(self, segments: Segments) -> None:
        """Start at the current frame of a real game."""
        self.imagined.begin(segments)
        self._begin()
        self.has_restarted = False
        self._read()

    def step(self, action: Tensor) -> None:
        after = self.imagined.step(action)
        self.has_restarted = after.has_restarted
        self._advance(float(after.rewards), bool(after.terminations))
        self._read()

    def _read(self) -> None:
        tokens = self.imagined.agent.imagined_tokens(self.imagined.state)
        self.tokens = None if tokens is None else tokens.squeeze(0).cpu().numpy()
        observations = self.imagined.observations()
        self.observation = {name: value.squeeze(0).cpu().numpy() for name, value in observations.items()}

    @torch.no_grad()
    def policy_input(self) -> Tensor:
        """What the policy observes of the current frame."""
        return self.imagined.agent.observe_imagined(self.imagined.state)
