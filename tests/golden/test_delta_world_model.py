"""Delta-IRIS's world model against the golden vectors: forward, cache, losses, gradients, optimiser steps, and imagined
steps from frames."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.golden import delta_components
from tests.golden.delta_components import assert_same_pictures, floats, recorded
from tests.golden.iris_components import transformer_config
from tests.golden.support import Case, load_case
from tokenworlds.agents.delta import DeltaAgent, DeltaContext
from tokenworlds.backbones.transformer import TransformerBackbone
from tokenworlds.config import ComponentTrainingConfig, Decay
from tokenworlds.methods import optimisers
from tokenworlds.world_models.base import StepNoise, WorldModelLosses
from tokenworlds.world_models.delta import DeltaWorldModel

CASES = ["world_model_two_hot", "world_model_sign"]
DTYPES = {torch.float32: "expected", torch.float64: "expected64"}
LOSSES = {"observations": "latents", "rewards": "rewards", "ends": "ends"}


def tokens_of(case: Case) -> Tensor:
    """The transitions of the case's frames, by the tokenizer that all cases share."""
    tokenizer = delta_components.tokenizer(load_case("delta_iris", "tokenizer"))
    frames, actions = floats(case), case["input.actions"][:, :-1]
    with torch.no_grad():
        tokens = tokenizer.encode(frames[:, :-1].flatten(0, 1), actions.flatten(), frames[:, 1:].flatten(0, 1))
    return tokens.unflatten(0, actions.shape)


def sequence_of(case: Case, model: DeltaWorldModel) -> Tensor:
    """The embedded sequence; token 0 stands for the tokens of the last block, which nothing follows."""
    dtype = model.embed_action.weight.dtype
    return model.embed(floats(case, dtype=dtype), case["input.actions"], F.pad(tokens_of(case), (0, 0, 0, 1)))


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_parallel_pass(name: str) -> None:
    case = load_case("delta_iris", name)
    model = delta_components.world_model(case)
    case.assert_close(tokens_of(case), "expected.latent_tokens")
    x = sequence_of(case, model)
    case.assert_close(x, "expected.sequence")
    outputs = model.backbone.parallel(x)
    case.assert_close(outputs, "expected.output_sequence")
    for key, logits in delta_components.logits(model, outputs).items():
        case.assert_close(logits, f"expected.logits_{key}")


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_double_precision(name: str) -> None:
    case = load_case("delta_iris", name)
    model = delta_components.world_model(case).double()
    outputs = model.backbone.parallel(sequence_of(case, model))
    case.assert_close(delta_components.logits(model, outputs)["ends"], "expected64.logits_ends")


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_chunks(name: str) -> None:
    """The same sequence in pieces of any length, with the cache."""
    case = load_case("delta_iris", name)
    model = delta_components.world_model(case)
    x, lengths = sequence_of(case, model), case["input.chunks"].tolist()
    state, start = model.backbone.init_state(len(x)), 0
    outputs, logits = [], []
    for piece in x.split(lengths, dim=1):
        out, state = model.backbone.step(state, piece)
        outputs.append(out)
        logits.append(delta_components.logits(model, out, start))
        start += piece.shape[1]
    case.assert_close(torch.cat(outputs, dim=1), "expected.cached_output_sequence")
    for key in ("latents", "rewards", "ends"):
        case.assert_close(torch.cat([some[key] for some in logits], dim=1), f"expected.cached_logits_{key}")
    counts = [[some[key].shape[1] for key in ("latents", "rewards", "ends")] for some in logits]
    assert counts == case["expected.cached_counts"].tolist()


def losses_of(case: Case, model: DeltaWorldModel) -> WorldModelLosses:
    dtype = model.embed_action.weight.dtype
    return model.loss(
        floats(case, dtype=dtype),
        case["input.actions"],
        tokens_of(case),
        case["input.rewards"].to(dtype),
        case["input.ends"],
        case["input.mask_padding"].bool(),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients(name: str, dtype: torch.dtype) -> None:
    case = load_case("delta_iris", name)
    model = delta_components.world_model(case).to(dtype)
    losses = losses_of(case, model)
    losses.total.backward()
    for ours, theirs in LOSSES.items():
        case.assert_close(getattr(losses, ours), f"expected.loss_{theirs}")
        if (key := f"{DTYPES[dtype]}.loss_{theirs}") in case.tensors:
            case.assert_close(getattr(losses, ours), key)
    case.assert_close(losses.total, "expected.loss_total")
    if (key := f"{DTYPES[dtype]}.loss_total") in case.tensors:
        case.assert_close(losses.total, key)
    case.assert_close(losses.measured["delta_accuracy"], "expected.latent_accuracy")
    delta_components.assert_gradients(case, model, "world_model")


def test_optimiser_steps() -> None:
    """In double precision: the optimiser makes full-size steps of rounding noise."""
    case, start = load_case("delta_iris", "world_model_train_steps"), load_case("delta_iris", "world_model_two_hot")
    settings, tolerances = case.config, case.json["tolerances"]["float32"]
    rate, decay, limit = (settings[key] for key in ("lr", "weight_decay", "max_grad_norm"))
    model = delta_components.world_model(start).double()
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    optimizer = optimisers.build(model, ComponentTrainingConfig(1, 1, limit, rate, decay, Decay.linear, 0, None, 1))
    totals, norms = [], []
    for _ in range(settings["steps"]):
        optimizer.zero_grad()
        losses = losses_of(case, model)
        losses.total.backward()
        totals.append(losses.total.detach())
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), limit))
        optimizer.step()
    for group in DTYPES.values():
        case.assert_close(torch.stack(totals), f"{group}.loss_total", "float32")
        case.assert_close(torch.stack(norms), f"{group}.grad_norm", "float32")
    changes = {key: value.detach() - before[key] for key, value in model.named_parameters()}
    keys = [key.removeprefix("param.world_model.") for key in start.tensors if key.startswith("param.")]
    keys = [key for key in keys if not key.endswith((".mask", ".indices"))]
    found = delta_components.published("world_model", changes, keys)
    for key, expected in case.group("expected64.delta.").items():
        allowed = tolerances["atol"] + tolerances["rtol"] * expected.double().abs()
        outside = (found[f"world_model.{key}"] - expected.double()).abs() > allowed
        assert outside.double().mean() <= tolerances["share_of_elements_allowed_outside"], key
    lengths = torch.stack([found[f"world_model.{key}"].norm() for key in case.json["delta_keys"]])
    torch.testing.assert_close(
        lengths, case["expected64.delta_norms"], rtol=tolerances["delta_norms_rtol"], atol=tolerances["atol"]
    )


@torch.no_grad()
def test_full_attention_inside_a_block() -> None:
    case = load_case("delta_iris", "transformer_block_causal")
    width, block, blocks = (case.config[key] for key in ("embed_dim", "tokens_per_block", "max_blocks"))
    backbone = TransformerBackbone(transformer_config(case.config), width, blocks * block, block).eval()
    delta_components.load(backbone, "world_model.transformer", case.group("param.transformer."))
    case.assert_close(backbone.parallel(case["input.sequence"]), "expected.output_sequence")


# Imagination


IMAGINATION = ["imagination_two_hot", "imagination_sign_flush"]


def agent_of(case: Case) -> DeltaAgent:
    """With any policy: it has no part in these cases."""
    kind = "two_hot" if case.config["two_hot_rews"] else "sign"
    parts = ("tokenizer", f"world_model_{kind}", "actor_critic_two_hot")
    return delta_components.agent(*(load_case("delta_iris", name) for name in parts))


def noise_of(case: Case, step: int) -> StepNoise:
    """Where rewards are not drawn, no uniforms are prescribed for them."""
    ends = case["input.u_end"][step]
    rewards = case["input.u_reward"][step] if "input.u_reward" in case.tensors else torch.zeros_like(ends)
    return StepNoise(rewards, ends, case["input.u_latent"][step])


@pytest.mark.parametrize("name", IMAGINATION)
@torch.no_grad()
def test_imagination(name: str) -> None:
    """Step by step, over the point where the memory is full and all but the current frame is dropped. Every step starts
    from the expected frames, so that one tie in rounding is no other future."""
    case = load_case("delta_iris", name)
    agent = agent_of(case)
    model = agent.world_model
    outputs, decoded = recorded(model.backbone.norm), recorded(agent.tokenizer.decoder)
    frames, actions = floats(case), case["input.actions"][:, :-1]
    state = agent.start(DeltaContext(frames, actions, agent.tokens(frames, actions)))
    case.assert_close(outputs[-1], "expected.burn_in_output_sequence")
    logits = {key: recorded(getattr(model, f"head_{key}")) for key in ("delta", "reward", "end")}
    last, rewards, ends, filled = [], [], [], [state.length]
    for step, expected in enumerate(floats(case, "expected.frames_u8").unbind(1)):
        decoded.clear()
        state, reward, end = agent.step(state, case["input.imagined_actions"][:, step], noise_of(case, step))
        assert_same_pictures(case, agent.observe_imagined(state), expected, torch.cat(decoded))
        state = replace(state, frames=expected)
        last.append(outputs[-1][:, -1])
        rewards.append(reward)
        ends.append(end)
        filled.append(state.length)
    case.assert_close(torch.stack(logits["delta"], dim=1), "expected.logits_latents")
    case.assert_close(torch.stack(logits["reward"], dim=1), "expected.logits_rewards")
    case.assert_close(torch.stack(logits["end"], dim=1), "expected.logits_ends")
    case.assert_close(torch.stack(last, dim=1), "expected.last_output_of_step")
    case.assert_close(torch.stack(rewards, dim=1), "expected.rewards")
    case.assert_close(torch.stack(ends, dim=1), "expected.ends")
    assert filled[1:] == case["expected.cache_size_after_step"].tolist()
    assert [after < before for before, after in pairwise(filled)] == case[
        "expected.flushed_before_step"
    ].bool().tolist()
