"""Several environments in lock-step, in this process or in one worker process each."""

from tokenworlds.envs.vector.environment import VectorEnvironment

__all__ = ["VectorEnvironment"]
