"""The perceptual network: where its weights come from, and what a wrong file says. The network itself: tests/golden."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests import small
from tokenworlds.errors import UserError
from tokenworlds.files import sha256
from tokenworlds.tokenizers import lpips

WIDTHS = (2, 3, 2, 3, 2)


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lpips, "WIDTHS", WIDTHS)


@pytest.fixture
def network() -> lpips.LPIPS:
    return small.spread(lpips.LPIPS(WIDTHS), seed=5).eval()


def published(network: lpips.LPIPS) -> dict[str, Tensor]:
    """The keys of a published checkpoint."""
    state = {"scaling_layer.shift": network.shift, "scaling_layer.scale": network.scale}
    for key, value in network.state_dict().items():
        kind, *rest = key.split(".")
        if kind == "slices":
            group, index, name = int(rest[0]), int(rest[1]), rest[2]
            state[f"net.slice{group + 1}.{lpips.VGG_LAYERS[group][index]}.{name}"] = value
        elif kind == "heads":
            state[f"lin{rest[0]}.model.1.weight"] = value
    return state


def write_folder(folder: Path, network: lpips.LPIPS, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The two files as they are published, classifier included; the heads' check sum becomes the expected one."""
    state = published(network)
    vgg = {f"features.{key.split('.', 2)[2]}": value for key, value in state.items() if key.startswith("net.")}
    folder.mkdir(exist_ok=True)
    torch.save(vgg | {"classifier.0.weight": torch.ones(2, 2)}, folder / lpips.VGG_FILE)
    torch.save({key: value for key, value in state.items() if key.startswith("lin")}, folder / lpips.HEADS_FILE)
    monkeypatch.setattr(lpips, "HEADS_SHA256", sha256(folder / lpips.HEADS_FILE))
    return folder


def same(loaded: lpips.LPIPS, network: lpips.LPIPS) -> bool:
    return all(torch.equal(value, network.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_weights_are_read_from_the_published_files(
    tmp_path: Path, network: lpips.LPIPS, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = lpips.load(write_folder(tmp_path / "vgg", network, monkeypatch))
    assert same(loaded, network)
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())


def test_weights_are_read_from_one_safetensors_file(tmp_path: Path, network: lpips.LPIPS) -> None:
    save_file(network.state_dict(), tmp_path / "lpips.safetensors")
    assert same(lpips.load(tmp_path / "lpips.safetensors"), network)


def test_weights_are_read_from_a_published_agent(tmp_path: Path, network: lpips.LPIPS) -> None:
    state = {f"tokenizer.lpips.{key}": value for key, value in published(network).items()}
    torch.save(state | {"tokenizer.embedding.weight": torch.ones(2)}, tmp_path / "Pong.pt")
    assert same(lpips.load(tmp_path / "Pong.pt"), network)


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is nothing at .*none\.pt; see docs/paper_scale.md"):
        lpips.load(tmp_path / "none.pt")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a package of the heads that would fail when imported."""
    package = tmp_path / "installed" / lpips.PACKAGE
    (package / lpips.PACKAGED_HEADS).parent.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('torchvision')\n")
    monkeypatch.syspath_prepend(str(package.parent))
    return package


@pytest.mark.parametrize("name", ["", lpips.VGG_FILE])
def test_heads_come_from_the_package_where_there_is_vgg16_alone(
    tmp_path: Path, network: lpips.LPIPS, monkeypatch: pytest.MonkeyPatch, package: Path, name: str
) -> None:
    folder = write_folder(tmp_path / "vgg", network, monkeypatch)
    (folder / lpips.HEADS_FILE).rename(package / lpips.PACKAGED_HEADS)
    assert same(lpips.load(folder / name), network)
    (package / lpips.PACKAGED_HEADS).write_bytes(b"other heads")
    with pytest.raises(UserError, match=r"installed.*has sha256 .*fetch it again"):
        lpips.load(folder / name)


@pytest.mark.parametrize("is_installed", [True, False])
def test_without_heads_the_remedies_are_named(
    tmp_path: Path, network: lpips.LPIPS, monkeypatch: pytest.MonkeyPatch, package: Path, is_installed: bool
) -> None:
    monkeypatch.setattr(lpips, "PACKAGE", lpips.PACKAGE if is_installed else "no_such_package")
    folder = write_folder(tmp_path / "vgg", network, monkeypatch)
    (folder / lpips.HEADS_FILE).unlink()
    with pytest.raises(UserError, match=r"without the heads; install .*tokenworlds\[lpips\], or put vgg\.pth beside"):
        lpips.load(folder)


def test_a_folder_without_vgg16_and_other_heads_are_refused(
    tmp_path: Path, network: lpips.LPIPS, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path, network, monkeypatch)
    monkeypatch.setattr(lpips, "HEADS_SHA256", "0" * 64)
    with pytest.raises(UserError, match=f"has sha256 .*, expected {'0' * 64}"):
        lpips.load(folder)
    (folder / lpips.VGG_FILE).unlink()
    with pytest.raises(UserError, match=f"there is no file .*{lpips.VGG_FILE}"):
        lpips.load(folder)


@pytest.mark.parametrize("kept", [0, 1, 100, -50])
def test_a_truncated_file_is_an_error(
    tmp_path: Path, network: lpips.LPIPS, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    folder = write_folder(tmp_path, network, monkeypatch)
    content = (folder / lpips.VGG_FILE).read_bytes()
    (folder / lpips.VGG_FILE).write_bytes(content[:kept])
    with pytest.raises(UserError, match="is damaged or no checkpoint"):
        lpips.load(folder)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_rubbish_is_an_error(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"weights{suffix}").write_bytes(b"<html>not found</html>" * 20)
    with pytest.raises(UserError, match="is damaged or no checkpoint"):
        lpips.load(tmp_path / f"weights{suffix}")


@pytest.mark.parametrize("key", ["heads.2.weight", "slices.4.1.bias"])
def test_a_missing_tensor_is_never_left_random(tmp_path: Path, network: lpips.LPIPS, key: str) -> None:
    state = network.state_dict()
    del state[key]
    save_file(state, tmp_path / "lpips.safetensors")
    with pytest.raises(UserError, match=f"no tensor that fits {key}"):
        lpips.load(tmp_path / "lpips.safetensors")


def test_the_distance_is_zero_for_equal_images_and_symmetric(network: lpips.LPIPS) -> None:
    x, y = small.frames(2).float() / 127.5 - 1, small.frames(2, seed=1).float() / 127.5 - 1
    assert not network(x, x).any()
    torch.testing.assert_close(network(x, y), network(y, x))
    assert network(x, y).shape == (2,)


def test_the_tokenizer_switches_the_dropout_of_its_perceptual_network(network: lpips.LPIPS) -> None:
    """Published agents were trained with it, because switching the agent switched this network too."""
    tokenizer = small.image_tokenizer()
    tokenizer.lpips = network
    frames = small.frames(2)
    assert tokenizer.loss(frames).perceptual == tokenizer.loss(frames).perceptual != 0
    tokenizer.train()
    assert tokenizer.loss(frames).perceptual != tokenizer.loss(frames).perceptual
    tokenizer.loss(frames).total.backward()
    assert all(parameter.grad is None for parameter in network.parameters())
