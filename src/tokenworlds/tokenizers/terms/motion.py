"""Pixels that changed since the frame before count more: small moving objects are what agents miss most."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from tokenworlds.config import MotionTermConfig
from tokenworlds.replay.buffer import ReplayBuffer
from tokenworlds.replay.companions import Companion
from tokenworlds.replay.previous import PreviousFrames
from tokenworlds.tokenizers.pictures import to_float
from tokenworlds.tokenizers.terms.base import Scene, Term


class MotionTerm(Term[MotionTermConfig]):
    """mean(m d(reconstruction, frame)) with the motion m = |x_t - x_(t-1)| / mean |x_t - x_(t-1)|, the mean of a frame.

    Beside the pixel distance d itself this weights it by 1 + weight m. Where nothing moved, m is 0; so it is in the
    first frame of an episode.
    """

    name = "motion"

    @property
    def needs(self) -> dict[str, Callable[[ReplayBuffer, str], Companion]]:
        return {"previous": PreviousFrames}

    def value(self, scene: Scene) -> Float[Tensor, ""]:
        changes = (scene.frames - (to_float(scene.given["previous"]) * 2 - 1)).abs()
        means = changes.mean(dim=(1, 2, 3), keepdim=True)
        motion = changes / means.where(means > 0, 1)
        return (motion * scene.distance(scene.reconstruction, scene.frames, reduction="none")).mean()
