"""A discriminator of patches against the decoder (VQGAN: Esser, Rombach, Ommer, CVPR 2021)."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from tokenworlds.config import AdversarialTermConfig
from tokenworlds.ops.own_optimiser import OwnOptimiser
from tokenworlds.tokenizers.terms.base import Scene, Term

LARGEST = 1e4  # of the adapted weight
SMALL = 1e-4  # added to the norm that it is divided by


class Discriminator(OwnOptimiser, nn.Sequential):
    """PatchGAN (Isola et al. 2017): a logit for each patch that says whether it is real."""

    def __init__(self, settings: AdversarialTermConfig, channels: int) -> None:
        widths = [settings.channels * min(2**level, 8) for level in range(settings.num_layers + 1)]
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for level, (a, b) in enumerate(pairwise(widths), 1):
            stride = 2 if level < settings.num_layers else 1
            layers += [nn.Conv2d(a, b, 4, stride, padding=1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 4, padding=1))
        self.learning_rate, self.betas = settings.learning_rate, (0.5, 0.9)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.normal_(part.weight, 0, 0.02)
            elif isinstance(part, nn.BatchNorm2d):
                nn.init.normal_(part.weight, 1, 0.02)


class AdversarialTerm(Term[AdversarialTermConfig]):
    """-mean D(reconstruction) for the tokenizer, and the hinge loss for D, in one backward pass: no gradient of the
    one reaches the parameters of the other.

    The weight is adapted: |g| / (|g'| + 1e-4), at most 1e4, with the gradients at the decoder's last layer of
    reconstruction and perceptual loss (g) and of this one (g'). Before ``start_step`` both losses are 0.
    """

    name = "adversarial"
    updates: Tensor

    def __init__(self, settings: AdversarialTermConfig, latents: int, channels: int) -> None:
        super().__init__(settings, latents, channels)
        self.discriminator = Discriminator(settings, channels)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def value(self, scene: Scene) -> Float[Tensor, ""]:
        frozen = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        logits: Tensor = functional_call(self.discriminator, frozen, (scene.reconstruction,))
        return -logits.mean()

    def forward(self, scene: Scene) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        value, discriminator = self.value(scene), self._hinge(scene)
        weight = self.settings.weight * self._adapted(value, scene)
        has_begun = (self.updates >= self.settings.start_step).to(value.dtype)
        if self.training:
            self.updates += 1
        measured = {"loss_adversarial": value, "loss_discriminator": discriminator, "adversarial_weight": weight}
        return has_begun * (weight * value + discriminator), measured

    def _hinge(self, scene: Scene) -> Float[Tensor, ""]:
        real, made = (self.discriminator(x.detach()) for x in (scene.frames, scene.reconstruction))
        return (F.relu(1 - real).mean() + F.relu(1 + made).mean()) / 2

    def _adapted(self, value: Float[Tensor, ""], scene: Scene) -> Float[Tensor, ""]:
        """0 where nothing learns, as in evaluation."""
        if not torch.is_grad_enabled():
            return torch.zeros_like(value)
        reconstruction, perceptual = scene.base
        own, base = (
            torch.autograd.grad(loss, scene.last_layer, retain_graph=True)[0].norm()
            for loss in (value, reconstruction + perceptual)
        )
        return (base / (own + SMALL)).clamp(max=LARGEST)
