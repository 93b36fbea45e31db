"""IRIS with the real environment in the place of the world model: what the same policy would learn in a perfect one.

A diagnosis and no agent of few steps: every imagined step is one of the environment. Tokenizer and actor-critic are
trained as ever, a world model is not.
"""

from __future__ import annotations

from tokenworlds.actor_critic import PolicyState, Trajectory
from tokenworlds.agents.oracle import EnvironmentCopies
from tokenworlds.agents.token import TokenAgent
from tokenworlds.config import TokenRunConfig
from tokenworlds.envs import EnvironmentFactory
from tokenworlds.methods.component import ComponentTrainer
from tokenworlds.methods.token import Learner
from tokenworlds.replay import ReplayBuffer
from tokenworlds.rng import RandomStreams


class OracleLearner(Learner):
    def __init__(self, config: TokenRunConfig, agent: TokenAgent, buffer: ReplayBuffer, streams: RandomStreams) -> None:
        super().__init__(config, agent, buffer, streams)
        behaviour, is_parallel = self.training.actor_critic, config.collection.train.parallel
        self.copies = EnvironmentCopies(
            agent,
            EnvironmentFactory(config.task, config.environment.train),
            behaviour.batch_size,
            behaviour.burn_in,
            config.seed,
            workers=None if is_parallel else False,
        )

    def components(self) -> list[ComponentTrainer]:
        return [*self.tokenizers(), self.actor_critic()]

    def actor_critic(self, tokenizer: ComponentTrainer | None = None) -> ComponentTrainer:
        """Act in copies of the environment, which go on from update to update."""

        def roll() -> tuple[PolicyState, Trajectory]:
            return self.copies.roll(self.noise(self.copies.count))

        trainer = self.behaviour(self.copies, roll, lambda updates: None)
        trainer.spent = lambda: {"oracle_steps": self.copies.steps}
        return trainer
