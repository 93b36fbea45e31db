"""Consistency model of Delta-IRIS against the golden vectors: levels, coefficients, network, sampling, tokenizer."""

import pytest
import torch
from torch import nn

from tests.golden import consistency_components, delta_components
from tests.golden.consistency_components import NETWORK, generator, in_block, in_network, load
from tests.golden.support import Case, load_case
from tokenworlds.ops.convolutions import Upsample
from tokenworlds.world_models.consistency import schedules, unet
from tokenworlds.world_models.consistency.function import ConsistencyFunction

METHOD = "delta_consistency"
GROUPS = {torch.float32: "expected", torch.float64: "expected64"}
both = pytest.mark.parametrize("dtype", GROUPS)


def test_schedules() -> None:
    case = load_case(METHOD, "schedules")
    settings = generator(case.config, level_mean=case.config["lognormal_mean"], level_std=case.config["lognormal_std"])
    found = [schedules.points(*plan) for plan in case["input.plans"].tolist()]
    assert found == case["expected.points"].tolist()
    counts = [int(key.removeprefix("grid_")) for key in case.group("expected64.") if key.startswith("grid_")]
    for count in counts:
        levels = schedules.grid(count, settings)
        case.assert_close(levels, f"expected64.grid_{count}")
        case.assert_close(
            schedules.probabilities(levels, settings.level_mean, settings.level_std), f"expected64.probs_{count}"
        )
        case.assert_close(schedules.probabilities(levels, -0.4, 1.3), f"expected64.probs_b_{count}")
        case.assert_close(1 / (levels.diff() + case.config["weight_floor"]), f"expected64.weights_{count}")
    ladders = [key for key in case.group("expected64.") if "ladder" in key]
    assert len(ladders) >= 4
    for key in ladders:
        chosen = generator(case.config, evaluations=int(key.split("_")[-1]), published_noise=key.startswith("linear"))
        case.assert_close(torch.tensor(schedules.ladder(chosen), dtype=torch.float64), f"expected64.{key}")
    for dtype, group in GROUPS.items():
        a, b = case["input.a"].to(dtype), case["input.b"].to(dtype)
        case.assert_close(schedules.pseudo_huber(a, b), f"{group}.pseudo_huber")


@both
def test_preconditioning(dtype: torch.dtype) -> None:
    case = load_case(METHOD, "preconditioning")
    group, sigma = GROUPS[dtype], case["input.sigma"].to(dtype)
    for prefix, is_published in (("", False), ("published_", True)):
        function = ConsistencyFunction(generator(case.config, published_noise=is_published), 1, 1)
        found = function.coefficients(sigma)
        for name, value in found._asdict().items():
            case.assert_close(value, f"{group}.{prefix}{name}")
    network = function.network
    network.frequencies = case["param.noise_emb.weight"].squeeze(0).to(dtype)
    case.assert_close(network.noise_features(case[f"{group}.c_noise"].to(dtype)), f"{group}.noise_features")


@both
@torch.no_grad()
def test_unet_blocks(dtype: torch.dtype) -> None:
    case = load_case(METHOD, "unet_blocks")
    channels, width = case.config["channels"], case.config["cond_channels"]
    small, res = case["input.small"].shape[1], case["param.res.conv1.weight"]
    modules: dict[str, nn.Module] = {
        "norm": unet.norm(channels),
        "ada": unet.AdaptiveNorm(channels, width),
        "attn": unet.Attention(channels),
        "down": unet.conv3x3(small, small, stride=2),
        "up": Upsample(small),
        "res": unet.Block(res.shape[1], res.shape[0], width, True),
    }
    for name, module in modules.items():
        module.to(dtype)
        group = case.group(f"param.{name}.")
        inner = {"norm": "norm.", "down": "conv."}.get(name, "")
        if name == "attn":
            group = {in_block(f"attn.{key}").removeprefix("attention."): value for key, value in group.items()}
        load(module, {in_block(key.removeprefix(inner)): value for key, value in group.items()})
        given = {"down": "small", "up": "small", "res": "res"}.get(name, "x")
        inputs = [case[f"input.{given}"], *([case["input.cond"]] if name in ("ada", "res") else [])]
        case.assert_close(module(*(value.to(dtype) for value in inputs)), f"{GROUPS[dtype]}.{name}")


@both
def test_network(dtype: torch.dtype) -> None:
    case = load_case(METHOD, "unet")
    network = consistency_components.world_model(dtype).function.network
    noisy, c_noise, context, coefficients = (
        case[f"input.{name}"].to(dtype) for name in ("noisy", "c_noise", "context", "coef")
    )
    output = network(noisy, c_noise, context, case["input.actions"])
    case.assert_close(output, f"{GROUPS[dtype]}.output")
    loss = (output * coefficients).sum()
    case.assert_close(loss, f"{GROUPS[dtype]}.loss")
    keys = [key.removeprefix("grad.") for key in case.tensors if key.startswith("grad.")]
    if keys:  # those of world_model are of the same parameters, and stand in for them in the copy
        loss.backward()
        names = [(key, in_network(key.removeprefix(NETWORK))) for key in keys]
        assert {ours for _, ours in names} == {name for name, _ in network.named_parameters()}
        consistency_components.assert_gradients(case, network, names)


def sampled(case: Case, function: ConsistencyFunction, dtype: torch.dtype) -> list[torch.Tensor]:
    """Results of every evaluation."""
    results: list[torch.Tensor] = []
    handle = function.register_forward_hook(lambda module, given, output: results.append(output))
    noises = case["input.noises"].to(dtype)[: len(function.ladder)]
    final = function.sample(case["input.context"].to(dtype), case["input.actions"], noises)
    handle.remove()
    assert final is results[-1]
    return results


@both
@pytest.mark.parametrize("kind", ["", "published_"])
@torch.no_grad()
def test_denoising_and_sampling(dtype: torch.dtype, kind: str) -> None:
    case = load_case(METHOD, "denoise_sample")
    group, is_published = GROUPS[dtype], kind == "published_"
    steps = case.config["linear_steps" if is_published else "steps"]
    function = consistency_components.world_model(dtype, published_noise=is_published, evaluations=steps).function
    sigma = case["input.sigma"].to(dtype)
    noisy = case["input.noise"].to(dtype) * (1 + sigma[:, None, None, None])
    raw: list[torch.Tensor] = delta_components.recorded(function.network)
    denoised = function(noisy, sigma, case["input.context"].to(dtype), case["input.actions"])
    case.assert_close(denoised, f"{group}.{kind}denoised")
    case.assert_close(raw[0], f"{group}.{kind}raw")
    results = sampled(case, function, dtype)
    assert len(results) == steps
    case.assert_close(results[-1], f"{group}.{kind}sample")
    case.assert_close(torch.stack(results, dim=1), f"{group}.{kind}sample_steps")


@both
@torch.no_grad()
def test_the_linear_ladder(dtype: torch.dtype) -> None:
    """With our coefficients its last evaluation changes nothing."""
    case = load_case(METHOD, "denoise_sample")
    chosen = generator(case.config, published_noise=True, evaluations=case.config["linear_steps"])
    function = consistency_components.world_model(dtype).function
    function.ladder = schedules.ladder(chosen)
    results = sampled(case, function, dtype)
    case.assert_close(results[-1], f"{GROUPS[dtype]}.sample_linear")
    case.assert_close(torch.stack(results, dim=1), f"{GROUPS[dtype]}.sample_linear_steps")
    torch.testing.assert_close(results[-1], results[-2], rtol=0, atol=1e-6)


@both
@torch.no_grad()
def test_tokenizer(dtype: torch.dtype) -> None:
    case = load_case(METHOD, "tokenizer_continuous")
    module, group = consistency_components.tokenizer(dtype), GROUPS[dtype]
    frames, actions = delta_components.floats(case, dtype=dtype), case["input.actions"]
    before, after, taken = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1), actions[:, :-1]
    deltas = module.encode(before, taken.flatten(), after)
    case.assert_close(deltas.unflatten(0, taken.shape), f"{group}.delta")
    decoded = module.reconstruct(before, taken.flatten(), deltas)
    case.assert_close(decoded.unflatten(0, taken.shape), f"{group}.decoded")
    losses = module.loss(frames, actions, case["input.mask_padding"].bool()).named()
    assert losses.keys() == {"l1", "l2", "worst_pixel"}
    for name, key in (("l1", "l1"), ("l2", "l2"), ("worst_pixel", "l2_worst_pixel")):
        case.assert_close(losses[name], f"{group}.reconstruction_loss_{key}")
