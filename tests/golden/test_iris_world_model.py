"""IRIS's world model against the golden vectors: forward, cache, losses, gradients, optimiser steps, in both attention
modes."""

import pytest
import torch
from torch import Tensor, nn

from tests.golden import iris_components
from tests.golden.support import Case, load_case
from tokenworlds.config import ComponentTrainingConfig, Decay
from tokenworlds.methods import optimisers
from tokenworlds.world_models.base import WorldModelLosses
from tokenworlds.world_models.token import TokenWorldModel

IGNORED = -100  # what published labels hold where nothing is predicted
CASES = ["world_model_a", "world_model_b"]
DTYPES = {"float32": "expected", "float64": "expected64"}


def model_of(case: Case, dtype: str = "float32") -> TokenWorldModel:
    return iris_components.world_model(case.config, case.group("param.")).to(getattr(torch, dtype))


def embedded(model: TokenWorldModel, case: Case) -> Tensor:
    """Embeddings of the flat sequence; the interleaved ids of the case must be those of its observation tokens and
    actions."""
    blocks = case["input.tokens"].unflatten(1, (-1, model.layout.block_size))
    assert torch.equal(blocks[..., :-1], case["input.obs_tokens"]) and torch.equal(
        blocks[..., -1], case["input.actions"]
    )
    return model.embed(blocks[..., :-1], blocks[..., -1])


def check_outputs(case: Case, model: TokenWorldModel, outputs: Tensor, group: str) -> None:
    case.assert_close(outputs, f"{group}.output_sequence")
    for name, logits in iris_components.logits(model, outputs).items():
        case.assert_close(logits, f"{group}.logits_{name}")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_parallel_pass(name: str, dtype: str) -> None:
    case = load_case("iris", name)
    model = model_of(case, dtype)
    check_outputs(case, model, model.backbone.parallel(embedded(model, case)), f"{DTYPES[dtype]}.forward")


@pytest.mark.parametrize("name", CASES)
def test_partial_block(name: str) -> None:
    case = load_case("iris", name)
    model = model_of(case)
    length = case["expected.partial.output_sequence"].shape[1]
    check_outputs(case, model, model.backbone.parallel(embedded(model, case)[:, :length]), "expected.partial")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("group", ["kv", "kv_chunk"])
def test_cache(name: str, group: str) -> None:
    """One token at a time, or one frame first."""
    case = load_case("iris", name)
    model = model_of(case)
    x = embedded(model, case)
    first = model.layout.num_tokens if group == "kv_chunk" else 1
    state = model.backbone.init_state(len(x))
    outputs = []
    for start, stop in [(0, first), *((i, i + 1) for i in range(first, x.shape[1]))]:
        out, state = model.backbone.step(state, x[:, start:stop])
        outputs.append(out)
    check_outputs(case, model, torch.cat(outputs, dim=1), f"expected.{group}")


@pytest.mark.parametrize("name", CASES)
def test_labels(name: str) -> None:
    case = load_case("iris", name)
    counted = model_of(case).counted(case["input.mask_padding"].bool())
    labels = torch.where(counted, case["input.obs_tokens"], IGNORED)
    assert (labels[:, 0, 0] == IGNORED).all()  # predicted by nothing
    case.assert_close(labels.flatten(1)[:, 1:].flatten(), "expected.losses.labels_observations")


def losses_of(case: Case, model: TokenWorldModel) -> WorldModelLosses:
    rewards = case["input.rewards"].to(model.embed_action.weight.dtype)
    return model.loss(
        case["input.obs_tokens"], case["input.actions"], rewards, case["input.ends"], case["input.mask_padding"].bool()
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_and_gradients(name: str, dtype: str) -> None:
    case = load_case("iris", name)
    model = model_of(case, dtype)
    losses = losses_of(case, model)
    losses.total.backward()
    group = f"{DTYPES[dtype]}.losses"
    for key, value in (("obs", losses.observations), ("rewards", losses.rewards), ("ends", losses.ends)):
        case.assert_close(value, f"{group}.loss_{key}", dtype)
    case.assert_close(losses.total, f"{group}.total", dtype)
    expected = iris_components.renamed("world_model", case.group("grad." if dtype == "float32" else "grad64."))
    gradients = iris_components.reference_gradients(model, "world_model", "world_model.")
    torch.testing.assert_close(gradients, expected, **case.json["tolerances"][dtype])


@pytest.mark.parametrize("name", CASES)
def test_optimiser_steps(name: str) -> None:
    case = load_case("iris", name)
    model = model_of(case).train()
    limit = case.config["max_grad_norm"]
    optimizer = optimisers.build(model, ComponentTrainingConfig(1, 1, limit, 1e-4, 0.01, Decay.linear, 0, None, 1))
    noisy = {iris_components.our_name("world_model", key) for key in case.json["after_noise_sensitive"]}
    for step in (1, 2, 3):
        optimizer.zero_grad()
        losses_of(case, model).total.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
        case.assert_close(norm, f"expected.opt.grad_norm{step}", "float32")
        optimizer.step()
        if step == 2:
            continue
        ours = {f"world_model.{key}": value.detach() for key, value in model.named_parameters()}
        ours = iris_components.iris.split_attention(ours)
        expected = iris_components.renamed("world_model", case.group(f"after{step}."))
        stated = case.json["tolerances"]["after*"]
        for key, value in expected.items():
            tolerances = stated | {"atol": 2e-4} if key in noisy else stated
            torch.testing.assert_close({(step, key): ours[key]}, {(step, key): value}, **tolerances)


@pytest.mark.parametrize("name", CASES)
def test_optimiser_groups(name: str) -> None:
    case = load_case("iris", name)
    model = model_of(case)
    groups = dict(zip(("decay", "no_decay"), optimisers.parameter_groups(model)))
    for group, names in groups.items():
        expected = iris_components.renamed(
            "world_model", {key: torch.zeros(3, 1) for key in case.json["optimizer_groups"][group]}
        )
        ours = iris_components.iris.split_attention({f"world_model.{key}": torch.zeros(3, 1) for key in names})
        assert ours.keys() == expected.keys()
