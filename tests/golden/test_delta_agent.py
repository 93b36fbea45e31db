"""Whole Delta-IRIS agents: published sizes with formula-generated weights, published layouts and optimisers, and a
checkpoint in the published layout."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.golden import delta_components
from tests.golden.delta_components import floats, recorded
from tests.golden.support import Case, assert_filled, filled, load_case, load_json, load_tensors
from tokenworlds import config, methods
from tokenworlds.agents.delta import DeltaAgent, DeltaContext
from tokenworlds.checkpoints import delta_iris, layout
from tokenworlds.config import RunConfig
from tokenworlds.envs import DiscreteActions, EnvironmentSpec, ImageSpec
from tokenworlds.methods import optimisers
from tokenworlds.world_models.base import StepNoise

TASKS = {"crafter": "crafter/Reward", "atari": "atari/Breakout"}
PER_ACTION = re.compile(r".*(act_emb\.weight|actor_linear\.(weight|bias))")


def published(preset: str, *overrides: str) -> RunConfig:
    return config.load(["method=delta_iris", f"task={TASKS[preset]}", "scale=paper", *overrides])


def build(settings: RunConfig, num_actions: int, size: int = 64) -> DeltaAgent:
    spec = EnvironmentSpec({"image": ImageSpec(size, size)}, DiscreteActions(num_actions))
    agent = methods.get("delta_iris").build_agent(settings, spec)
    assert isinstance(agent, DeltaAgent)
    return agent


# Published sizes


def published_state(preset: str) -> dict[str, Tensor]:
    tensors = load_json("delta_iris", f"reference_state_dict_{preset}")["tensors"]
    return {
        key: torch.empty(entry["shape"], dtype=getattr(torch, entry["dtype"]), device="meta")
        for key, entry in tensors.items()
    }


@pytest.mark.parametrize("preset", TASKS)
def test_published_layout_is_ours_under_other_names(preset: str) -> None:
    state = published_state(preset)
    stated = load_json("delta_iris", f"reference_state_dict_{preset}")
    with torch.device("meta"):
        agent = build(published(preset), stated["num_actions"])
    renamed = delta_iris.from_reference(state)
    assert {key: (value.shape, value.dtype) for key, value in renamed.items()} == {
        key: (value.shape, value.dtype) for key, value in agent.state_dict().items()
    }
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in agent.named_children()}
    expected = stated["parameters"]
    assert counts["tokenizer"] == expected["tokenizer"] and counts["world_model"] == expected["world_model"]
    assert counts["policy"] == expected["actor_critic_online_only"]
    assert counts["policy"] + counts["target"] == expected["actor_critic"]


@pytest.mark.parametrize("preset", TASKS)
def test_shapes_give_the_configuration(preset: str) -> None:
    """All that sets the two presets apart is in the shapes, or follows from the task."""
    inferred = layout.overrides(delta_iris.infer_model(published_state(preset)))
    assert published(preset, *inferred) == published(preset)


@pytest.mark.parametrize("preset", TASKS)
def test_optimisers(preset: str) -> None:
    """Every parameter has the published weight decay."""
    stated = load_json("delta_iris", f"param_groups_{preset}")
    settings = published(preset)
    agent = build(settings, load_json("delta_iris", f"reference_state_dict_{preset}")["num_actions"])
    parts: dict[str, nn.Module] = {
        "tokenizer": agent.tokenizer,
        "world_model": agent.world_model,
        "actor_critic": agent.policy,
    }
    for name, part in parts.items():
        training, expected = getattr(settings.training, name), stated["optimizers"][name]
        optimizer = optimisers.build(part, training)
        assert training.max_grad_norm == stated["max_grad_norm"] and training.gradient_accumulation == 1
        for key, value in expected["defaults"].items():
            found = optimizer.defaults[key]
            assert (list(found) if isinstance(found, tuple) else found) == value, (name, key)
        names = {id(value): key for key, value in part.named_parameters()}
        decays = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        if name == "actor_critic":  # one group of all of them, without the target
            assert decays == dict.fromkeys(names.values(), 0.0)
        else:
            check_decays(name, decays, expected["groups"])


def check_decays(component: str, decays: dict[str, float], groups: list[dict[str, Any]]) -> None:
    expected = {key: group["weight_decay"] for group in groups for key in group["parameters"]}
    found = {key: torch.full((3,), value) for key, value in decays.items()}
    by_their_name = delta_components.published(component, found, list(expected))
    assert {key: value[0].item() for key, value in by_their_name.items()} == {
        f"{component}.{key}": pytest.approx(value) for key, value in expected.items()
    }


def parameter(key: str, shape: list[int], salt: str) -> Tensor:
    """By the fill rule, but for the buffers of the codebook."""
    if key.endswith("num_codebook_updates"):
        return torch.tensor(0)
    return torch.full(shape, 1 / shape[0]) if key.endswith("codewords_freqs") else filled(key, shape, salt)


@pytest.mark.parametrize("name", ["agent_paper_size_crafter", "agent_paper_size_atari"])
@torch.no_grad()
def test_full_size_agent(name: str) -> None:
    case = load_case("delta_iris", name)
    preset, num_actions, salt = (case.config[key] for key in ("preset", "num_actions", "salt"))
    state = {}
    for key, entry in load_json("delta_iris", f"reference_state_dict_{preset}")["tensors"].items():
        shape = list(entry["shape"])
        if PER_ACTION.fullmatch(key):
            shape[0] = num_actions
        if not delta_iris.BUFFERS.fullmatch(key):
            state[key] = parameter(key, shape, salt)
    with torch.device("meta"):
        agent = build(published(preset), num_actions)
    agent.load_state_dict(delta_iris.from_reference(state), assign=True)
    check_full_size(case, agent)


def check_full_size(case: Case, agent: DeltaAgent) -> None:
    tokenizer, world_model, policy = agent.tokenizer, agent.world_model, agent.policy
    frames, actions = floats(case, "input.frames"), case["input.actions"]
    assert_filled(case.array("input.frames")[0], case.config["salt"])
    before, taken, after = frames[0, :-1], actions[0, :-1], frames[0, 1:]
    latents = tokenizer.latents(before, taken, after)
    case.assert_close(tokenizer.join(latents)[:, :8].unsqueeze(0), "expected.z8")
    tokens = agent.tokens(frames, actions[:, :-1])
    case.assert_close(tokens, "expected.tokens")
    reconstruction = tokenizer.reconstruct(before, taken, tokenizer.quantiser.embed(tokens[0]))
    case.assert_close(reconstruction[..., ::4, ::4].unsqueeze(0), "expected.rec_16x16")
    case.assert_close(torch.stack([reconstruction.mean(), reconstruction.std()]), "expected.rec_mean_std")
    last = torch.full_like(tokens[:, :1], 3)
    x = world_model.embed(frames, actions, torch.cat([tokens, last], dim=1))
    case.assert_close(x[..., :8], "expected.sequence_8")
    outputs = world_model.backbone.parallel(x)
    case.assert_close(outputs[..., :8], "expected.output_8")
    logits = delta_components.logits(world_model, outputs)
    case.assert_close(logits["latents"][..., :16], "expected.logits_latents_16")
    case.assert_close(logits["rewards"], "expected.logits_rewards")
    case.assert_close(logits["ends"], "expected.logits_ends")
    chosen, values, _ = policy.unroll(frames, actions, policy.initial_state(1))
    case.assert_close(chosen, "expected.logits_actions")
    case.assert_close(values, "expected.logits_values")


# A checkpoint in the published layout


@pytest.mark.golden("delta_iris/reference_agent")
@torch.no_grad()
def test_reference_agent_is_imported() -> None:
    case, state = load_case("delta_iris", "reference_agent_expected"), load_tensors("delta_iris", "reference_agent")
    assert {key: list(value.shape) for key, value in state.items()} == case.json["state_dict"]
    world, behaviour = case.config["world_model"], case.config["actor_critic"]
    size, blocks = case.config["tokenizer"]["image_size"], world["transformer_config"]["max_blocks"]
    settings = published(
        "crafter",
        *layout.overrides(delta_iris.infer_model(state, world["transformer_config"]["num_heads"])),
        *(f"environment.{split}.size={size}" for split in ("train", "test")),
        *(f"training.{key}={blocks}" for key in ("sequence_length", "tokenizer_sequence_length")),
        f"training.actor_critic.burn_in={behaviour['burn_in_length']}",
        f"training.actor_critic.horizon={behaviour['imagination_horizon']}",
    )
    agent = build(settings, world["num_actions"], size)
    agent.load_state_dict(delta_iris.from_reference(state))
    frames, actions = floats(case, "input.frames"), case["input.actions"]
    case.assert_close(agent.tokens(frames, actions[:, :-1]), "expected.tokens")
    outputs = recorded(agent.world_model.backbone.norm)
    reconstruction = agent.decode(frames[:, 0], actions[:, 0], case["expected.tokens"][:, 0])
    case.assert_close(reconstruction.unsqueeze(1), "expected.reconstruction")
    deltas = agent.tokens(frames, actions[:, :-1])
    imagined = agent.start(DeltaContext(frames, actions[:, :-1], deltas))
    case.assert_close(outputs[-1], "expected.wm_output_sequence")
    noise = StepNoise(torch.zeros(len(frames)), case["input.u"][0], case["input.u"][1:])
    imagined, reward, end = agent.step(imagined, actions[:, -1], noise)
    case.assert_close(reward, "expected.reward")
    case.assert_close(end, "expected.end")
    case.assert_close(agent.observe_imagined(imagined).unsqueeze(1), "expected.next_frame")
    _, drawn, _, _ = agent.world_model.step(
        agent.start(DeltaContext(frames, actions[:, :-1], deltas)), actions[:, -1], noise
    )
    assert drawn is not None
    case.assert_close(drawn.T, "expected.latents")
    policy = agent.policy
    chosen, values, _ = policy.unroll(frames, actions, policy.initial_state(len(frames)))
    case.assert_close(chosen, "expected.logits_actions")
    case.assert_close(values, "expected.logits_values")
    case.assert_close(policy.values.mean(values), "expected.values")
