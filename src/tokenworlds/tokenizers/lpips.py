"""Learned perceptual distance (LPIPS, Zhang et al. 2018) on VGG16 features, as IRIS uses it.

The weights are not shipped. ``weights`` is a local file or folder in one of three forms:

* a folder with ``vgg16-397923af.pth`` (torchvision's ImageNet VGG16) and ``vgg.pth`` (the heads published with
  taming-transformers, md5 d507d7349b931f0638a25a48a722f98a);
* one ``.safetensors`` file with the keys of this module (made by ``python -m tokenworlds.checkpoints lpips``);
* a published IRIS checkpoint, which holds the whole perceptual network under ``tokenizer.lpips.``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tokenworlds import tensor_files as tensors
from tokenworlds.config import PERCEPTUAL_FILES
from tokenworlds.errors import UserError

VGG_FILE, HEADS_FILE = PERCEPTUAL_FILES
HEADS_MD5 = "d507d7349b931f0638a25a48a722f98a"
WIDTHS = (64, 128, 256, 512, 512)
CONVOLUTIONS = (2, 2, 3, 3, 3)


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
            nn.ModuleList(nn.Conv2d(a if i == 0 else b, b, 3, padding=1) for i in range(count))
            for a, b, count in zip(inputs, widths, CONVOLUTIONS)
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


def from_reference(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """This module's keys from those of a published checkpoint (``scaling_layer.shift``, ``net.slice1.0.weight``,
    ``lin0.model.1.weight``)."""
    numbers = convolution_numbers()
    renamed = {}
    for key, value in state.items():
        if match := re.fullmatch(r"net\.slice(\d)\.(\d+)\.(weight|bias)", key):
            group = int(match[1]) - 1
            renamed[f"slices.{group}.{numbers[group].index(int(match[2]))}.{match[3]}"] = value
        elif match := re.fullmatch(r"lin(\d)\.model\.1\.weight", key):
            renamed[f"heads.{match[1]}.weight"] = value
        elif key.startswith("scaling_layer."):
            renamed[key.removeprefix("scaling_layer.")] = value
    return renamed


def convolution_numbers() -> list[list[int]]:
    """Indices of the convolutions in VGG16's feature list, per group: [0, 2], [5, 7], [10, 12, 14], ..."""
    groups, number = [], 0
    for count in CONVOLUTIONS:
        groups.append([number + 2 * i for i in range(count)])
        number += 2 * count + 1  # the ReLUs and the pooling
    return groups


def load(weights: str | Path) -> LPIPS:
    """The perceptual network with the weights found at ``weights``.

    Raises:
        UserError: nothing there, a damaged file, the wrong heads, or missing tensors.
    """
    path = Path(weights)
    if not path.exists():
        raise UserError(f"perceptual weights: there is nothing at {path}; see the README, section Perceptual loss.")
    network = LPIPS(WIDTHS)
    wanted = network.state_dict()
    constants = {key: wanted[key] for key in ("shift", "scale")}  # the published heads come without them
    state = constants | _read(path)
    missing = [key for key, value in wanted.items() if key not in state or state[key].shape != value.shape]
    if missing:
        remedy = "see the README, section Perceptual loss"
        raise UserError(f"perceptual weights: {path} has no tensor that fits {missing[0]}; {remedy}.")
    state = {key: state[key] for key in wanted}
    tensors.refuse_not_finite(path, tensors.not_finite(state), "fetch the perceptual weights again")
    network.load_state_dict(state)
    return network.eval()


def _read(path: Path) -> dict[str, Tensor]:
    if path.is_dir():
        heads = path / HEADS_FILE
        for file in (path / VGG_FILE, heads):
            if not file.exists():
                raise UserError(
                    f"perceptual weights: {path} should hold {VGG_FILE} and {HEADS_FILE}; {file.name} is missing."
                )
        if (found := hashlib.md5(heads.read_bytes()).hexdigest()) != HEADS_MD5:
            raise UserError(f"perceptual weights: {heads} has md5 {found}, expected {HEADS_MD5}; fetch it again.")
        slices = {
            str(n): f"net.slice{group}.{n}" for group, ns in enumerate(convolution_numbers(), start=1) for n in ns
        }
        named = {}
        for key, value in _load(path / VGG_FILE).items():
            match = re.fullmatch(r"features\.(\d+)\.(weight|bias)", key)
            if match and match[1] in slices:
                named[f"{slices[match[1]]}.{match[2]}"] = value
        return from_reference({**named, **_load(heads)})
    state = _load(path)
    inside = {
        key.removeprefix("tokenizer.lpips."): value
        for key, value in state.items()
        if key.startswith("tokenizer.lpips.")
    }
    return from_reference(inside) if inside else state


def _load(path: Path) -> dict[str, Tensor]:
    subject = "perceptual weights: "
    loaded = tensors.read(path, subject)
    named = loaded.items() if isinstance(loaded, Mapping) else ()
    state = {key: value for key, value in named if isinstance(key, str) and isinstance(value, Tensor)}
    if reason := tensors.unusable(state):
        raise UserError(f"{subject}{path}: {reason}; fetch it again.")
    return state
