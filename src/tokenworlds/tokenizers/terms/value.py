"""A critic on the quantised latents, so that codes hold what returns depend on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds.config import ReturnTarget, ValueTermConfig
from tokenworlds.ops.symlog import symlog
from tokenworlds.replay.buffer import ReplayBuffer
from tokenworlds.replay.companions import Companion
from tokenworlds.replay.returns import Returns
from tokenworlds.tokenizers.terms.base import Scene, Term

TARGETS = {ReturnTarget.raw: lambda returns: returns, ReturnTarget.symlog: symlog, ReturnTarget.sign: torch.sign}


class ValueTerm(Term[ValueTermConfig]):
    """(v(codes) - G)^2 in the mean, G the discounted return from the frame to the end of its episode. The gradient
    reaches the encoder straight through the quantiser."""

    name = "value"

    def __init__(self, settings: ValueTermConfig, latents: int, channels: int) -> None:
        super().__init__(settings, latents, channels)
        widths = [latents, *[settings.hidden_dim] * settings.num_layers]
        layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
        self.critic = nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], 1))

    @property
    def needs(self) -> dict[str, Callable[[ReplayBuffer, str], Companion]]:
        return {"returns": partial(Returns, gamma=self.settings.gamma, unfinished=self.settings.unfinished)}

    def value(self, scene: Scene) -> Float[Tensor, ""]:
        target = TARGETS[self.settings.target](scene.given["returns"])
        return F.mse_loss(self.critic(scene.codes).squeeze(1).to(target.dtype), target)
