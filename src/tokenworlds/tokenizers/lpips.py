"""Learned perceptual distance (LPIPS, Zhang et al. 2018) on VGG16 features, as IRIS uses it.

The weights are not shipped. ``load`` takes a local file or folder in one of these forms:

* ``vgg16-397923af.pth``, torchvision's ImageNet VGG16, or a folder with it. The heads are ``vgg.pth`` in the folder or
  else inside the package ``lpips`` (pip install tokenworlds[lpips]), as published with taming-transformers;
* one ``.safetensors`` file with the keys of this module (made by ``python -m tokenworlds.checkpoints lpips``);
* a published IRIS checkpoint, which holds the whole perceptual network under ``tokenizer.lpips.``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds import tensor_files
from tokenworlds.config import PERCEPTUAL_FILES, ImageTokenizerConfig, Perceptual, RandomFeaturesConfig
from tokenworlds.errors import UserError
from tokenworlds.files import sha256

VGG_FILE, HEADS_FILE = PERCEPTUAL_FILES
PACKAGE, PACKAGED_HEADS = "lpips", "weights/v0.1/vgg.pth"
HEADS_SHA256 = "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"
SUBJECT, REMEDY = "perceptual weights: ", "see docs/paper_scale.md, Perceptual loss"
PREFIX = "tokenizer.lpips."  # in published IRIS checkpoints
WIDTHS = (64, 128, 256, 512, 512)
VGG_LAYERS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))  # convolutions among VGG16's features


class LPIPS(nn.Module):
    """sum over five taps of the spatial mean of head(drop((f(x) - f(y))^2)), f normalised over channels at every
    position.

    All parameters are frozen. The dropout in front of each head is active in train mode: the published IRIS agents were
    trained like that, with an unbiased but noisy distance, because switching the agent to train mode switched this
    network too.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        inputs = (3, *widths[:-1])
        self.slices = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(a if i == 0 else b, b, 3, padding=1) for i in range(len(layers)))
            for a, b, layers in zip(inputs, widths, VGG_LAYERS)
        )
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width in widths)
        self.requires_grad_(False)

    def features(self, x: Float[Tensor, "B 3 Y X"]) -> list[Tensor]:
        """The last ReLU of each of the five convolution groups."""
        taps = []
        h = (x - self.shift) / self.scale
        for index, convolutions in enumerate(self.slices):
            if index > 0:
                h = F.max_pool2d(h, 2)
            for convolution in convolutions:  # type: ignore[attr-defined]
                h = F.relu(convolution(h))
            taps.append(h)
        return taps

    def forward(self, x: Tensor, y: Tensor, masks: list[Tensor] | None = None) -> Float[Tensor, "B"]:
        """Distance of images in [-1, 1]. ``masks`` prescribes the dropout's kept entries instead of drawing them."""
        total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for index, (fx, fy) in enumerate(zip(self.features(x), self.features(y))):
            difference = (_unit(fx) - _unit(fy)).square()
            difference = F.dropout(difference, 0.5, self.training) if masks is None else difference * masks[index] / 0.5
            total = total + self.heads[index](difference).mean(dim=(1, 2, 3))
        return total


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def from_reference(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """This module's keys from those of VGG16 (``features.0.weight``) and of a published checkpoint
    (``net.slice1.0.weight``, ``lin0.model.1.weight``, ``scaling_layer.shift``); others are left out."""
    places = {layer: f"{group}.{i}" for group, layers in enumerate(VGG_LAYERS) for i, layer in enumerate(layers)}
    renamed = {}
    for key, value in state.items():
        match = re.fullmatch(r"(?:features|net\.slice\d)\.(\d+)\.(weight|bias)", key)
        if match and int(match[1]) in places:
            renamed[f"slices.{places[int(match[1])]}.{match[2]}"] = value
        elif match := re.fullmatch(r"lin(\d)\.model\.1\.weight", key):
            renamed[f"heads.{match[1]}.weight"] = value
        elif key.startswith("scaling_layer."):
            renamed[key.removeprefix("scaling_layer.")] = value
    return renamed


def of(config: ImageTokenizerConfig) -> LPIPS:
    """The perceptual network that a configuration chooses."""
    if config.perceptual is Perceptual.random:
        settings = config.random_features or RandomFeaturesConfig()
        return random(settings.channels, settings.seed)
    return load(str(config.perceptual_weights))


@torch.no_grad()
def random(channels: int = WIDTHS[0], seed: int = 0) -> LPIPS:
    """The network with random convolutions (He et al. 2015), which are the same wherever the seed is: no file holds
    them. Heads are ones, so that all features count alike. 64 channels are VGG16."""
    network = LPIPS(tuple(width * channels // WIDTHS[0] for width in WIDTHS))
    generator = torch.Generator("cpu").manual_seed(seed)
    for name, parameter in network.named_parameters():
        if name.startswith("heads."):
            parameter.fill_(1.0)
        elif name.endswith(".bias"):
            parameter.zero_()
        else:
            noise = torch.randn(parameter.shape, generator=generator, device="cpu")  # the same for every device
            parameter.copy_(noise * math.sqrt(2 / parameter[0].numel()))
    return network.eval()


def load(weights: str | Path) -> LPIPS:
    """The perceptual network with the weights found at ``weights``.

    Raises:
        UserError: nothing there, a damaged file, no heads or wrong ones, or missing tensors.
    """
    path = Path(weights)
    if not path.exists():
        raise UserError(f"{SUBJECT}there is nothing at {path}; {REMEDY}.")
    network = LPIPS(WIDTHS)
    expected = network.state_dict()
    state = {key: expected[key] for key in ("shift", "scale")} | _read(path)  # not every form holds these constants
    for key, value in expected.items():
        if key not in state or state[key].shape != value.shape:
            raise UserError(f"{SUBJECT}{path} has no tensor that fits {key}; {REMEDY}.")
    state = {key: state[key] for key in expected}
    tensor_files.refuse_not_finite(path, tensor_files.not_finite(state), "fetch the perceptual weights again")
    network.load_state_dict(state)
    return network.eval()


def _read(path: Path) -> dict[str, Tensor]:
    state = _tensors(path / VGG_FILE if path.is_dir() else path)
    inside = {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)}
    if inside:
        return from_reference(inside)
    if path.is_dir() or any(key.startswith("features.") for key in state):
        return from_reference(state | _tensors(_heads(path)))
    return state


def _heads(path: Path) -> Path:
    """The file of the heads in a folder, or else of the installed package, which is not imported: that needs
    torchvision."""
    file = path / HEADS_FILE
    if not file.exists():
        spec = find_spec(PACKAGE)
        places = spec.submodule_search_locations if spec else None
        file = Path(next(iter(places or [""]))) / PACKAGED_HEADS
        if not file.exists():
            raise UserError(
                f"{SUBJECT}{path} holds VGG16 alone, without the heads; install them with pip install "
                f"tokenworlds[lpips], or put {HEADS_FILE} beside {VGG_FILE} and name their folder."
            )
    if (found := sha256(file)) != HEADS_SHA256:
        raise UserError(f"{SUBJECT}{file} has sha256 {found}, expected {HEADS_SHA256}; fetch it again.")
    return file


def _tensors(file: Path) -> dict[str, Tensor]:
    loaded = tensor_files.read(file, SUBJECT)
    named = loaded.items() if isinstance(loaded, Mapping) else ()
    state = {key: value for key, value in named if isinstance(key, str) and isinstance(value, Tensor)}
    if reason := tensor_files.unusable(state):
        raise UserError(f"{SUBJECT}{file}: {reason}; fetch it again.")
    return state
