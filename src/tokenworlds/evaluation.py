"""``tokenworlds.evaluate``: an agent in its environment."""

from __future__ import annotations

from tokenworlds.errors import UserError, excerpt
from tokenworlds.inference.arrays import check_whole
from tokenworlds.loading import TrainedAgent
from tokenworlds.training.collector import EpisodeStats
from tokenworlds.training.evaluator import Evaluator


def evaluate(agent: TrainedAgent, episodes: int | None = None, num_envs: int | None = None) -> EpisodeStats:
    """Returns and lengths of test episodes, as ``python -m pipeline.evaluate`` plays them.

    Args:
        agent: what ``tokenworlds.load`` has read; what it remembers of ``act`` stays as it is.
        episodes: how many at least, in whole rounds of all environments; by default as in the run's final evaluation,
            whose score it then gets again.
        num_envs: environments side by side; by default as in the final evaluation, but no more than episodes.

    Raises:
        UserError: a number is less than 1, or it is no agent.
    """
    if not isinstance(agent, TrainedAgent):
        raise UserError(f"evaluate takes the agent that tokenworlds.load returns, not {excerpt(agent)}.")
    protocol = agent.config.evaluation
    episodes = check_whole("episodes", protocol.final_episodes if episodes is None else episodes)
    num_envs = check_whole("num_envs", min(protocol.final_num_envs, episodes) if num_envs is None else num_envs)
    evaluator = Evaluator(agent.config, agent.agent, agent.device)
    return evaluator.play("final", episodes=episodes, num_envs=num_envs)[0]
