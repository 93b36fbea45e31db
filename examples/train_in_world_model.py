"""Train a PPO of stable-baselines3 inside the world model of a trained run, and see what it is worth in both worlds.

    python examples/train_in_world_model.py results/runs/rem/minigrid/Empty-5x5/0 [--seconds 60] [--save ppo.zip]

Needs stable-baselines3: pip install -c constraints.txt -e '.[examples]'. Prints mean returns and lengths of episodes
before and after, in the world model and in the real test environment. The PPO is trained on imagined frames alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv, VecMonitor
from torch import Tensor, nn

import tokenworlds
from tokenworlds import envs
from tokenworlds.envs import PlayedContexts, WorldModelEnv, WorldModelVectorEnv
from tokenworlds.errors import UserError
from tokenworlds.loading import TrainedAgent


class Imagined(VecEnv):
    """Imagined episodes with the interface of stable-baselines3: an episode that ends begins anew in the same step."""

    def __init__(self, vector: WorldModelVectorEnv) -> None:
        self.vector = vector
        super().__init__(vector.num_envs, vector.single_observation_space, vector.single_action_space)

    def reset(self) -> Any:
        seeds = self._seeds if any(seed is not None for seed in self._seeds) else None
        self._reset_seeds()
        return self.vector.reset(seed=seeds)[0]

    def step_async(self, actions: NDArray[Any]) -> None:
        self._actions = actions

    def step_wait(self) -> Any:
        observations, rewards, terminations, truncations, infos = self.vector.step(self._actions)
        ended, details = terminations | truncations, []
        for row in range(self.num_envs):
            last = {"terminal_observation": infos["final_obs"][row]} if ended[row] else {}
            details.append({"TimeLimit.truncated": bool(truncations[row] & ~terminations[row]), **last})
        return observations, rewards.astype(np.float32), ended, details

    def close(self) -> None:
        self.vector.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.vector, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(f"imagined episodes share {attr_name}")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **options: Any) -> list[Any]:
        raise AttributeError(f"imagined episodes have no {method_name} of their own")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        return self.vector.render() or [None] * self.num_envs


class SmallPictures(BaseFeaturesExtractor):
    """Convolutions for pictures of any size; those of stable-baselines3 need 36 pixels."""

    def __init__(self, observation_space: gymnasium.spaces.Box) -> None:
        super().__init__(observation_space, 128)
        channels, height, width = observation_space.shape
        layers: list[nn.Module] = []
        for count in (16, 32, 32):
            layers += [nn.Conv2d(channels, count, 3, stride=2, padding=1), nn.ReLU()]
            channels, height, width = count, (height + 1) // 2, (width + 1) // 2
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, 128), nn.ReLU())

    def forward(self, observations: Tensor) -> Tensor:
        return self.layers(observations)


class Until(BaseCallback):
    """Stops after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.stop = time.monotonic() + seconds

    def _on_step(self) -> bool:
        return time.monotonic() < self.stop


def real_environment(trained: TrainedAgent, name: str, imagined: gymnasium.Space[Any]) -> gymnasium.Env[Any, Any]:
    """The test environment, observed like the world model: one modality, pictures (Y, X, C)."""
    real = envs.make(trained.config.task, trained.config.environment.test)

    def chosen(observation: dict[str, NDArray[Any]]) -> NDArray[Any]:
        values = observation[name]
        return np.moveaxis(values, 0, -1) if values.ndim == 3 else values

    return Monitor(gymnasium.wrappers.TransformObservation(real, chosen, imagined))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--seconds", type=float, default=60, help="of training (default 60)")
    parser.add_argument("--num-envs", type=int, default=16, help="imagined episodes at a time (default 16)")
    parser.add_argument("--max-steps", type=int, default=100, help="of an imagined episode (default 100)")
    parser.add_argument("--episodes", type=int, default=50, help="of each evaluation (default 50)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="write the trained PPO to this file")
    options = parser.parse_args()
    try:
        trained = tokenworlds.load(options.run)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1

    modalities = trained.spec.observation
    name = "image" if "image" in modalities else next(iter(modalities))
    # Random steps before each episode, so that the PPO meets more than what the trained agent would do.
    settings: Any = {
        "contexts": PlayedContexts(warm_up=10, is_random=True),
        "max_episode_steps": options.max_steps,
        "observation": name,
    }
    vector = WorldModelVectorEnv(trained, options.num_envs, autoreset_mode=AutoresetMode.SAME_STEP, **settings)
    worlds: dict[str, gymnasium.Env[Any, Any]] = {
        "world model": Monitor(WorldModelEnv(trained, **settings)),
        "real environment": real_environment(trained, name, vector.single_observation_space),
    }

    has_pictures = name == "image"
    model = PPO(
        "CnnPolicy" if has_pictures else "MlpPolicy",
        VecMonitor(Imagined(vector)),
        n_steps=64,
        batch_size=256,
        n_epochs=4,
        learning_rate=1e-3,
        gamma=0.97,
        ent_coef=0.01,
        seed=options.seed,
        device=trained.device,
        policy_kwargs={"features_extractor_class": SmallPictures} if has_pictures else {},
    )

    def evaluate(when: str) -> None:
        for world, env in worlds.items():
            env.reset(seed=options.seed)
            returns, lengths = evaluate_policy(
                model, env, options.episodes, deterministic=False, return_episode_rewards=True
            )
            print(
                f"{when:16s} {world:17s} return {np.mean(returns):6.2f} ± {np.std(returns):.2f}, "
                f"{np.mean(lengths):6.1f} steps",
                flush=True,
            )

    print(f"{trained.config.method} on {trained.config.task}, {options.num_envs} imagined episodes at a time")
    evaluate("before training")
    started = time.monotonic()
    model.learn(10**9, callback=Until(options.seconds))
    print(f"{model.num_timesteps:,} imagined steps in {time.monotonic() - started:.0f} s")
    evaluate("after training")
    if options.save:
        model.save(options.save)
    vector.close()
    for env in worlds.values():
        env.close()
    return 0


if __name__ == "__main__":
    torch.set_num_threads(min(4, torch.get_num_threads()))
    sys.exit(main())
