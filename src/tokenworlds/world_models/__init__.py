"""World models over tokens."""

from tokenworlds.world_models.token import StepNoise, TokenWorldModel, WorldModelLosses, WorldModelState

__all__ = ["StepNoise", "TokenWorldModel", "WorldModelLosses", "WorldModelState"]
