"""Whole IRIS agents: published sizes with formula-generated weights, and a checkpoint in the published layout."""

import math

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.golden import iris_components
from tests.golden.support import Case, assert_filled, filled, load_case, load_json, load_tensors
from tokenworlds import config, methods
from tokenworlds.agents.token import TokenAgent
from tokenworlds.checkpoints import iris
from tokenworlds.checkpoints import layout as layouts
from tokenworlds.checkpoints.importing import extract_perceptual
from tokenworlds.config import RunConfig
from tokenworlds.envs import DiscreteActions, EnvironmentSpec, ImageSpec
from tokenworlds.tokenizers import lpips


def published(overrides: list[str]) -> RunConfig:
    return config.load(
        ["method=iris", "task=atari/Breakout", "scale=paper", "model.tokenizer.perceptual=none", *overrides]
    )


def spec_of(num_actions: int, size: int = 64) -> EnvironmentSpec:
    return EnvironmentSpec({"image": ImageSpec(size, size)}, DiscreteActions(num_actions))


def check_agent(case: Case, agent: TokenAgent, *, z_channels: int | None) -> None:
    frames, actions = case["input.frames"], case["input.actions"]
    part = agent.tokenizer.part("image")
    with torch.no_grad():
        z = part.latents(frames)
        tokens, codes = part.quantise(z)
        case.assert_close(tokens, "expected.tokens")
        case.assert_close(z[:, :z_channels], "expected.z8" if z_channels else "expected.z")
        if "expected.z_q" in case.tensors:
            case.assert_close(codes, "expected.z_q")
        reconstruction = (part.decode_codes(codes) + 1) / 2
        case.assert_close(reconstruction, "expected.reconstruction")
        outputs = agent.world_model.backbone.parallel(agent.world_model.embed(tokens.unsqueeze(0), actions))
        case.assert_close(outputs, "expected.wm.output_sequence")
        for name, logits in iris_components.logits(agent.world_model, outputs).items():
            case.assert_close(logits, f"expected.wm.logits_{name}")
        logits, outputs, state = agent.policy.unroll(
            reconstruction.clamp(0, 1).unsqueeze(0), actions, agent.policy.initial_state(1)
        )
        case.assert_close(logits, "expected.ac.logits_actions")
        case.assert_close(outputs, "expected.ac.values")
        if "expected.ac.hx" in case.tensors:
            case.assert_close(state.hidden, "expected.ac.hx")
            case.assert_close(state.cell, "expected.ac.cx")


def test_full_size_agent() -> None:
    case = load_case("iris", "agent_paper_size")
    num_actions, salt = case.config["act_vocab_size"], case.config["salt"]
    agent = methods.get("iris").build_agent(published([]), spec_of(num_actions))
    layout = load_json("iris", "reference_state_dict_paper")["tensors"]
    state = {}
    for key, entry in layout.items():
        shape = list(entry["shape"])
        if key.endswith(("embedding_tables.0.weight", "actor_linear.weight", "actor_linear.bias")):
            shape[0] = num_actions  # the layout on file is that of 18 actions
        if ".lpips." not in key and not iris.BUFFERS.fullmatch(key):
            state[key] = filled(key, shape, salt)
    agent.load_state_dict(iris.from_reference(state))
    assert_filled(case.array("input.frames"), salt)
    check_agent(case, agent, z_channels=8)


def test_published_layout_is_ours_under_other_names() -> None:
    layout = load_json("iris", "reference_state_dict_paper")["tensors"]
    state = {key: torch.empty(entry["shape"], device="meta") for key, entry in layout.items()}
    num_actions = layout["actor_critic.actor_linear.weight"]["shape"][0]
    agent = methods.get("iris").build_agent(published([]), spec_of(num_actions))
    renamed = iris.from_reference(state)
    ours = {key: value.shape for key, value in agent.state_dict().items()}
    perceptual = {
        f"tokenizer.parts.image.lpips.{key}": value.shape for key, value in lpips.LPIPS().state_dict().items()
    }
    assert {key: value.shape for key, value in renamed.items()} == ours | perceptual
    assert published(layouts.overrides(iris.infer_model(state))) == published([])


def test_published_sizes_follow_the_number_of_actions() -> None:
    """256 + 512 floats an action, and the actor's biases, which the file format pads to 64 bytes."""
    files = load_json("iris", "published_checkpoints")["files"]
    sizes = {entry["num_actions"]: entry["bytes"] for entry in files.values()}
    rest = {size - count * (256 + 512) * 4 - math.ceil(count * 4 / 64) * 64 for count, size in sizes.items()}
    assert len(rest) == 1


@pytest.fixture
def reference_agent() -> tuple[Case, dict[str, Tensor]]:
    return load_case("iris", "reference_agent_expected"), load_tensors("iris", "reference_agent")


@pytest.mark.golden("iris/reference_agent")
def test_reference_agent_is_imported(reference_agent: tuple[Case, dict[str, Tensor]]) -> None:
    case, state = reference_agent
    assert {
        key: [str(value.dtype).removeprefix("torch."), list(value.shape)] for key, value in state.items()
    } == case.json["state_dict"]
    model = iris.infer_model(state, case.config["world_model"]["num_heads"])
    overrides = layouts.overrides(model)
    length = case.config["world_model"]["max_blocks"]
    agent = methods.get("iris").build_agent(
        published([*overrides, f"training.sequence_length={length}"]),
        spec_of(case.config["act_vocab_size"], case["input.frames"].shape[-1]),
    )
    agent.load_state_dict({key: value for key, value in iris.from_reference(state).items() if ".lpips." not in key})
    check_agent(case, agent, z_channels=None)
    with torch.no_grad():
        frames, actions, state_ = case["input.frames"], [], agent.policy.initial_state(1)
        for frame in frames:
            seen = agent.policy_input(agent.encode({"image": frame.unsqueeze(0)}))
            logits, _, state_ = agent.policy(seen, state_)
            actions.append(logits.argmax(dim=-1))
    case.assert_close(torch.cat(actions), "expected.greedy_actions")


@pytest.mark.golden("iris/reference_agent")
def test_perceptual_network_of_a_checkpoint_is_found(
    reference_agent: tuple[Case, dict[str, Tensor]], tmp_path, monkeypatch
) -> None:
    case, state = reference_agent
    monkeypatch.setattr(lpips, "WIDTHS", tuple(case.config["lpips_widths"]))
    save_file(state, tmp_path / "agent.safetensors")
    extract_perceptual(tmp_path / "agent.safetensors", tmp_path / "lpips.safetensors")
    network = lpips.load(tmp_path / "lpips.safetensors")
    part = {key.removeprefix("tokenizer.lpips."): value for key, value in state.items() if ".lpips." in key}
    expected = lpips.from_reference(part)
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())
