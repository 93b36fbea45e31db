"""The phases of IRIS and REM as they run in training, on random frames, with the batches of the reference
measurements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tokenworlds import config, methods
from tokenworlds.actor_critic import PolicyState, actor_critic_losses
from tokenworlds.config import PolicyInput, Precision, RunConfig
from tokenworlds.envs import EnvironmentFactory, EnvironmentSpec, ImageSpec, VectorEnvironment
from tokenworlds.imagination import ImaginationNoise, Trajectory
from tokenworlds.methods.token_agent import rollout_of
from tokenworlds.replay import ReplayBuffer, Segments, sample_from_end, sample_from_start
from tokenworlds.rng import RandomStreams
from tokenworlds.tokenizers import to_float
from tokenworlds.tokenizers.lpips import LPIPS
from tokenworlds.training import precision
from tokenworlds.training.perception import PerceptionCache
from tokenworlds.training.phase import Phase

Work = Callable[[], object]
FRAMES, EPISODES, ACTIONS = 20_000, 40, 18
BATCH, BURN_IN = 16, 20  # of imagination and behaviour
SEGMENTS = {"iris": 4, "rem": 8}  # of a world-model update
SMALL_REPLAY = 400  # frames whose perception is computed for the phases that read it


class Phases:
    """One agent at published size and what its phases need; a phase is made when it is asked for."""

    def __init__(self, method: str, device: torch.device, overrides: Sequence[str] = ()) -> None:
        self.method, self.device = method, device
        self.config: RunConfig = config.load(
            [f"method={method}", "task=atari/Breakout", "scale=paper", "model.tokenizer.perceptual=none", *overrides]
        )
        precision.enable_tf32(self.config.training.precision is not Precision.float32)
        self.context = self.config.model.world_model.context
        self.length = self.config.training.sequence_length
        self.horizon = self.config.training.actor_critic.horizon
        spec = EnvironmentSpec({"image": ImageSpec(64, 64)}, ACTIONS, ("",) * ACTIONS)
        self.streams = RandomStreams(0, device)
        self.streams.seed_global()
        self.agent = methods.get(method).build_agent(self.config, spec).to(device)
        self.generator = self.streams.torch("benchmark")
        self.replay = self._replay(SMALL_REPLAY, 4)
        self.perception = PerceptionCache(self.replay, self.agent)
        self.rollout = rollout_of(self.config, self.agent, device, BATCH)

    def all(self) -> dict[str, Callable[[], Work]]:
        """Names before the colon are those of the reference measurements; what follows says how the work is done."""
        burn_in = "encoded and decoded" if self.config.model.policy.input is PolicyInput.pixels else "encoded"
        return {
            "tokenizer_update": self.tokenizer_update,
            "tokenizer_update_lpips": self.tokenizer_update_lpips,
            "world_model_update: frames encoded": lambda: self.world_model_update(is_cached=False),
            "world_model_update: tokens cached": lambda: self.world_model_update(is_cached=True),
            f"imagination: burn-in {burn_in}": lambda: self.imagination(is_cached=False),
            "imagination: burn-in cached": lambda: self.imagination(is_cached=True),
            "imagination_no_burn_in": self.imagination_no_burn_in,
            f"behaviour_update: burn-in {burn_in}": lambda: self.behaviour_update(is_cached=False),
            "behaviour_update: burn-in cached": lambda: self.behaviour_update(is_cached=True),
            "perception: 100 frames into the cache": self.perceive,
            "act": self.act,
            "replay_sample: frames as floats": lambda: self.replay_sample(4, to_float),
            "replay_sample_full: frames as floats": lambda: self.replay_sample(64, to_float),
            "replay_sample_full: frames as bytes": lambda: self.replay_sample(64, lambda frames: frames),
            "replay_sample_full: what an update reads": lambda: self.replay_sample(64, None),
            "env_step_300": self.env_steps,
        }

    def _replay(self, frames: int, episodes: int) -> ReplayBuffer:
        buffer = ReplayBuffer({"image": (3, 64, 64)}, frames, self.device)
        for _ in range(episodes):
            count = frames // episodes
            image = torch.randint(
                256, (count, 3, 64, 64), dtype=torch.uint8, generator=self.generator, device=self.device
            )
            actions = torch.randint(ACTIONS, (count,), generator=self.generator, device=self.device)
            buffer.extend({"image": image}, actions, torch.zeros(count), torch.zeros(count), close=True)
        return buffer

    def tokenizer_update(self) -> Work:
        frames = self.replay.observations(torch.arange(1, 33, device=self.device))
        settings = replace(self.config.training.tokenizer, batch_size=32)
        return Phase(
            "tokenizer", self.agent.tokenizer.train(), settings, lambda: self.agent.tokenizer.loss(frames)
        ).update

    def tokenizer_update_lpips(self) -> Work:
        update = self.tokenizer_update()
        part = self.agent.tokenizer.part("image")

        def work() -> object:
            part.lpips = self.lpips
            result = update()
            part.lpips = None
            return result

        self.lpips = LPIPS().to(self.device)  # random weights cost the same as trained ones
        return work

    def world_model_update(self, *, is_cached: bool) -> Work:
        model = self.agent.world_model.train()
        self.perception.refresh_tokens(0)

        def losses() -> object:
            some = sample_from_start(self.replay, SEGMENTS[self.method], self.length, self.generator)
            tokens = self.perception.tokens(some.rows) if is_cached else self._encode(some)
            return model.loss(tokens, some.actions, some.rewards, some.ends, some.mask)

        return Phase("world_model", model, self.config.training.world_model, losses).update  # type: ignore[arg-type]

    def _encode(self, segments: Segments) -> Tensor:
        """Tokens of the drawn frames, as if nothing were known about them."""
        frames = {name: values.flatten(0, 1) for name, values in segments.observations.items()}
        return self.agent.encode(frames).unflatten(0, segments.mask.shape)

    def _imagine(self, *, is_cached: bool, burn_in: int = BURN_IN) -> tuple[Trajectory, PolicyState]:
        self.agent.eval()
        some = sample_from_end(self.replay, BATCH, max(burn_in + 1, self.context), self.generator)
        tokens = self.perception.tokens(some.rows) if is_cached else self._encode(some)
        if is_cached:
            seen = self.perception.seen(some.rows[:, :burn_in])
        else:
            seen = self.agent.see(tokens[:, :burn_in].flatten(0, 1)).unflatten(0, (BATCH, burn_in))
        state = self.agent.policy.burn_in(seen, some.actions[:, :burn_in], some.mask[:, :burn_in])
        noise = ImaginationNoise.draw(self.horizon, self.agent.tokenizer.layout.num_tokens, BATCH, self.generator)
        start = (tokens[:, -self.context :], some.actions[:, -self.context : -1])
        return self.rollout(*start, state, noise), state

    def imagination(self, *, is_cached: bool) -> Work:
        if is_cached:
            self.perception.refresh_seen(0, self.replay.rows + 1)
        return lambda: self._imagine(is_cached=is_cached)

    def imagination_no_burn_in(self) -> Work:
        return lambda: self._imagine(is_cached=False, burn_in=0)

    def behaviour_update(self, *, is_cached: bool) -> Work:
        settings = self.config.training.actor_critic
        if is_cached:
            self.perception.refresh_seen(0, self.replay.rows + 1)

        def losses() -> object:
            trajectory, state = self._imagine(is_cached=is_cached)
            logits, values, _ = self.agent.policy.unroll(trajectory.observations, trajectory.actions, state)
            return actor_critic_losses(
                logits,
                values,
                trajectory.actions,
                trajectory.rewards,
                trajectory.ends,
                gamma=settings.gamma,
                lambda_=settings.lambda_,
                entropy_weight=settings.entropy_weight,
            )

        return Phase("actor_critic", self.agent.policy, settings, losses).update  # type: ignore[arg-type]

    def perceive(self) -> Work:
        """What the caches of the two phases above cost: at published size an epoch fills them once, 500 frames an
        update at the end of a run."""
        some = self._replay(100, 1)

        def work() -> object:
            tokens = self._encode(sample_from_start(some, 5, 20, self.generator))
            return self.agent.see(tokens.flatten(0, 1))

        return work

    def act(self) -> Work:
        self.agent.eval()
        frame = self.replay.observations(torch.arange(1, 2, device=self.device))
        state = self.agent.policy.initial_state(1)
        uniform = torch.rand(1, generator=self.generator, device=self.device)
        return lambda: self.agent.act(frame, state, uniform, 1.0)

    def replay_sample(self, batch: int, convert: Callable[[Tensor], Tensor] | None) -> Work:
        """A world-model batch. The original makes floats of frames; here an update reads tokens by row, no frames."""
        replay = self._replay(FRAMES, EPISODES)
        tokens = torch.randint(512, (FRAMES + 1, self.agent.tokenizer.layout.num_tokens), device=self.device)

        def work() -> object:
            some = sample_from_start(replay, batch, self.length, self.generator, look=convert is not None)
            return convert(some.observations["image"]) if convert else tokens[some.rows]

        return work

    def env_steps(self) -> Work:
        envs = VectorEnvironment(
            [EnvironmentFactory("atari/Breakout", "train", self.config.environment.train)], workers=False
        )
        envs.reset([0])
        actions = self.streams.numpy("actions")

        def work() -> object:
            for _ in range(300):
                result = envs.step([int(actions.integers(envs.spec.num_actions))])
            return result

        return work
