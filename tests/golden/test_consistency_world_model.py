"""Consistency model of Delta-IRIS against the golden vectors: losses, gradients, imagination."""

import pytest
import torch
from torch import Tensor

from tests import small
from tests.golden import consistency_components, delta_components
from tests.golden.consistency_components import in_world_model
from tests.golden.support import Case, load_case
from tokenworlds.agents.consistency import ConsistencyAgent
from tokenworlds.agents.delta import DeltaContext
from tokenworlds.config import Context
from tokenworlds.world_models.base import StepNoise
from tokenworlds.world_models.consistency import schedules
from tokenworlds.world_models.consistency.world_model import (
    ConsistencyLosses,
    ConsistencyWorldModel,
    Draws,
    Predictions,
)

METHOD = "delta_consistency"
GROUPS = {torch.float32: "expected", torch.float64: "expected64"}
LOSSES = {"observations": "consistency", "prediction": "prediction", "rewards": "rewards", "ends": "ends"}


def deltas_of(frames: Tensor, actions: Tensor) -> Tensor:
    """By the tokenizer of all cases."""
    module = consistency_components.tokenizer(frames.dtype)
    with torch.no_grad():
        deltas = module.encode(frames[:, :-1].flatten(0, 1), actions.flatten(), frames[:, 1:].flatten(0, 1))
    return deltas.unflatten(0, actions.shape)


def losses_of(case: Case, model: ConsistencyWorldModel, dtype: torch.dtype) -> ConsistencyLosses:
    frames, actions = delta_components.floats(case, dtype=dtype), case["input.actions"]
    levels = schedules.grid(case.config["points"], model.generator).to(dtype)
    index, noise = case["input.intervals"], case["input.noise"].to(dtype)
    draws = Draws(levels[index], levels[index + 1], noise, noise)
    deltas, mask = deltas_of(frames, actions[:, :-1]), case["input.mask_padding"].bool()
    return model.loss(frames, actions, deltas, case["input.rewards"].to(dtype), case["input.ends"], mask, draws)


@pytest.mark.parametrize("dtype", GROUPS)
@pytest.mark.parametrize("context", list(Context), ids=lambda context: context.name)
def test_losses_and_gradients(context: Context, dtype: torch.dtype) -> None:
    case, group = load_case(METHOD, "world_model"), GROUPS[dtype]
    model = consistency_components.world_model(dtype, context)
    calls = small.calls_of(model, "_generation_errors")
    losses = losses_of(case, model, dtype)
    prefix = "real_context_" if context is Context.real else ""
    for ours, theirs in LOSSES.items():
        case.assert_close(losses.named()[ours], f"{group}.{prefix}loss_{theirs}")
    scaling = losses.prediction / (losses.measured["prediction_error"] * case.config["weights"]["latents"])
    case.assert_close(scaling, f"{group}.{prefix}lambda")
    (found, y, _, counts), _ = calls[0]
    assert isinstance(found, Predictions)
    case.assert_close(counts.to(torch.uint8), "expected.valid")
    if context is Context.generated:  # the only one of which the vectors hold more than losses
        losses.total.backward()
        first = case.config["num_steps_conditioning"] - 1
        torch.testing.assert_close(y, case[f"{group}.y"][:, first:], rtol=1e-4, atol=1e-5)
        case.assert_close(found.student, f"{group}.student")
        case.assert_close(found.teacher, f"{group}.teacher")
        case.assert_close(found.outputs, f"{group}.logits")
        names = [(key, in_world_model(key)) for key in case.group("grad.")]
        consistency_components.assert_gradients(case, model, names)


@pytest.mark.parametrize("dtype", GROUPS)
def test_imagination(dtype: torch.dtype) -> None:
    case, group = load_case(METHOD, "imagination"), GROUPS[dtype]
    model = consistency_components.world_model(dtype, evaluations=case.config["steps"])
    policies = small.frame_policy(), small.frame_policy()
    agent = ConsistencyAgent(consistency_components.tokenizer(dtype), model, *policies, case.config["burn_in"] + 1)
    frames, actions = delta_components.floats(case, dtype=dtype), case["input.actions"]
    is_real = case["input.mask_padding"][:, :-1, None, None, None]
    state = agent.start(DeltaContext(frames, actions, deltas_of(frames, actions) * is_real))
    uniforms = torch.special.ndtr(case["input.noises"].double()).movedim(2, -1).flatten(1, -2)
    heads = delta_components.recorded(model.head)
    sampled = small.calls_of(model.function, "sample")
    shown: list[tuple[Tensor, ...]] = []
    for step, tokens in enumerate(uniforms):
        noise = StepNoise(case["input.u_reward"][step], case["input.u_end"][step], tokens)
        with torch.no_grad():
            state, rewards, ends = agent.step(state, case["input.imagined_actions"][:, step], noise)
        shown.append(((255 * state.frames).round().to(torch.uint8), rewards.long(), ends))
    pictures, rewards, ends = (torch.stack(values, dim=1) for values in zip(*shown))
    case.assert_close(torch.stack([call.result for call in sampled], dim=1), f"{group}.y")
    case.assert_close(torch.stack(heads, dim=1), f"{group}.logits")
    case.assert_close(rewards, "expected.rewards")
    case.assert_close(ends, "expected.ends")
    case.assert_close(pictures, "expected.frames_u8")
