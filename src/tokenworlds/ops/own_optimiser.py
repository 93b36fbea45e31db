"""Modules that are trained with settings of their own inside a component."""


class OwnOptimiser:
    """Mixed into a module: its parameters are steps of Adam with these settings, without weight decay, and their
    gradients are not clipped with those of the component."""

    learning_rate: float
    betas: tuple[float, float]
