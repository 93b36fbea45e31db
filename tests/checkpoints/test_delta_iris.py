"""Published Delta-IRIS checkpoints: a small agent in their layout, imported as a run folder and read back, and what is
said of files that do not fit. The published sizes: tests/golden."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import Tensor

from tokenworlds import config, envs, methods
from tokenworlds.agents.base import Agent
from tokenworlds.checkpoints import delta_iris, layout
from tokenworlds.checkpoints.__main__ import main
from tokenworlds.config import RunConfig
from tokenworlds.envs import DiscreteActions, EnvironmentSpec, ImageSpec

ACTIONS, BLOCKS, TASK = 5, 21, "crafter/Reward"
WIDTH, LAYERS, HIDDEN = 64, 2, 16
Shapes = dict[str, tuple[int, ...]]


def both(key: str, *shape: int) -> Shapes:
    return {f"{key}.weight": shape, f"{key}.bias": shape[:1]}


def residual(key: str, narrow: int, wide: int) -> Shapes:
    shapes = both(f"{key}.f.0", narrow) | both(f"{key}.f.2", wide, narrow, 3, 3)
    shapes |= both(f"{key}.f.3", wide) | both(f"{key}.f.5", wide, wide, 3, 3)
    return shapes if narrow == wide else shapes | both(f"{key}.skip_projection", wide, narrow, 1, 1)


def encoder(key: str, channels: int, latent_dim: int) -> Shapes:
    """64 pixels to 8: channels 32, multipliers 1, 2, 2, 2, halvings 1, 0, 1, 1."""
    shapes = both(f"{key}.0", 32, channels, 3, 3)
    shapes |= residual(f"{key}.1", 32, 32) | both(f"{key}.2.conv", 32, 32, 2, 2)
    shapes |= residual(f"{key}.3", 32, 64)
    shapes |= residual(f"{key}.4", 64, 64) | both(f"{key}.5.conv", 64, 64, 2, 2)
    shapes |= residual(f"{key}.6", 64, 64) | both(f"{key}.7.conv", 64, 64, 2, 2)
    return shapes | both(f"{key}.8", 64) | both(f"{key}.10", latent_dim, 64, 3, 3)


def decoder(key: str, latent_dim: int) -> Shapes:
    """Its mirror image."""
    shapes = both(f"{key}.0", 64, latent_dim, 3, 3)
    shapes |= both(f"{key}.1.conv", 64, 64, 3, 3) | residual(f"{key}.2", 64, 64)
    shapes |= both(f"{key}.3.conv", 64, 64, 3, 3) | residual(f"{key}.4", 64, 64)
    shapes |= residual(f"{key}.5", 64, 32)
    shapes |= both(f"{key}.6.conv", 32, 32, 3, 3) | residual(f"{key}.7", 32, 32)
    return shapes | both(f"{key}.8", 32) | both(f"{key}.10", 3, 32, 3, 3)


def published_shapes(rewards: int = 255, values: int = 255) -> Shapes:
    """Keys and shapes as the specification lists them, small; 16 patches of 2x2 with 6 channels are 16 tokens."""
    t, w, a = "tokenizer", "world_model", "actor_critic"
    shapes: Shapes = {f"{t}.encoder_act_emb.weight": (ACTIONS, 64**2), f"{t}.decoder_act_emb.weight": (ACTIONS, 3 * 64)}
    shapes |= {f"{t}.quantizer.codebook": (10, 7), f"{t}.quantizer.codewords_freqs": (10,)}
    shapes |= both(f"{t}.quantizer.pre_quant_proj", 7, 24) | both(f"{t}.quantizer.post_quant_proj", 24, 7)
    shapes |= encoder(f"{t}.encoder.encoder", 7, 6) | encoder(f"{t}.frame_cnn.encoder", 3, 2)
    shapes |= decoder(f"{t}.decoder.decoder", 2 + 3 + 6)
    shapes |= {f"{w}.transformer.pos_emb.weight": (BLOCKS * 18, WIDTH)} | both(f"{w}.transformer.ln", WIDTH)
    for i in range(LAYERS):
        block = f"{w}.transformer.blocks.{i}"
        shapes |= {f"{block}.sa.mask": (BLOCKS * 18, BLOCKS * 18)}
        shapes |= both(f"{block}.sa.ln", WIDTH) | both(f"{block}.mlp.ln", WIDTH)
        for part in ("query", "key", "value", "attention.proj"):
            shapes |= both(f"{block}.sa.{part}", WIDTH, WIDTH)
        shapes |= both(f"{block}.mlp.mlp.0", 4 * WIDTH, WIDTH) | both(f"{block}.mlp.mlp.2", WIDTH, 4 * WIDTH)
    shapes |= encoder(f"{w}.frame_cnn.0.encoder", 3, 1) | both(f"{w}.frame_cnn.2", WIDTH)
    shapes |= {f"{w}.act_emb.weight": (ACTIONS, WIDTH), f"{w}.latents_emb.weight": (10, WIDTH)}
    for head, width in (("latents", 10), ("rewards", rewards), ("ends", 2)):
        shapes |= {f"{w}.head_{head}.indices": (7,)}
        shapes |= both(f"{w}.head_{head}.head_module.0", WIDTH, WIDTH)
        shapes |= both(f"{w}.head_{head}.head_module.2", width, WIDTH)
    for network in ("model", "target_model"):
        n = f"{a}.{network}"
        shapes |= encoder(f"{n}.cnn.0.encoder", 3, 2)
        shapes |= {f"{n}.lstm.weight_ih": (4 * HIDDEN, 128), f"{n}.lstm.weight_hh": (4 * HIDDEN, HIDDEN)}
        shapes |= {f"{n}.lstm.bias_ih": (4 * HIDDEN,), f"{n}.lstm.bias_hh": (4 * HIDDEN,)}
        shapes |= both(f"{n}.actor_linear", ACTIONS, HIDDEN) | both(f"{n}.critic_linear", values, HIDDEN)
    return shapes


def published_state(**widths: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    state = {key: torch.randn(shape, generator=generator) for key, shape in published_shapes(**widths).items()}
    return state | {"tokenizer.quantizer.num_codebook_updates": torch.tensor(123)}


def built(settings: RunConfig) -> Agent:
    spec = EnvironmentSpec({"image": ImageSpec(64, 64)}, DiscreteActions(ACTIONS))
    return methods.get("delta_iris").build_agent(settings, spec)


def published(*overrides: str) -> RunConfig:
    return config.load(["method=delta_iris", f"task={TASK}", *overrides])


# The layout


@pytest.mark.parametrize("widths", [{}, {"rewards": 3}, {"values": 1}])
def test_published_layout_is_ours_under_other_names(widths: dict[str, int]) -> None:
    """Shapes give the configuration."""
    state = published_state(**widths)
    agent = built(published(*layout.overrides(delta_iris.infer_model(state))))
    found, wanted = delta_iris.from_reference(state), agent.state_dict()
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in wanted.items()}


def test_shapes_give_the_configuration() -> None:
    model = delta_iris.infer_model(published_state())
    stack = {"channels": 32, "multipliers": [1, 2, 2, 2], "halve": [1, 0, 1, 1]}
    assert model["tokenizer"] == {
        "num_tokens": 16,
        "vocab_size": 10,
        "embed_dim": 7,
        "action_channels": 3,
        "encoder": stack | {"latent_dim": 6},
        "frame_encoder": stack | {"latent_dim": 2},
        "decoder": stack,
    }
    assert model["world_model"]["max_blocks"] == BLOCKS and model["world_model"]["embed_dim"] == WIDTH
    assert model["world_model"]["transformer"] == {"num_layers": LAYERS, "num_heads": 4}
    assert model["policy"]["hidden_dim"] == HIDDEN


@pytest.mark.parametrize(("width", "given", "heads"), [(256, None, 4), (512, None, 8), (512, 2, 2)])
def test_heads_are_those_of_the_published_model_of_this_width(width: int, given: int | None, heads: int) -> None:
    state = published_state() | {"world_model.transformer.pos_emb.weight": torch.zeros(18, width)}
    assert delta_iris.infer_model(state, given)["world_model"]["transformer"]["num_heads"] == heads


def test_projections_are_fused_in_the_order_query_key_value() -> None:
    prefix = "world_model.transformer.blocks.3.sa."
    state = {f"{prefix}{part}.bias": torch.full((2,), float(i)) for i, part in enumerate(("value", "query", "key"))}
    renamed = delta_iris.from_reference(state)
    (key,) = renamed
    assert key == "world_model.backbone.blocks.3.attention.query_key_value.bias"
    assert renamed[key].tolist() == [1, 1, 2, 2, 0, 0]


# The command


@pytest.fixture(autouse=True)
def small_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every task has as many actions as the agent, but for another game."""

    def make(task: str, *_: object) -> contextlib.nullcontext[SimpleNamespace]:
        count = ACTIONS if task == TASK else 17
        spec = EnvironmentSpec({"image": ImageSpec(64, 64)}, DiscreteActions(count))
        return contextlib.nullcontext(SimpleNamespace(environment_spec=spec))

    monkeypatch.setattr(envs, "make", make)


def run_import(state: dict[str, Tensor], folder: Path, task: str = TASK) -> int:
    torch.save(state, folder / "last.pt")
    return main(["import", str(folder / "last.pt"), "--task", task, "--out", str(folder / "run")])


def error_of(capsys: pytest.CaptureFixture[str], folder: Path) -> str:
    """The sentence; nothing is written."""
    assert not (folder / "run").exists()
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_import_and_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = published_state()
    assert run_import(state, tmp_path) == 0, capsys.readouterr().err
    card = json.loads((tmp_path / "run" / "agent.json").read_text())
    assert card["method"] == "delta_iris" and card["task"] == TASK and card["actions"]["count"] == ACTIONS
    written = OmegaConf.to_container(OmegaConf.load(tmp_path / "run" / "config.yaml"))
    again = published(*layout.overrides(written["model"]))
    assert config.to_dict(again) == written
    agent = built(again)
    agent.load_state_dict(load_file(tmp_path / "run" / "agent.safetensors"))
    assert agent.tokenizer.quantiser.updates == 123
    critic = "actor_critic.{}.critic_linear.weight"
    assert torch.equal(agent.policy.critic.weight, state[critic.format("model")])
    assert torch.equal(agent.target.critic.weight, state[critic.format("target_model")])


def test_a_file_of_the_optimisers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They lie beside the agent's."""
    assert run_import({"optimizer_tokenizer": torch.zeros(1)}, tmp_path) == 2
    assert "layout of a published IRIS, REM, Delta-IRIS or M3 checkpoint" in error_of(capsys, tmp_path)


@pytest.mark.parametrize(
    "lost",
    [
        "tokenizer.encoder_act_emb.weight",
        "tokenizer.encoder.encoder.",
        "world_model.transformer.blocks.1.sa.key.weight",
        "actor_critic.model.lstm.weight_hh",
    ],
)
def test_tensors_are_missing(lost: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = {key: value for key, value in published_state().items() if not key.startswith(lost)}
    assert run_import(state, tmp_path) == 2
    assert "lacks tensors of a published Delta-IRIS checkpoint" in error_of(capsys, tmp_path)
